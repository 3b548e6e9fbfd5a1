"""A body is read by its top level, edited in place and otherwise never touched."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import anthropic, bodies, openai, prompts, requests
from proxy.core.entities import Dialect
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.requests import CallRequest, edit_body, parse_call, renamed
from proxy.core.translation.conversation import Wire
from tests import corpora

ACCEPTED = [case for case in corpora.bodies() if case.status == 200]
REFUSED = [case for case in corpora.bodies() if case.status != 200]
MESSAGES = '"messages":[{"role":"user","content":"hi"}]'


def chat(extra: str) -> bytes:
    return b'{"model":"m",%s%s}' % (MESSAGES.encode(), extra.encode())


def edited(
    body: bytes, *, model: str = "m", usage: bool = False, maximum: int | None = None
) -> bytes:
    call = parse_call(body, Dialect.OPENAI)
    return edit_body(
        body, call, upstream_model=model, include_usage=usage, output_tokens_max=maximum
    )


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_accepted_bodies_say_what_is_expected(case: corpora.BodyCase) -> None:
    call = parse_call(case.body, case.dialect)
    assert call.dialect is case.dialect
    assert {name: getattr(call, name) for name in case.expect} == dict(case.expect)
    assert len(case.expect) == 7
    assert call.input_tokens_estimate > 0


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_refused_bodies_get_their_code_and_name_the_member(case: corpora.BodyCase) -> None:
    with pytest.raises(RelayError) as caught:
        parse_call(case.body, case.dialect)
    error = caught.value
    assert (error.status, error.code.code, error.param) == (case.status, case.code, case.param)
    assert error.message.endswith(".")
    assert error.message.isprintable()
    assert len(error.message) < 300


def test_corpus_is_large_and_its_names_unique() -> None:
    names = [case.name for case in corpora.bodies()]
    assert len(names) >= 300
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_a_body_that_needs_no_edit_is_the_same_object(case: corpora.BodyCase) -> None:
    body = case.body
    call = parse_call(body, case.dialect)
    same = edit_body(
        body, call, upstream_model=call.model, include_usage=False, output_tokens_max=None
    )
    assert same is body


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_edits_change_these_members_and_nothing_else(case: corpora.BodyCase) -> None:
    body = case.body
    call = parse_call(body, case.dialect)
    result = edit_body(body, call, upstream_model="up/1", include_usage=True, output_tokens_max=2)
    before = json.loads(body)
    after = json.loads(result)
    wanted = dict(before, model="up/1")
    if call.stream and case.dialect is Dialect.OPENAI:
        wanted["stream_options"] = {**(before.get("stream_options") or {}), "include_usage": True}
    if call.output_tokens_max is None:
        null = [limit.field for limit in call.limits]
        wanted[null[0] if null else "max_completion_tokens"] = 2
    for limit in call.limits:
        if limit.value is not None:
            wanted[limit.field] = min(limit.value, 2)
    assert after == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", ',"stream_options":{"include_usage":true}'),
        ("null", '{"include_usage":true}'),
        ("{}", '{"include_usage":true}'),
        ("{ }", '{"include_usage":true }'),
        ('{"include_usage": false}', '{"include_usage": true}'),
        ('{"include_usage":null , "a":1}', '{"include_usage":true , "a":1}'),
        ('{ "a":1 }', '{"include_usage":true, "a":1 }'),
        ('{"include_usage":true}', '{"include_usage":true}'),
        ('{"include\\u005fusage":false}', '{"include\\u005fusage":true}'),
    ],
)
def test_include_usage_is_edited_into_the_options(options: str, wanted: str) -> None:
    if options:
        body = '{"model":"m","stream_options":%s,"stream":true,%s}'
        before, after = body % (options, MESSAGES), body % (wanted, MESSAGES)
    else:
        body = '{"model":"m"%s,"stream":true,%s}'
        before, after = body % ("", MESSAGES), body % (wanted, MESSAGES)
    assert edited(before.encode(), usage=True) == after.encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"m","stream_options":{"a":[1]},%s}', '{"model":"m",%s}'),
        ('{"stream_options":{},"model":"m",%s}', '{"model":"m",%s}'),
        ('{ "stream_options" : null , "model":"m",%s}', '{ "model":"m",%s}'),
        ('{"model":"m",%s , "stream_options": {} }', '{"model":"m",%s }'),
        ('{"model":"m","stream":true,%s}', '{"model":"m","stream":true,%s}'),
    ],
)
def test_stream_options_are_taken_out_whole(before: str, after: str) -> None:
    body = (before % MESSAGES).encode()
    call = parse_call(body, Dialect.OPENAI)
    result = edit_body(
        body,
        call,
        upstream_model="m",
        include_usage=True,
        output_tokens_max=None,
        strip_stream_options=True,
    )
    assert result == (after % MESSAGES).encode()


def test_taking_out_and_inserting_at_one_place() -> None:
    body = b'{"model":"m","stream_options":{},"stream":true,%s}' % MESSAGES.encode()
    call = parse_call(body, Dialect.OPENAI)
    result = edit_body(
        body,
        call,
        upstream_model="other",
        include_usage=True,
        output_tokens_max=5,
        strip_stream_options=True,
        limit_field="max_tokens",
    )
    assert result == b'{"model":"other","max_tokens":5,"stream":true,%s}' % MESSAGES.encode()


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (',"max_tokens":9', ',"max_tokens":5'),
        (',"max_tokens":5', ',"max_tokens":5'),
        (',"max_tokens":3', ',"max_tokens":3'),
        (',"max_tokens": 9 ,"n":2', ',"max_tokens": 5 ,"n":2'),
        (',"max_tokens":9,"max_completion_tokens":9', ',"max_tokens":5,"max_completion_tokens":5'),
        (',"max_tokens":9,"max_completion_tokens":3', ',"max_tokens":5,"max_completion_tokens":3'),
        (',"max_tokens":null', ',"max_tokens":5'),
        (
            ',"max_tokens":null,"max_completion_tokens":9',
            ',"max_tokens":null,"max_completion_tokens":5',
        ),
    ],
)
def test_limits_are_lowered_where_they_stand(limits: str, wanted: str) -> None:
    assert edited(chat(limits), maximum=5) == chat(wanted)


def test_an_absent_limit_is_inserted_after_the_model() -> None:
    body = chat("")
    assert edited(body, maximum=5) == body.replace(b'"m"', b'"m","max_completion_tokens":5')
    call = parse_call(body, Dialect.OPENAI)
    result = edit_body(
        body,
        call,
        upstream_model="m",
        include_usage=False,
        output_tokens_max=5,
        limit_field="max_tokens",
    )
    assert result == body.replace(b'"m"', b'"m","max_tokens":5')


def test_a_null_limit_of_another_name_stays() -> None:
    body = chat(',"max_tokens":null')
    call = parse_call(body, Dialect.OPENAI)
    result = edit_body(
        body,
        call,
        upstream_model="m",
        include_usage=False,
        output_tokens_max=5,
        limit_field="max_completion_tokens",
    )
    assert json.loads(result)["max_completion_tokens"] == 5
    assert json.loads(result)["max_tokens"] is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"model":"m","messages":[{}]}', '{"model":"n","messages":[{}]}'),
        ('{"messages":[{}],"n":1,"model":"m","x":0}', '{"messages":[{}],"n":1,"model":"n","x":0}'),
        ('{"messages":[{}],"model":"m"}', '{"messages":[{}],"model":"n"}'),
        ('{ "messages" : [{}], "model": "m" }', '{ "messages" : [{}], "model": "n" }'),
    ],
)
def test_a_model_alone_is_replaced_wherever_it_stands(before: str, after: str) -> None:
    body = before.encode()
    call = parse_call(body, Dialect.OPENAI)
    for _ in range(2):
        made = edit_body(body, call, upstream_model="n", include_usage=True, output_tokens_max=None)
        assert made == after.encode()


BEFORE = st.lists(
    st.sampled_from(
        ['"x":0', '"user":"\\"model\\":\\"m\\""', '"k":{"model":"m"}', '"temperature":1', '"ö":1']
    ),
    unique=True,
)


@given(
    BEFORE,
    BEFORE,
    st.sampled_from(['"m"', '"\\u006d"', '"other"']),
    st.sampled_from(["", ',"stream":true', ',"stream":false']),
    st.sampled_from(["", ',"stream_options":{"include_usage":false}', ',"stream_options":null']),
    st.sampled_from(["{%s}", "{ %s}"]),
    st.sampled_from([Wire.CHAT, Wire.MESSAGES, Wire.COMPLETIONS, Wire.RESPONSES]),
    st.booleans(),
)
def test_a_body_in_parts_is_the_edited_one(
    before: list[str], after: list[str], model: str, stream: str, options: str, frame: str,
    wire: Wire, usage: bool,
) -> None:  # fmt: skip
    asked = f'"messages":[{{}}],"prompt":"hi","input":"hi","max_tokens":5{stream}{options}'
    pieces = [*before, f'"model":{model}', *(one for one in after if one not in before), asked]
    body = (frame % ",".join(pieces)).encode()
    dialect = Dialect.ANTHROPIC if wire is Wire.MESSAGES else Dialect.OPENAI
    call = parse_call(body, dialect, wire)
    for name in ("m", 'n"ö'):
        parts = renamed(body, call, name, msgspec.json.encode(name), usage)
        made = edit_body(
            body, call, upstream_model=name, include_usage=usage, output_tokens_max=None
        )
        if parts is not None:
            assert b"".join(parts) == made
        else:
            assert frame != "{%s}" or options or '"ö":1' in body.decode()


def test_a_stream_in_parts_asks_for_its_usage_behind_the_model() -> None:
    body = chat(',"stream":true')
    parts = renamed(body, parse_call(body, Dialect.OPENAI), "n", b'"n"', True)
    assert parts is not None
    assert parts[1] == b'"n","stream_options":{"include_usage":true}'
    messages = parse_call(chat(',"stream":true,"max_tokens":5'), Dialect.ANTHROPIC)
    plain = renamed(body, messages, "n", b'"n"', True)
    assert plain is not None
    assert plain[1] == b'"n"'


def test_a_body_whose_path_names_the_model_is_never_in_parts() -> None:
    body = b'{"contents":[{}],"model":"m"}'
    call = parse_call(body, Dialect.GEMINI, Wire.GEMINI, model="m")
    assert renamed(body, call, "n", b'"n"', True) is None


def test_the_model_is_written_as_json() -> None:
    result = edited(chat(""), model='qu"ote\n通')
    assert json.loads(result)["model"] == 'qu"ote\n通'


def test_a_call_that_does_not_stream_is_never_asked_for_usage() -> None:
    body = chat(',"stream_options":{"include_usage":false}')
    assert edited(body, usage=True) is body


def test_edits_that_overlap_are_a_broken_assumption() -> None:
    body = chat("")
    call = parse_call(body, Dialect.OPENAI)
    start, end = call.layout.spans()["model"]
    call.layout.walked = {
        "stream_options": (start - 1, end - 1),
        "model": (start, end),
    }
    broken = msgspec.structs.replace(call, stream_options=True)
    with pytest.raises(AssertionError, match="overlap"):
        edit_body(
            body,
            broken,
            upstream_model="x",
            include_usage=False,
            output_tokens_max=None,
            strip_stream_options=True,
        )


def test_a_call_shows_nothing_of_its_prompt() -> None:
    assert "hush" not in repr(parse_call(chat(',"user":"hush"'), Dialect.OPENAI))


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"m",%s,"stream":true}',
        '{"model": "m", %s}',
        '{"mod\\u0065l":"m",%s}',
        '{"model":"m","é":"é",%s}',
        ' {"model":"m",%s} ',
    ],
)
def test_names_are_looked_for_one_by_one_only_where_white_space_could_hide_one(body: str) -> None:
    text = (body % MESSAGES).encode()
    call = parse_call(text, Dialect.OPENAI)
    dense = body.startswith('{"model":"m",%s')
    assert (call.layout.walked is None) is dense
    spans = call.layout.spans()
    assert {name: json.loads(text[start:end]) for name, (start, end) in spans.items()} == (
        json.loads(text)
    )
    for twice in ('"model":"m",', '"model" :"z" ,', '"x":1,"x":1,', '"messages":[],'):
        with pytest.raises(RelayError, match="is there twice"):
            parse_call(text.replace(b"{", b"{" + twice.encode(), 1), Dialect.OPENAI)


class _Seen(dict[str, msgspec.Raw]):
    """Members that note who was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


@pytest.mark.parametrize(
    ("wire", "looks"),
    [
        (Wire.CHAT, (openai.hidden_output, openai.choices)),
        (Wire.MESSAGES, (anthropic.hidden_output,)),
    ],
)
def test_all_members_that_are_looked_at_are_watched(wire: Wire, looks: Any) -> None:
    members = _Seen()
    for look in looks:
        look(members)
    assert members.names == set(requests._FORMS[wire].watched or ())


def test_a_shape_says_nothing_of_what_its_members_hold() -> None:
    def asked(extra: str) -> tuple[object, ...]:
        call = parse_call(chat(extra), Dialect.OPENAI)
        return call.stream, call.choices, call.hidden_output, call.include_usage, call.limits

    extra = ',"n":%s,"stream":%s,"reasoning_effort":%s,"stream_options":%s,"max_tokens":%s'
    for _ in range(2):
        assert asked(extra % (2, "true", '"low"', '{"include_usage":true}', 7)) == (
            True, 2, True, True, (requests.Limit("max_tokens", 7),),
        )  # fmt: skip
        assert asked(extra % ("null", "false", "null", "null", "null")) == (
            False, 1, False, False, (requests.Limit("max_tokens", None),),
        )  # fmt: skip
        with pytest.raises(RelayError, match="is there twice"):
            asked((extra % (2, "true", "null", "null", 7)) + ',"n":2')
        with pytest.raises(RelayError, match="`n`"):
            asked(extra % (0, "true", "null", "null", 7))


def test_so_many_shapes_are_remembered_and_no_long_ones() -> None:
    shapes = requests._FORMS[Wire.CHAT].shapes
    shapes.clear()
    for number in range(requests.SHAPES_MAX + 2):
        parse_call(chat(f',"x{number}":1'), Dialect.OPENAI)
    assert len(shapes) == 2
    assert len({shape.names for shape in shapes.values()}) == 1
    shapes.clear()
    many = "".join(f',"x{number}":1' for number in range(requests.SHAPE_NAMES_MAX))
    long = ',"%s":1' % ("x" * requests.SHAPE_BYTES_MAX)
    for extra in (many, long):
        assert parse_call(chat(extra), Dialect.OPENAI).layout.walked is None
    assert not shapes


def test_a_short_prompt_is_kept_as_it_would_be_read_again() -> None:
    filler = requests.PROMPT_KEPT_BYTES_MAX - len(chat(',"user":""'))
    body = chat(',"user":"%s"' % ("x" * filler))
    assert parse_call(body, Dialect.OPENAI).prompt == requests.read_prompt(body, Dialect.OPENAI)
    longer = chat(',"user":"%s"' % ("x" * (filler + 1)))
    assert parse_call(longer, Dialect.OPENAI).prompt is None


def test_texts_are_read_as_any_prompt_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(body: bytes) -> CallRequest | str:
        try:
            return parse_call(body, Dialect.OPENAI)
        except RelayError as error:
            return f"{error.code} {error.param} {error.message}"

    extras = (
        "", ',"stream":true', ',"stream":1', ',"max_tokens":5', ',"max_tokens":0', ',"n":2',
        ',"functions":[{}]', ',"response_format":{}', ',"reasoning_effort":"low"',
        ',"stream":true,"stream_options":7', ',"stream":true,"stream_options":{"include_usage":true}',
    )  # fmt: skip
    prompts_ = ('"hi"', "7", "[]", "[7]", "[{}]", '[{"content":"hi ü","role":"user"}]', "null")
    bodies_ = [case.body for case in (*ACCEPTED, *REFUSED) if case.dialect is Dialect.OPENAI]
    bodies_ += [
        f'{{"model":"m","messages":{prompt}{extra}}}'.encode()
        for prompt in prompts_
        for extra in extras
    ]
    fast = [said(body) for body in bodies_]
    slow = msgspec.structs.replace(requests._CHAT, read_texts=lambda _: None, shapes={})
    monkeypatch.setattr(requests, "_CHAT", slow)
    assert fast == [said(body) for body in bodies_]
    assert sum(isinstance(one, CallRequest) for one in fast) > 50


def test_prompt_is_read_again_for_counting() -> None:
    body = b'{"model":"gpt-4o-mini","messages":[{"content":"a"},{"content":"b"}],"tools":[]}'
    assert requests.read_prompt(body, Dialect.OPENAI).pieces == ("a", "b", "[]")
    assert requests.read_prompt(body, Dialect.OPENAI).fixed_tokens > 0
    assert requests.read_prompt(body, Dialect.ANTHROPIC).pieces == ("a", "b", "[]")


class _Deep:
    """A decoder at the end of its stack, which is somewhere else in every interpreter."""

    def decode(self, body: bytes) -> None:
        raise RecursionError


def test_a_prompt_too_deep_to_read_again_counts_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "_MEMBERS", _Deep())
    assert requests.read_prompt(chat(""), Dialect.OPENAI).pieces == (chat("").decode(),)


def test_more_objects_than_the_bound_count_as_text() -> None:
    few = b'{"model":"m","messages":[%s{}]}' % (b"{}," * (prompts.OBJECTS_MAX - 2))
    assert few.count(b"{") == prompts.OBJECTS_MAX
    assert requests.read_prompt(few, Dialect.OPENAI).pieces == ()
    many = few.replace(b"[{}", b"[{},{}")
    assert requests.read_prompt(many, Dialect.OPENAI).pieces == (many.decode(),)
    assert parse_call(many, Dialect.OPENAI).input_tokens_estimate == (len(many) + 1) // 2


def test_large_known_members_may_hold_many_names() -> None:
    names = ",".join(f'"k{number}":0' for number in range(bodies.NAMES_OUTSIDE_MAX))
    assert parse_call(chat(f',"tools":[{{{names}}}]'), Dialect.OPENAI).hidden_output is False
    with pytest.raises(RelayError, match="too many members"):
        parse_call(chat(f',"unknown":{{{names}}}'), Dialect.OPENAI)
    # What makes no sense is refused as such, however many names it has.
    with pytest.raises(RelayError, match="must be a JSON object"):
        parse_call(b"[{%s}]" % names.encode(), Dialect.OPENAI)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    st.dictionaries(st.text(max_size=8), JSON, max_size=5),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
)
def test_any_body_survives_an_edit(
    others: Mapping[str, object], indent: int | None, ascii_only: bool
) -> None:
    known = {"model": "m", "stream": True, "messages": [{"content": "x"}]}
    clash = {"n", "max_tokens", "max_completion_tokens", "stream_options"}
    whole = {**{name: value for name, value in others.items() if name not in clash}, **known}
    body = json.dumps(whole, indent=indent, ensure_ascii=ascii_only).encode()
    after = json.loads(edited(body, model="other", usage=True, maximum=7))
    assert after == {
        **whole,
        "model": "other",
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 7,
    }


def _strictly(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate")
    return dict(pairs)


@given(st.data())
def test_whatever_is_accepted_another_parser_reads_the_same(data: st.DataObject) -> None:
    seed = bytearray(
        b'{"model":"m\\u0041","stream" : true,"x":{"model":[1.5,"\\ud83d\\ude00"]},'
        b'"messages":[{"content":"hi\xc3\xa9"}],"max_tokens":5,"max_tokens2":{},"n":2}'
    )
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(seed) - 1))
        piece = data.draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"\\", b",", b"}", b'"model":"z",', b"\\ud800", b'"n":'])
        )
        seed[at : at + data.draw(st.integers(0, 6))] = piece
        seed = seed or bytearray(b"{")
    body = bytes(seed)
    try:
        call = parse_call(body, Dialect.OPENAI)
    except RelayError:
        return
    top = json.loads(body.decode())
    start, end = call.layout.spans()["model"]
    assert top["model"] == call.model == json.loads(body[start:end])
    assert bool(top.get("stream")) is call.stream
    assert (top.get("n") or 1) == call.choices
    _strictly(json.loads(body.decode(), object_pairs_hook=lambda pairs: pairs))


def of_input(extra: str, wire: str = '"hello"') -> requests.CallRequest:
    body = b'{"model":"m","input":%s%s}' % (wire.encode(), extra.encode())
    return parse_call(body, Dialect.OPENAI, Wire.RESPONSES)


def test_a_responses_body_says_what_is_expected() -> None:
    call = of_input(',"stream":true,"max_output_tokens":7,"reasoning":{"effort":"low"},"n":0')
    assert (call.dialect, call.wire, call.model) == (Dialect.OPENAI, Wire.RESPONSES, "m")
    assert (call.stream, call.hidden_output, call.choices) == (True, True, 1)
    assert (call.output_tokens_max, call.output_limit_field) == (7, "max_output_tokens")
    call = of_input(',"stream_options":{"include_obfuscation":true}', '[{"content":"hi"}]')
    assert (call.stream, call.hidden_output, call.include_usage) == (False, False, False)
    assert (call.output_tokens_max, call.stream_options) == (None, False)
    assert call.input_tokens_estimate == 2 * prompts.MESSAGE_TOKENS + 1


def test_the_other_forms_are_those_of_their_dialects() -> None:
    assert parse_call(chat(""), Dialect.OPENAI).wire is Wire.CHAT
    assert parse_call(chat(""), Dialect.OPENAI, Wire.CHAT).wire is Wire.CHAT
    assert parse_call(chat(',"max_tokens":1'), Dialect.ANTHROPIC).wire is Wire.MESSAGES


def test_what_lives_at_the_provider_is_known_of_responses_alone() -> None:
    call = of_input(',"previous_response_id":"resp_1","store":false')
    assert call.kept is not None
    assert (call.kept.previous, call.kept.stored) == ("resp_1", False)
    assert parse_call(chat(""), Dialect.OPENAI).kept is None


def test_a_responses_stream_is_never_asked_for_usage() -> None:
    body = b'{"model":"m","input":"hi","stream":true}'
    call = parse_call(body, Dialect.OPENAI, Wire.RESPONSES)
    made = edit_body(body, call, upstream_model="m", include_usage=True, output_tokens_max=None)
    assert made is body
    lowered = edit_body(body, call, upstream_model="m", include_usage=True, output_tokens_max=5)
    assert json.loads(lowered)["max_output_tokens"] == 5


def of_prompt(extra: str, prompt: str = '"hello"') -> requests.CallRequest:
    body = b'{"model":"m","prompt":%s%s}' % (prompt.encode(), extra.encode())
    return parse_call(body, Dialect.OPENAI, Wire.COMPLETIONS)


def test_a_completions_body_says_what_is_expected() -> None:
    call = of_prompt(',"stream":true,"max_tokens":7,"n":3', '["ab","c"]')
    assert (call.wire, call.stream, call.choices) == (Wire.COMPLETIONS, True, 6)
    assert (call.output_tokens_max, call.output_limit_field) == (7, "max_tokens")
    assert (call.hidden_output, call.include_usage, call.echoed) == (False, False, ())
    assert of_prompt(',"best_of":4,"n":2').choices == 4
    assert of_prompt(',"best_of":4,"n":2').hidden_output
    assert of_prompt(',"echo":true', '["ab","c"]').echoed == (2, 1)
    assert of_prompt(',"max_tokens":0').output_tokens_max == 0
    asked = of_prompt(',"stream":true,"stream_options":{"include_usage":true}')
    assert (asked.include_usage, asked.stream_options) == (True, True)


def test_a_stream_of_completions_is_asked_for_usage() -> None:
    body = b'{"model":"m","prompt":"hi","stream":true}'
    call = parse_call(body, Dialect.OPENAI, Wire.COMPLETIONS)
    made = edit_body(body, call, upstream_model="n", include_usage=True, output_tokens_max=None)
    assert json.loads(made) == {
        "model": "n", "prompt": "hi", "stream": True, "stream_options": {"include_usage": True}
    }  # fmt: skip
    assert requests.read_prompt(body, Dialect.OPENAI, Wire.COMPLETIONS).pieces == ("hi",)


@pytest.mark.parametrize("wire", ["[]", "[ ]", "null", "7", "{}"])
def test_an_input_that_is_none_is_refused(wire: str) -> None:
    with pytest.raises(RelayError, match="must be a string, or an array") as caught:
        of_input("", wire)
    assert caught.value.param == "input"
    with pytest.raises(RelayError, match="is required: send a string or an array"):
        parse_call(chat(""), Dialect.OPENAI, Wire.RESPONSES)


def test_a_responses_prompt_is_read_again_for_counting() -> None:
    body = b'{"model":"m","input":"a","instructions":"b","messages":[]}'
    found = requests.read_prompt(body, Dialect.OPENAI, Wire.RESPONSES)
    assert found.pieces == ("a", "b")


def test_a_large_input_may_hold_many_names() -> None:
    names = ",".join(f'"k{number}":0' for number in range(bodies.NAMES_OUTSIDE_MAX + 1))
    assert of_input("", f"[{{{names}}}]").wire is Wire.RESPONSES


GENERATE = b'{"contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"maxOutputTokens":9}}'


def generate(body: bytes = GENERATE, model: str = "m", **more: Any) -> CallRequest:
    return parse_call(body, Dialect.GEMINI, Wire.GEMINI, model=model, **more)


def test_the_path_of_gemini_names_the_model_and_says_whether_to_stream() -> None:
    call = generate(stream=True)
    assert (call.dialect, call.wire) == (Dialect.GEMINI, Wire.GEMINI)
    assert (call.model, call.stream, call.output_tokens_max) == ("m", True, 9)
    assert (call.choices, call.include_usage, call.hidden_output) == (1, False, False)
    assert not generate().stream
    assert requests.read_prompt(GENERATE, Dialect.GEMINI, Wire.GEMINI).pieces[0] == "hi"


def test_a_body_of_gemini_is_changed_by_a_limit_alone() -> None:
    call = generate()
    same = edit_body(
        GENERATE, call, upstream_model="up", include_usage=True, output_tokens_max=None
    )
    assert same is GENERATE
    lowered = edit_body(
        GENERATE, call, upstream_model="up", include_usage=True, output_tokens_max=7
    )
    assert lowered == GENERATE.replace(b"9", b"7")


@pytest.mark.parametrize("model", ["", "x" * 300, "a\n"])
def test_a_path_must_name_a_model(model: str) -> None:
    with pytest.raises(RelayError) as caught:
        generate(model=model)
    assert (caught.value.code, caught.value.param) == (ErrorCode.INVALID_REQUEST, "model")
