import pytest

from proxy.edge.console import key_form
from proxy.edge.console.languages import Translator
from proxy.storage.keys import KeyRow

NOW = 1_800_000_000.0  # 2027-01-15
SAY = Translator("en", {})
GOOD = {"name": "laptop", "group": "default", "budget_period": "weekly", "expires": "never"}
ROW = KeyRow(
    7, "ann", "laptop", "default", "sk-abc…wxyz", True, NOW + 90_000, 12_500_000_000, "weekly", 0,
    NOW, "weekly", 0, 60, None, None, None, ("m", "n"), ("10.0.0.0/8",), None, None, None, None,
)  # fmt: skip


def test_empty_fields_are_no_limits() -> None:
    form, arguments = key_form.read(GOOD, SAY, NOW, [])
    assert not form.errors
    assert arguments == {
        "name": "laptop", "group": "default", "budget": None, "budget_period": "weekly",
        "expires": None, "requests_per_minute": None, "tokens_per_minute": None,
        "concurrency": None, "cache_seconds": None, "models": None, "networks": None,
    }  # fmt: skip


def test_fields_are_read_as_people_write_them() -> None:
    sent = {
        "name": " laptop ", "budget": "$1,200.50", "expires": "day", "expires_on": "2027-01-15",
        "tokens_per_minute": "10_000", "concurrency": "1,000", "models": "m, n\r\nm",
        "networks": "10.0.0.1\n\n2001:db8::/32 ",
    }  # fmt: skip
    form, arguments = key_form.read({**GOOD, **sent}, SAY, NOW, ["m", "n"])
    assert not form.errors
    assert (arguments["name"], arguments["budget"]) == ("laptop", "1200.50")
    assert arguments["expires"] == "2027-01-16T00:00:00Z", "good until the day is over"
    assert (arguments["tokens_per_minute"], arguments["concurrency"]) == (10_000, 1_000)
    assert arguments["models"] == ["m", "n"]
    assert arguments["networks"] == ["10.0.0.1", "2001:db8::/32"]
    assert key_form.read({**GOOD, "expires": "90d"}, SAY, NOW, [])[1]["expires"] == "90d"


@pytest.mark.parametrize(
    ("sent", "field", "word"),
    [
        ({"name": " "}, "name", "name"),
        ({"budget": "ten"}, "budget", "12.50"),
        ({"budget": "-1"}, "budget", "12.50"),
        ({"expires": "day"}, "expires_on", "last day"),
        ({"expires": "day", "expires_on": "9999-12-31"}, "expires_on", "last day"),
        ({"expires": "day", "expires_on": "2027-01-14"}, "expires_on", "over"),
        ({"requests_per_minute": "0"}, "requests_per_minute", "above 0"),
        ({"concurrency": "1.5"}, "concurrency", "above 0"),
        ({"cache_seconds": "9" * 13}, "cache_seconds", "above 0"),
        ({"models": "gpt-4o-latest"}, "models", "Did you mean gpt-4o?"),
        ({"models": "zzz"}, "models", "no model zzz."),
        ({"networks": "10.0.0.0/33"}, "networks", "10.0.0.0/33 is no network"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(sent: dict[str, str], field: str, word: str) -> None:
    form, _ = key_form.read({**GOOD, **sent}, SAY, NOW, ["gpt-4o"])
    assert form.errors.keys() == {field}
    assert word in form.errors[field]
    assert form.values[next(iter(sent))] == next(iter(sent.values())).strip()


def test_what_is_sent_may_be_anything() -> None:
    form, arguments = key_form.read({"name": b"x", "budget_period": "x"}, SAY, NOW, [])
    assert form.errors.keys() == {"name"}
    assert arguments["budget_period"] == "total"
    long, _ = key_form.read({**GOOD, "models": "m " * 99_999}, SAY, NOW, ["m"])
    assert len(long.values["models"]) == key_form.FIELD_CHARS_MAX


def test_only_what_was_changed_is_asked_for() -> None:
    before = key_form.of_key(ROW)
    assert (before.values["budget"], before.values["models"]) == ("12.50", "m\nn")
    assert (before.values["expires"], before.values["expires_on"]) == ("day", "2027-01-16")
    form, arguments = key_form.read(before.values, SAY, NOW, ["m", "n"])
    assert not form.errors
    assert key_form.changed(arguments, form, before) == {}
    form, arguments = key_form.read({**before.values, "expires": "never"}, SAY, NOW, ["m", "n"])
    assert key_form.changed(arguments, form, before) == {"expires": None}
    sent = {**before.values, "models": "", "expires_on": "2027-02-01"}
    form, arguments = key_form.read(sent, SAY, NOW, [])
    assert key_form.changed(arguments, form, before) == {
        "expires": "2027-02-02T00:00:00Z", "models": None,
    }  # fmt: skip


def test_an_expiry_that_no_calendar_tells_shows_the_last_day() -> None:
    assert key_form.of_key(ROW._replace(expires_at=8e12)).values["expires_on"] == "9999-12-31"


def test_a_new_key_has_what_suits_most() -> None:
    form = key_form.empty("key-1", "default")
    assert (form.values["name"], form.values["expires"]) == ("key-1", "never")
    assert form.values.keys() == {*key_form.FIELDS}


def test_what_the_keeper_refuses_stands_at_its_field_or_above_all() -> None:
    form = key_form.empty("key-1", "default")
    form.refuse("taken", "another", {"name": "taken"})
    assert (form.errors, form.message) == ({"name": "taken"}, "")
    form.refuse("too many", "remove one", {})
    assert (form.message, form.remedy) == ("too many", "remove one")
