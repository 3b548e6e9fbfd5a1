"""Every way a key arrives, right or wrong, ends as one principal or one clear error."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest

from proxy.core.catalog import Catalog, build_catalog
from proxy.core.entities import Group, Key, Plan, User
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.urls import dialect_of
from proxy.edge import auth
from proxy.storage.secrets import KEY_RANDOM_BYTES, key_digest, key_well_formed, new_key
from tests import corpora

PEPPER = b"pepper for tests, of 32 bytes ok"
NOW = 1_000.0
KEYS = {
    name: new_key(bytes([number + 1]) * KEY_RANDOM_BYTES)
    for number, name in enumerate(corpora.PLACEHOLDERS)
}
PEER = "192.0.2.7"


class At(NamedTuple):
    """A caller somewhere."""

    peer_address: str | None


class Sent(list[tuple[str, str]]):
    """Headers in wire order, names repeated or not."""

    def items(self) -> Iterable[tuple[str, str]]:
        return self


def row(name: str) -> Key:
    return Key(
        id=corpora.PLACEHOLDERS.index(name),
        user_id=1,
        digest=key_digest(PEPPER, KEYS[name]),
        name=name,
        group="default",
        prefix=KEYS[name][:7],
        last4=KEYS[name][-4:],
    )


ROWS = (
    row("key"),
    row("other"),
    replace(row("disabled"), enabled=False),
    replace(row("suspended"), user_id=2),
    replace(row("expired"), expires_at=NOW),
    replace(row("fresh"), expires_at=NOW + 0.001),
    replace(row("inside"), networks=("192.0.2.0/24", "2001:db8::/32")),
    replace(row("outside"), networks=("198.51.100.0/24",)),
)


def catalog_of(rows: Sequence[Key] = ROWS) -> Catalog:
    return build_catalog(
        1,
        users=[User(1, "ann", "plan"), User(2, "bob", "plan", enabled=False)],
        plans=[Plan("plan")],
        groups=[Group("default")],
        keys=rows,
    )


CATALOG = catalog_of()


def caller(*headers: tuple[str, str], catalog: Catalog | None = CATALOG, peer: str = PEER) -> Key:
    return auth.authenticate(Sent(headers), catalog, PEPPER, NOW, At(peer))


@pytest.mark.parametrize("case", corpora.auth(), ids=lambda case: case.name)
def test_every_form_of_credential(case: corpora.AuthCase) -> None:
    headers = case.headers_with(KEYS)
    assert dialect_of(case.path, anthropic_version=False) is case.dialect
    if case.status == 200:
        assert caller(*headers, peer=case.peer).name == case.principal
        return
    with pytest.raises(RelayError) as caught:
        caller(*headers, peer=case.peer)
    error = caught.value
    assert (error.status, error.code.code) == (case.status, case.code)
    # A message may be logged or shown: it repeats nothing of what was sent.
    assert not any(key[3:20] in error.message for key in KEYS.values())
    assert len(error.message) < 200


def test_corpus_is_large_and_its_names_unique() -> None:
    names = [case.name for case in corpora.auth()]
    assert len(names) >= 200
    assert len(set(names)) == len(names)
    assert len({case.headers for case in corpora.auth()}) >= 150
    assert set(KEYS) == set(corpora.PLACEHOLDERS)
    assert all(key_well_formed(key) for key in KEYS.values())


def test_without_a_snapshot_nobody_is_anybody() -> None:
    with pytest.raises(RelayError) as caught:
        caller(("Authorization", f"Bearer {KEYS['key']}"), catalog=None)
    assert caught.value.code is ErrorCode.SERVICE_UNAVAILABLE
    assert caught.value.retry_after == 1.0


def test_a_key_whose_user_is_missing_is_our_fault() -> None:
    catalog = replace(CATALOG, users={})
    with pytest.raises(RelayError) as caught:
        caller(("x-api-key", KEYS["key"]), catalog=catalog)
    assert caught.value.code is ErrorCode.SERVICE_UNAVAILABLE


def test_only_a_key_that_counts_at_any_time_from_everywhere_is_remembered() -> None:
    catalog = catalog_of()
    for one in ROWS:
        with contextlib.suppress(RelayError):
            caller(("x-api-key", KEYS[one.name]), catalog=catalog)
    plain = [row("key"), row("other")]
    assert catalog.unbound == {one.digest: one for one in plain}


def test_unreadable_networks_are_our_fault() -> None:
    catalog = catalog_of([replace(row("key"), networks=("192.0.2.0/33",))])
    with pytest.raises(RelayError) as caught:
        caller(("x-api-key", KEYS["key"]), catalog=catalog)
    assert caught.value.code is ErrorCode.SERVICE_UNAVAILABLE


def test_an_unknown_peer_is_outside_every_network() -> None:
    with pytest.raises(RelayError) as caught:
        auth.authenticate(Sent([("x-api-key", KEYS["inside"])]), CATALOG, PEPPER, NOW, At(None))
    assert caught.value.code is ErrorCode.ADDRESS_NOT_ALLOWED


def test_a_plain_dict_of_headers_is_enough() -> None:
    headers = {"authorization": f"Bearer {KEYS['key']}"}
    assert auth.authenticate(headers, CATALOG, PEPPER, NOW, At(PEER)).name == "key"


def test_another_pepper_knows_nobody() -> None:
    with pytest.raises(RelayError, match="not known here"):
        auth.authenticate({"x-api-key": KEYS["key"]}, CATALOG, b"another", NOW, At(PEER))


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("", "No API key was sent"),
        ("Basic dXNlcjpwYXNz", "Basic authentication is not supported"),
        ("Bearer $KEY", "not filled in"),
        ("Bearer sk-...", "not filled in"),
        ("Bearer sk-proj-x", "This is not a key of this service"),
        ("Bearer x", "start with sk-"),
    ],
)
def test_a_refusal_says_what_to_do(sent: str, words: str) -> None:
    with pytest.raises(RelayError, match=words) as caught:
        caller(("Authorization", sent))
    assert caught.value.message.endswith("`x-goog-api-key: sk-...`.")


def test_credential_is_bare_or_none() -> None:
    assert auth.credential({}) is None
    assert auth.credential({"Authorization": "Bearer 'x'"}) == "x"
    assert auth.credential({"Authorization": "Bearer one", "X-Api-Key": "two"}) == "one"
    longest = "k" * (auth.CREDENTIAL_CHARS_MAX + 99)
    assert auth.credential({"x-api-key": longest}) == longest[: auth.CREDENTIAL_CHARS_MAX + 1]


def test_googles_callers_may_have_their_key_in_the_query() -> None:
    key = KEYS["key"]
    assert auth.credential(auth.QueryKey(Sent([]), key)) == key
    assert auth.credential(auth.QueryKey(Sent([("x-goog-api-key", key)]), key)) == key
    with pytest.raises(RelayError) as caught:
        auth.credential(auth.QueryKey(Sent([("x-api-key", KEYS["other"])]), key))
    assert caught.value.code is ErrorCode.INVALID_API_KEY
    assert key not in caught.value.message
