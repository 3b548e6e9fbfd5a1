import msgspec
import pytest
from msgspec import Raw

from proxy.core.translation.conversation import Failed, Finish, ToolCall
from proxy.core.translation.gemini_parts import (
    BROKEN,
    FINISHES,
    Candidate,
    FunctionCall,
    Part,
    broken,
    call_of,
    failure,
    first_of,
    not_carried,
    read_response,
)


def test_names_are_in_camel_case() -> None:
    part = b'{"text":"a","thought":true,"thoughtSignature":"s","functionCall":{"name":"f"}}'
    found = read_response(
        b'{"candidates":[{"content":{"role":"model","parts":[%s]},"finishReason":"STOP"}],'
        b'"responseId":"r","modelVersion":"m","usageMetadata":{},"later":1}' % part
    )
    candidate = first_of(found)
    assert candidate is not None
    assert candidate.finish_reason == "STOP"
    assert candidate.content is not None
    assert candidate.content.parts == [
        Part("a", thought=True, thought_signature="s", function_call=FunctionCall("f"))
    ]
    assert (found.response_id, found.model_version) == ("r", "m")
    with pytest.raises(msgspec.DecodeError):
        read_response(b"[]")


def test_the_first_candidate_is_read_wherever_it_stands() -> None:
    body = b'{"candidates":[{"index":1,"finishReason":"B"},{"finishReason":"A"}]}'
    candidate = first_of(read_response(body))
    assert candidate is not None
    assert candidate.finish_reason == "A"
    assert first_of(read_response(b'{"candidates":[{"index":1}]}')) is None
    assert first_of(read_response(b"{}")) is None


def test_calls_keep_their_id_and_arguments() -> None:
    call = FunctionCall("f", Raw(b'{ "a": 1 }'), "fc-1")
    assert call_of(call, "r", 0) == ToolCall("fc-1", "f", '{ "a": 1 }')


@pytest.mark.parametrize("arguments", [b"", b"null", b"{}"])
def test_calls_without_arguments_have_none(arguments: bytes) -> None:
    assert call_of(FunctionCall("f", Raw(arguments), "x"), "r", 0).arguments == "{}"


def test_calls_without_an_id_get_one_that_is_always_the_same() -> None:
    call = FunctionCall("f", Raw(b'{"a":1}'))
    first = call_of(call, "r", 0)
    assert first.id.startswith("call_")
    assert first == call_of(call, "r", 0)
    others = {
        call_of(call, "r", 1).id,
        call_of(call, "q", 0).id,
        call_of(FunctionCall("g", Raw(b'{"a":1}')), "r", 0).id,
        call_of(FunctionCall("f", Raw(b'{"a":2}')), "r", 0).id,
    }
    assert len(others | {first.id}) == 5


@pytest.mark.parametrize("reason", BROKEN)
def test_reasons_that_are_failures(reason: str) -> None:
    found = broken(Candidate(finish_reason=reason, finish_message="Details."))
    assert found is not None
    assert reason in found.message
    assert found.message.endswith(" Details.")
    assert reason not in FINISHES


def test_other_reasons_are_none() -> None:
    assert broken(Candidate(finish_reason="STOP")) is None
    assert broken(Candidate()) is None
    short = broken(Candidate(finish_reason="NO_IMAGE"))
    assert short is not None
    assert short.message.endswith("(NO_IMAGE).")


def test_every_block_is_a_refusal() -> None:
    answers = {"STOP": Finish.STOP, "MAX_TOKENS": Finish.LENGTH, "CONTINUATION": Finish.LENGTH}
    assert {reason: FINISHES[reason] for reason in answers} == answers
    others = {finish for reason, finish in FINISHES.items() if reason not in answers}
    assert others == {Finish.REFUSED}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"inlineData":{"mimeType":"image/png","data":"AA=="}}', "image/png"),
        (b'{"fileData":{"fileUri":"u"}}', "unknown type"),
    ],
)
def test_files_in_an_answer_are_carried_by_nobody(body: bytes, kind: str) -> None:
    failed = not_carried(msgspec.json.decode(body, type=Part))
    assert failed is not None
    assert kind in failed.message
    assert "/v1beta" in failed.message
    assert not_carried(Part("a")) is None


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            {"code": 503, "message": "busy", "status": "UNAVAILABLE"},
            Failed("overloaded_error", "busy"),
        ),
        ({"code": 500, "message": "oh"}, Failed("api_error", "oh")),
        (
            {"status": "RESOURCE_EXHAUSTED"},
            Failed("rate_limit_error", "The provider reported an error."),
        ),
        ("oh", Failed("api_error", "The provider reported an error.")),
    ],
)
def test_errors(error: object, wanted: Failed) -> None:
    assert failure(error) == wanted
