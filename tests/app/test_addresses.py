from proxy.app.addresses import Bound, shown_address
from proxy.app.settings import Settings
from proxy.app.sockets import Listeners, bind


def test_addresses_are_shown_as_they_can_be_called() -> None:
    assert shown_address("0.0.0.0", 1) == "127.0.0.1:1"
    assert shown_address("::", 2) == "[::1]:2"
    assert shown_address("10.0.0.1", 3) == "10.0.0.1:3"


def test_what_the_settings_leave_open_follows_from_what_is_bound() -> None:
    listeners = Listeners(clients=bind("127.0.0.1:0", 2), console=bind("127.0.0.1:0", 1))
    try:
        bound = Bound.of(listeners)
        found = bound.completing(Settings())
        clients, console = (
            each[0].getsockname()[1] for each in (listeners.clients, listeners.console)
        )
        assert found.public_url == f"http://127.0.0.1:{clients}"
        assert found.console_url == f"http://127.0.0.1:{console}"
        said = Settings(public_url="https://a.example/x", console_url="https://b.example")
        assert bound.completing(said) == said
    finally:
        listeners.close()


def test_without_a_console_there_is_no_url_of_it() -> None:
    listeners = Listeners(clients=bind("127.0.0.1:0", 1))
    try:
        assert Bound.of(listeners).completing(Settings()).console_url == ""
        assert Bound.of(Listeners()) == Bound("")
    finally:
        listeners.close()
