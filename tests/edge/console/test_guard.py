import pytest

from proxy.edge.console import guard
from proxy.edge.console.surroundings import Options


def test_only_our_own_files_and_the_relay_may_be_reached() -> None:
    said = guard.headers(Options(public_url="https://api.example.com/v1"))
    policy = said["content-security-policy"]
    assert "connect-src 'self' https://api.example.com;" in policy
    assert "unsafe" not in policy
    assert "strict-transport-security" not in said


def test_tls_is_insisted_on_where_browsers_have_it() -> None:
    said = guard.headers(Options(console_url="https://console.example.com"))
    assert said["strict-transport-security"]


@pytest.mark.parametrize("given", [None, "", "x", 1, b"y", "é" * 43])
def test_a_token_is_the_readers_or_none(given: object) -> None:
    wanted = guard.token_for(b"s" * 32, "ann")
    assert guard.token_is(wanted, wanted)
    assert not guard.token_is(given, wanted)
    assert guard.token_for(b"s" * 32, "bob") != wanted
    assert guard.token_for(b"t" * 32, "ann") != wanted
