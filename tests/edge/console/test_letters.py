import pytest

from proxy.edge.console import letters
from proxy.edge.console.languages import load
from proxy.edge.console.mail import Letter

CONSOLE = "https://console.example.com"
TO = "ann@example.com"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_letter_leads_to_the_console_in_its_readers_language(language: str) -> None:
    texts = load()[language]
    made: list[Letter] = [
        letters.confirm_address(texts, TO, CONSOLE, "canary"),
        letters.already_registered(texts, TO, CONSOLE),
        letters.set_password(texts, TO, CONSOLE, "canary"),
        letters.password_changed(texts, TO, CONSOLE),
        letters.invitation(texts, TO, CONSOLE, "/invitation?token=canary", None),
        letters.low_balance(texts, TO, CONSOLE, "w", 5 * 10**9, 7 * 10**9),
        letters.plan_ended(texts, TO, CONSOLE, "w", "pro"),
        letters.invitation(texts, TO, CONSOLE, "/invitation?token=canary", "<b>{x}"),
    ]
    for letter in made:
        assert letter.to == TO
        assert f"{CONSOLE}/" in letter.text
        assert letter.text.count("://") == letter.text.count(CONSOLE)
        assert letter.text.isascii() == letter.subject.isascii() == (language == "en")
        assert "canary" not in repr(letter)
    assert "<b>{x}" in made[-1].text
