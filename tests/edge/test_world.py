"""What every request of a worker shares."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxy.edge.open_call import OpenCall
from proxy.edge.world import Bounds
from tests.edge.harness import PEPPER, Relay, channel


def test_bounds_cannot_be_changed_in_place() -> None:
    bounds = Bounds()
    with pytest.raises(FrozenInstanceError):
        bounds.slice_tokens = 1  # type: ignore[misc] # that is the point
    assert replace(bounds, slice_tokens=1).slice_tokens == 1


def test_an_origin_is_read_once_per_version_of_a_channel(tmp_path: Path) -> None:
    with Relay(tmp_path, channel("http://127.0.0.1:9/v1")) as relay:
        world = relay.world
        (one,) = world.catalog.channels.values()
        origin, prefix = world.origin(one)
        assert (origin.host, origin.port, prefix) == ("127.0.0.1", 9, "/v1")
        assert world.origin(one)[0] is origin
        moved = replace(one, base_url="https://x.test/other/")
        origin, prefix = world.origin(moved)
        assert (origin.host, origin.tls, prefix) == ("x.test", True, "/other")


def test_the_catalog_is_the_newest_and_the_pepper_is_not_shown(tmp_path: Path) -> None:
    with Relay(tmp_path) as relay:
        assert relay.world.catalog is relay.keeper.catalog
        assert repr(PEPPER) not in repr(relay.world)


@pytest.mark.parametrize(
    ("done", "error", "durable"),
    [(False, None, False), (True, OSError("full"), False), (True, None, True)],
)
def test_only_a_commit_that_has_happened_is_known_for_good(
    done: bool, error: BaseException | None, durable: bool
) -> None:
    commit: Any = SimpleNamespace(done=lambda: done, exception=lambda: error)
    admission, receipt = SimpleNamespace(committed=commit), SimpleNamespace(committed=commit)
    world = SimpleNamespace(durable=None, metrics=SimpleNamespace(commits_at_once=0))
    call: Any = SimpleNamespace(world=world, admission=admission, receipt=receipt)
    call._is_durable = lambda asked: OpenCall._is_durable(call, asked)
    for times in (1, 2):
        assert OpenCall.is_reserved(call) is durable
        assert OpenCall.is_committed(call) is durable
        assert (world.durable is commit) is durable
        assert world.metrics.commits_at_once == (times if durable else 0)
        if durable:
            commit.done = commit.exception = None  # nobody asks any more
