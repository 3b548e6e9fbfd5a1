import pytest

from proxy.core.actions.refusals import MOVED
from proxy.core.sentences import Sentence
from proxy.edge.console.faults import Fault, fault_of
from proxy.edge.console.keeper_line import Refused
from proxy.edge.console.languages import load

FIELDS = {"base_url", "name", "costs", "input", "tiers", "multiplier"}
CASES = [
    ("channel 'a: b': base_url must be an http:// URL", "", "base_url", "Must be an http:// URL"),
    ("channel 'c'", "name must be text", "name", "Must be text"),
    ("channel 'c' costs 'm': input is not a price: x", "", "costs", "input is not a price: x"),
    ("model 'm' price: input is not a price: x", "", "input", "Is not a price: x"),
    ("model 'm' price tiers 1: over must be above", "", "tiers", "over must be above"),
    ("group 'g': multiplier is not a ratio: x", "", "multiplier", "Is not a ratio: x"),
]


@pytest.mark.parametrize(("message", "remedy", "field", "text"), CASES)
def test_a_refusal_goes_to_its_field(message: str, remedy: str, field: str, text: str) -> None:
    found = fault_of(Refused(message, remedy), FIELDS)
    assert ({*found.fields}, found.moved) == ({field}, False)
    assert found.fields[field].lower() == text.lower()


@pytest.mark.parametrize(
    ("message", "remedy", "moved"),
    [
        ("there is a channel 'x' already", "name another", False),
        ("channel 'x': unknown key 'colour'", "remove or correct it", False),
        (f"channel 'x' {MOVED}", "check what it is now, then repeat the edit", True),
    ],
)
def test_any_other_is_about_the_whole_form(message: str, remedy: str, *, moved: bool) -> None:
    assert fault_of(Refused(message, remedy), FIELDS) == Fault({"": message}, remedy, moved)


def test_a_field_is_told_in_the_language_of_the_reader() -> None:
    where = Sentence("{kind} {name!r}", kind=Sentence("channel"), name="c")
    said = Sentence(
        "{where}: {name} {what}", where=where, name="base_url", what=Sentence("must be text")
    )
    refused = Refused(said, Sentence("remove it there first")).said_by(load()["zh"])
    assert fault_of(refused, FIELDS) == Fault({"base_url": "必须是文本: 请先在那里移除"}, "", False)
    assert fault_of(refused, {"other"}).fields == {"": "渠道 'c'：base_url 必须是文本"}
