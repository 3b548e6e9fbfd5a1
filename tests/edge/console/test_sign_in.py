from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from proxy.core.attempts import MAILS
from proxy.edge.console import sign_in
from proxy.edge.console.hashing import BusyError
from proxy.edge.console.visit import Visit
from proxy.storage.reports.accounts import Credentials
from tests.edge.console.people import ANN, PASSWORD, Place, in_place


def a_visit(place: Place, address: str = "192.0.2.1") -> Visit:
    class Request:
        remote = address
        headers: Mapping[str, str] = MappingProxyType({})

    return Visit(place.world.surroundings, Request())  # type: ignore[arg-type]  # what is read of it


def test_what_was_looked_at_says_whose_it_is(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        await place.registered()
        visit = a_visit(place)
        found = await sign_in.look(visit, f" {ANN.upper()} ", PASSWORD)
        assert found.account is not None
        assert (found.account.email, found.stale, found.wait) == (ANN, False, 0)
        for email in ("", "x" * 100_000, "nobody@example.com"):
            assert (await sign_in.look(visit, email, PASSWORD)).account is None

    in_place(tmp_path, test)


def test_a_hash_is_not_made_anew_at_the_cost_of_who_signs_in(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        hasher = place.world.surroundings.accounts.hasher

        async def busy(password: str) -> str:
            raise BusyError

        hasher.hash = busy  # type: ignore[method-assign]  # what it does with too much to do
        account = Credentials(1, ANN, "hash", True, None, None)
        await sign_in.make_hash_anew(a_visit(place), account, PASSWORD)

    in_place(tmp_path, test)


def test_what_costs_others_something_is_counted_by_network(tmp_path: Path) -> None:
    async def test(place: Place) -> None:
        here, there = a_visit(place), a_visit(place, "2001:db8::1")
        waits = [sign_in.may_ask_for_mail(here) for _ in range(MAILS.free + 2)]
        assert waits[:-1] == [0] * (MAILS.free + 1)
        assert 1 < waits[-1] <= MAILS.first_seconds + 1
        assert sign_in.may_ask_for_mail(there) == 0

    in_place(tmp_path, test)
