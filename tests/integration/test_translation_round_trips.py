"""Properties of the translation over each pair of protocols: there and back keeps the meaning.

What one protocol cannot say is taken out of what is generated, by name and with the reason, and
nothing else is: a part, figure or event that vanishes on the way fails here.
"""

import itertools
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from proxy.core.entities import Usage
from proxy.core.sse import EventSplitter, fields
from proxy.core.translation.conversation import (
    Answer,
    Choice,
    Closed,
    Document,
    Effort,
    Event,
    Finish,
    Finished,
    Format,
    Image,
    Kind,
    Message,
    Opened,
    Part,
    Piece,
    Ping,
    Refusal,
    Request,
    Role,
    Started,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Wire,
)
from proxy.core.translation.translator import SIDES

PAIRS = [(one, other) for one in SIDES for other in SIDES if one is not other]
pairs = pytest.mark.parametrize(("one", "other"), PAIRS, ids=str)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
names = st.from_regex(r"\A[a-zA-Z_][a-zA-Z0-9_-]{0,20}\Z")
ids = st.from_regex(r"\A[a-z]{1,4}_[a-zA-Z0-9]{1,12}\Z")
base64 = st.sampled_from(["QUJD", "iVBORw0KGgo=", "JVBERi0="])
arguments = st.dictionaries(words, words | st.integers(-9, 9) | st.none(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)
tokens = st.integers(0, 100_000)
usages = st.builds(
    Usage,
    input_uncached=tokens,
    cache_read=tokens,
    cache_write_5m=tokens,
    output=tokens.map(lambda figure: figure + 1),
)


# Requests

images = st.builds(Image, url=st.just("https://a.example/b.png")) | st.builds(
    Image, media_type=st.sampled_from(["image/png", "image/jpeg"]), data=base64
)
documents = st.builds(
    Document, media_type=st.just("application/pdf"), data=base64, name=st.just("a.pdf")
)
schemas = st.sampled_from(
    [Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}'), Raw(b'{"type":"object"}')]
)
tools = st.lists(
    st.builds(
        Tool,
        name=names,
        description=st.none() | words,
        schema=schemas,
        strict=st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns in the order every provider demands: calls, their results, the user, the assistant."""
    found = [Message(Role.USER, tuple(draw(st.lists(words.map(Text) | images | documents,
                                                     min_size=1, max_size=3))))]  # fmt: skip
    for number in range(draw(st.integers(0, 2))):
        calls = [
            ToolCall(f"{draw(ids)}{number}{place}", draw(names), draw(arguments))
            for place in range(draw(st.integers(0, 2)))
        ]
        said = [Text(draw(words))] if draw(st.booleans()) or not calls else []
        found.append(Message(Role.ASSISTANT, (*said, *calls)))
        results = tuple(
            ToolResult(call.id, tuple(draw(st.lists(words.map(Text), max_size=1))))
            for call in calls
        )
        after = (Text(draw(words)),) if draw(st.booleans()) or not calls else ()
        found.append(Message(Role.USER, results + after))
    return tuple(found)


requests = st.builds(
    Request,
    model=names,
    messages=turns(),
    system=st.lists(words.map(Text), max_size=1).map(tuple),
    tools=st.just(()) | tools,
    output_tokens_max=st.integers(16, 9_999),
    temperature=st.none() | st.sampled_from([0.0, 0.25, 1.0]),
    top_p=st.none() | st.sampled_from([0.5, 1.0]),
    format=st.none() | st.builds(Format, schemas, strict=st.just(True)),
    effort=st.none() | st.sampled_from([Effort.LOW, Effort.MEDIUM, Effort.HIGH, Effort.XHIGH]),
    user=st.none() | words,
    stream=st.booleans(),
)


@st.composite
def asked(draw: st.DrawFn) -> Request:
    """A request whose choice of a tool fits its tools."""
    request = draw(requests)
    if not request.tools:
        return request
    plain = st.sampled_from([Choice.AUTO, Choice.NONE, Choice.REQUIRED]).map(ToolChoice)
    chosen = st.just(ToolChoice(Choice.NAMED, request.tools[0].name))
    choice = draw(plain | chosen)
    alone = draw(st.booleans()) and choice.choice is not Choice.NONE
    return replace(request, tool_choice=choice, parallel_tools=False if alone else None)


def meaning(request: Request) -> Any:
    """A request without the borders that protocols draw differently.

    Turns of one role may be one or several; an empty result is a result without parts; every
    argument and schema is compared as the value it is.
    """
    said: list[tuple[Role, object]] = []
    for message in request.messages:
        said += [(message.role, _part(part)) for part in message.parts]
    shown = [(tool.name, tool.description, json.loads(bytes(tool.schema or b"{}")),
              bool(tool.strict)) for tool in request.tools]  # fmt: skip
    form = request.format
    return (
        request.model,
        said,
        [part.text for part in request.system],
        shown,
        request.tool_choice,
        request.parallel_tools,
        (request.output_tokens_max, request.temperature, request.top_p),
        None if form is None else json.loads(bytes(form.schema or b"null")),
        (request.effort, request.user, request.stream, request.left_out),
    )


def sayable(request: Request, wires: Iterable[Wire]) -> Request:
    """The request within what all of `wires` can say.

    Gemini has no users, no strictness but by demanding calls, no demand for one call at a time, no
    names of files, and no effort above high.
    """
    if Wire.GEMINI not in wires:
        return request
    turns = [
        replace(
            message,
            parts=tuple(
                replace(part, name=None) if isinstance(part, Document) else part
                for part in message.parts
            ),
        )
        for message in request.messages
    ]
    return replace(
        request,
        messages=tuple(turns),
        user=None,
        tools=tuple(replace(tool, strict=None) for tool in request.tools),
        parallel_tools=None,
        effort=Effort.HIGH if request.effort is Effort.XHIGH else request.effort,
    )


def _part(part: Part) -> object:
    if isinstance(part, ToolCall):
        return (part.id, part.name, json.loads(part.arguments))
    if isinstance(part, ToolResult):
        return (part.call_id, "".join(one.text for one in part.parts if isinstance(one, Text)))
    if isinstance(part, Image) and part.url is not None:
        return part.url  # its type is said by some, and follows from its name
    if isinstance(part, Document):
        return (part.media_type, part.data)  # and its name is one's own elsewhere
    return part


def carried(request: Request, wire: Wire) -> Request:
    """The request through a protocol: written in it, and read again."""
    side = SIDES[wire]
    assert side.unsaid(request) in ((), ("filename",) if wire is Wire.GEMINI else ())
    found = side.read_request(side.write_request(request, 4096))
    if wire is Wire.GEMINI:  # where the path says both
        return replace(found, model=request.model, stream=request.stream)
    return found


@pairs
@given(request=asked())
def test_requests_keep_their_meaning_there_and_back(
    one: Wire, other: Wire, request: Request
) -> None:
    request = sayable(request, (one, other))
    first = carried(request, one)
    assert meaning(first) == meaning(request)
    there = carried(first, other)
    assert meaning(there) == meaning(request)
    assert meaning(carried(there, one)) == meaning(request)


# Answers and streams

FINISHES = [Finish.STOP, Finish.LENGTH, Finish.REFUSED]
said_parts = (
    words.map(Text)
    | words.map(Refusal)
    | st.builds(Thinking, words)
    | st.builds(ToolCall, ids, names, arguments)
)


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    parts = draw(st.lists(said_parts, max_size=5))
    unique = [
        replace(part, id=f"{part.id}{place}") if isinstance(part, ToolCall) else part
        for place, part in enumerate(parts)
    ]
    calls = any(isinstance(part, ToolCall) for part in unique)
    finish = Finish.TOOLS if calls else draw(st.sampled_from(FINISHES))
    return Answer(draw(ids), draw(names), tuple(unique), finish, draw(usages))


def told(answer: Answer, wires: Iterable[Wire]) -> Any:
    """What an answer says to whom only these protocols reached.

    Messages and Gemini have no refusals but as text; chat has one text, one refusal and one line of thoughts,
    so that only their order among themselves counts; no protocol says what borders texts have.
    """
    spoken = {Text: "", Refusal: "", Thinking: ""}
    declined_in_words = {Wire.MESSAGES, Wire.GEMINI} & set(wires)
    usage = answer.usage
    if Wire.GEMINI in wires and usage is not None:  # which does not tell what it wrote to a cache
        written = usage.cache_write_5m
        usage = replace(usage, input_uncached=usage.input_uncached + written, cache_write_5m=0)
    calls = []
    for part in answer.parts:
        if isinstance(part, ToolCall):
            calls.append((part.id, part.name, json.loads(part.arguments)))
        elif isinstance(part, Text | Refusal | Thinking):
            kind = type(part)
            if kind is Refusal and declined_in_words:
                kind = Text
            spoken[kind] += part.text
    if declined_in_words and Wire.CHAT in wires:
        spoken[Text] = "".join(sorted(spoken[Text]))  # chat moved the refusals behind the texts
    return answer.model, list(spoken.values()), calls, answer.finish, usage


def back(answer: Answer, wire: Wire) -> Answer:
    side = SIDES[wire]
    return side.read_answer(side.write_answer(answer, 7, Request("m", ())))


@pairs
@given(answer=answers())
def test_answers_keep_their_meaning_there_and_back(one: Wire, other: Wire, answer: Answer) -> None:
    wires = (one, other)
    there = back(back(answer, one), other)
    assert told(there, wires) == told(answer, wires)
    assert told(back(there, one), wires) == told(answer, wires)


@st.composite
def streams(draw: st.DrawFn) -> tuple[Answer, list[Event]]:
    """An answer, and the events that say it, cut into pieces anywhere."""
    answer = draw(answers())
    events: list[Event] = [Started(answer.id, answer.model)]
    kinds = {Text: Kind.TEXT, Refusal: Kind.REFUSAL, Thinking: Kind.THINKING}
    for part in answer.parts:
        if isinstance(part, ToolCall):
            events.append(Opened(Kind.TOOL, part.id, part.name))
            text = part.arguments
        else:
            events.append(Opened(kinds[type(part)]))
            text = part.text if isinstance(part, Text | Refusal | Thinking) else ""
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
        edges = [0, *(cut for cut in cuts if cut < len(text)), len(text)]
        events += [Piece(text[a:b]) for a, b in itertools.pairwise(edges)]
        events.append(Closed())
        if draw(st.booleans()):
            events.append(Ping())
    return answer, [*events, Finished(answer.finish, answer.usage)]


def through(events: Iterable[Event], wire: Wire) -> list[Event]:
    """The events written in a protocol, and read again."""
    side = SIDES[wire]
    writer, reader = side.writer(7, True, Request("m", ())), side.reader()
    body = b"".join([writer.write(event) for event in events]) + writer.end()
    spans = EventSplitter(side.event_bytes_max).receive(body)
    found: list[Event] = []
    for event, whole in spans:
        data = fields(event)[1]
        assert whole
        assert data is not None
        found += reader.read(data)
    return found if wire is not Wire.GEMINI else found + reader.end()  # only a body's end ends it


def added_up(events: Iterable[Event]) -> Answer:
    """The answer that events say; their order is checked on the way."""
    begun: Started | None = None
    ended: Finished | None = None
    parts: list[Part] = []
    opened: Opened | None = None
    text = ""
    for event in events:
        assert ended is None
        if isinstance(event, Started):
            assert begun is None
            begun = event
        elif isinstance(event, Opened):
            assert opened is None
            opened, text = event, ""
        elif isinstance(event, Piece):
            assert opened is not None
            text += event.text
        elif isinstance(event, Closed):
            assert opened is not None
            parts.append(_built(opened, text))
            opened = None
        elif isinstance(event, Finished):
            ended = event
        else:
            assert isinstance(event, Ping)
    assert begun is not None
    assert ended is not None
    return Answer(begun.id, begun.model, tuple(parts), ended.finish, ended.usage)


def _built(opened: Opened, text: str) -> Part:
    if opened.kind is Kind.TOOL:
        return ToolCall(opened.call_id, opened.name, text)
    return {Kind.TEXT: Text, Kind.REFUSAL: Refusal, Kind.THINKING: Thinking}[opened.kind](text)


def pieces(events: Iterable[Event], whole_calls: bool) -> int:
    """How many pieces say something; `whole_calls`: of a call that counts once."""
    found, kind = 0, Kind.TEXT
    for event in events:
        if isinstance(event, Opened):
            kind = event.kind
            found += kind is Kind.TOOL and whole_calls
        elif isinstance(event, Piece) and event.text and not (kind is Kind.TOOL and whole_calls):
            found += 1
    return found


@pairs
@given(stream=streams())
def test_streams_lose_no_event_there_and_back(
    one: Wire, other: Wire, stream: tuple[Answer, list[Event]]
) -> None:
    answer, events = stream
    wires = (one, other)
    there = through(through(events, one), other)
    assert told(added_up(there), wires) == told(answer, wires)
    whole_calls = Wire.GEMINI in wires
    assert pieces(there, whole_calls) >= pieces(events, whole_calls), "one by one, not gathered"


@pytest.mark.parametrize("thinking", [Thinking("hm", "ErUB=="), Thinking("", redacted="c2Vj")])
def test_secrets_of_thoughts_come_back_through_responses(thinking: Thinking) -> None:
    """A caller of Responses sends back what it was given, and their maker gets it as it was."""
    responses = SIDES[Wire.RESPONSES]
    answer = Answer("x", "m", (thinking, Text("a")), Finish.STOP)
    output = json.loads(responses.write_answer(answer, 7, Request("m", ())))["output"]
    body = json.dumps({"model": "m", "input": [{"role": "user", "content": "hi"}, *output]})
    asked_again = responses.read_request(body.encode())
    assert asked_again.messages[1].parts == (thinking, Text("a"))
    there = json.loads(SIDES[Wire.MESSAGES].write_request(asked_again, 99))
    block = there["messages"][1]["content"][0]
    assert block.get("signature") == thinking.signature
    assert block.get("data") == thinking.redacted


def test_secrets_of_thoughts_come_back_through_messages() -> None:
    item = {"id": "rs_1", "type": "reasoning", "encrypted_content": "gAAA",
            "summary": [{"type": "summary_text", "text": "hm"}]}  # fmt: skip
    body = json.dumps({"id": "resp_1", "status": "completed", "output": [item]}).encode()
    answer = SIDES[Wire.RESPONSES].read_answer(body)
    messages = SIDES[Wire.MESSAGES]
    content = json.loads(messages.write_answer(answer, 7, Request("m", ())))["content"]
    ask = {"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": content}]}
    again = messages.read_request(json.dumps(ask).encode())
    assert json.loads(SIDES[Wire.RESPONSES].write_request(again, 9))["input"] == [item]
    assert content[0]["signature"] == "responses:rs_1:gAAA"
