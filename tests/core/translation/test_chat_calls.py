from proxy.core.translation.chat_calls import text_signature, written_calls
from proxy.core.translation.conversation import Text, Thinking, ToolCall
from proxy.core.translation.signatures import Place, marked

CALL = ToolCall("c", "f", "{}")
PLAIN = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_calls_alone() -> None:
    assert list(written_calls([Text("a"), CALL])) == [PLAIN]


def test_a_signature_is_of_the_call_it_stands_before() -> None:
    signed = Thinking("hm", marked(Place.CALL, "s"))
    found = list(written_calls([signed, CALL, CALL]))
    assert found == [PLAIN | {"extra_content": {"google": {"thought_signature": "s"}}}, PLAIN]


def test_other_signatures_are_of_no_call() -> None:
    for signature in (marked(Place.TEXT, "s"), "ErUB==", None):
        assert list(written_calls([Thinking("", signature), CALL])) == [PLAIN]


def test_the_last_signature_of_a_text_is_the_messages() -> None:
    one, two = Thinking("", marked(Place.TEXT, "1")), Thinking("", marked(Place.TEXT, "2"))
    assert text_signature([Text("a"), one, two, Thinking("", marked(Place.CALL, "3"))]) == "2"
    assert text_signature([Text("a"), Thinking("x", "ErUB==")]) is None
