"""What every request of a worker shares."""

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

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
