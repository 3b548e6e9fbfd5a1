import pytest

from proxy.app.settings import SettingsError, parse
from proxy.app.settings_console import ConsoleSettings


@pytest.mark.parametrize(
    ("name", "text", "kept"),
    [
        ("console_listen", "", ""),
        ("console_listen", "[::1]:9", "[::1]:9"),
        ("console_url", "", ""),
        ("console_url", "https://console.example.com/", "https://console.example.com"),
        ("console_url", "http://[::1]:8082", "http://[::1]:8082"),
        ("public_url", "", ""),
        ("public_url", "https://relay.example.com/llm/", "https://relay.example.com/llm"),
    ],
)
def test_an_address_may_be_left_out_and_a_url_has_no_slash_at_its_end(
    name: str, text: str, kept: str
) -> None:
    assert getattr(parse(f"{name} = '{text}'", {}), name) == kept


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("console_listen", "8082", "is not host:port"),
        ("console_url", "console.example.com", "is not https://host"),
        ("console_url", "ftp://console.example.com", "is not https://host"),
        ("console_url", "https://", "is not https://host"),
        ("console_url", "https://a.example/console", "has a path"),
        ("console_url", "https://me@a.example", "has more than host, port and path"),
        ("public_url", "https://a.example/?key=1", "has more than"),
        ("public_url", "https://a.example/#v1", "has more than"),
        ("public_url", "https://a.example:port", "is no URL"),
        ("public_url", "https://münchen.example", "has more than"),
    ],
)
def test_what_browsers_could_not_use_is_refused(name: str, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse(f"{name} = '{text}'", {})


def test_the_console_is_on_loopback_unless_told_otherwise() -> None:
    assert ConsoleSettings().console_listen == "127.0.0.1:8082"
