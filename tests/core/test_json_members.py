"""Top-level members are found alike however the body is cut, and as other readers find them."""

import json
from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import json_members
from proxy.core.json_members import Member, MemberScanner, Watch

EVERYTHING = Watch(keep_bytes_max=1 << 20, measure=True)
NAMES = ("model", "input", "n", "é", "")


class AnyName(dict[str, Watch]):
    """Watches every member there is."""

    def get(self, name: str, default: object = None) -> Watch:
        return EVERYTHING


def scan(
    body: bytes, size: int = 1 << 20, watched: Mapping[str, Watch] | None = None
) -> MemberScanner:
    scanner = MemberScanner(AnyName() if watched is None else watched)
    for start in range(0, len(body), size):
        scanner.feed(body[start : start + size])
    scanner.finish()
    return scanner


def outcome(scanner: MemberScanner) -> tuple[object, ...]:
    return scanner.complete, scanner.fault, scanner.first, scanner.members


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT | st.sampled_from(NAMES), VALUES, max_size=6)


@given(OBJECTS, st.booleans(), st.sampled_from([None, 1, "\t"]), st.integers(1, 9))
def test_a_body_is_read_as_orjson_reads_it_in_pieces_of_any_size(
    value: dict[str, object], escaped: bool, indent: int | str | None, size: int
) -> None:
    body = json.dumps(value, ensure_ascii=escaped, indent=indent).encode()
    scanner = scan(body, size)
    assert scanner.fault is None
    assert outcome(scanner) == outcome(scan(body))
    read = orjson.loads(body)
    assert list(scanner.members) == list(read)
    for name, member in scanner.members.items():
        assert member.name == name
        assert member.value == body[member.start : member.end]
        assert orjson.loads(member.value) == read[name]
        assert_measures(member, read[name])


def assert_measures(member: Member, value: object) -> None:
    kinds = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
    kind = "null" if value is None else kinds.get(type(value), "object")
    assert member.kind == kind
    texts = list(strings(value))
    assert member.characters == sum(map(len, texts))
    if isinstance(value, list):
        assert member.elements == len(value)
        assert member.strings == sum(isinstance(item, str) for item in value)
        assert member.arrays == sum(isinstance(item, list) for item in value)
        assert member.objects == sum(isinstance(item, dict) for item in value)
        assert member.numbers == sum(is_number(item) for item in value)
        assert member.numbers_inside == sum(map(count_numbers, value))
    else:
        assert member.elements == 0


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inside = value if isinstance(value, list) else []
    if isinstance(value, dict):
        inside = list(value.values())
    return [text for item in inside for text in strings(item)]


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def count_numbers(value: object) -> int:
    inside = value if isinstance(value, list) else []
    if isinstance(value, dict):
        inside = list(value.values())
    return is_number(value) + sum(map(count_numbers, inside))


# A fragment here and there makes most of them wrong, in every way there is.
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b" ", b"\n", b"\x00", b"\xff"),
            *(b'"model"', b'"a":', b"1", b"-", b"01", b"1.", b"1e", b"e5", b"tru", b"true"),
            *(b"null", b"nul", b"\\ud83d", b"\\ude00", b"\\u12", b"\xc3", b"\xa9", b"false"),
            *(b'"\\n"', b'{"model":"m"', b'"x",', b"1,", b"[1,2,3]", b'["a","b"]', b"\xef\xbb\xbf"),
        ]
    ),
    max_size=12,
).map(b"".join)


@given(FRAGMENTS, st.booleans())
def test_what_is_accepted_is_exactly_what_orjson_accepts(body: bytes, wrap: bool) -> None:
    if wrap:
        body = b'{"a":' + body + b"}"
    scanner = scan(body)
    assert outcome(scan(body, 1)) == outcome(scanner)
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        read = None
    if not isinstance(read, dict):
        assert scanner.fault is not None
    elif scanner.fault is None:
        assert scanner.complete
        assert list(scanner.members) == list(read)
    else:
        assert scanner.fault.name is not None, scanner.fault


FAULTS = {
    "empty": (b"", "is empty: send a JSON object"),
    "white space": (b" \n", "is empty: send a JSON object"),
    "an array": (b"[1]", "must be a JSON object, like {...}"),
    "a string": (b'"a"', "must be a JSON object, like {...}"),
    "a mark": (b'\xef\xbb\xbf{"a":1}', "starts with a byte order mark: send UTF-8 without one"),
    "another mark": (b"\xff\xfe{\0", "starts with a byte order mark: send UTF-8 without one"),
    "part of a mark": (b"\xef\xbb", "must be a JSON object, like {...}"),
    "no text": (b"\xe9{}", "must be a JSON object, like {...}"),
    "half a character": (b'{"a":"\xc3"}', "is not valid UTF-8 at byte 6"),
    "a bad element": (b'{"a":["x","\xc3\xa9","\xc3"],"b":1}', "is not valid UTF-8 at byte 16"),
    "a bad run": (b'{"a":["\xff","x"],"b":1}', "is not valid UTF-8 at byte 7"),
    "latin 1": (b'{"a":"\xe9"}', "is not valid UTF-8 at byte 6"),
    "cut": (b'{"a":', "is not valid JSON: it ends at byte 5 inside a value"),
    "cut in a string": (b'{"a":"b', "is not valid JSON: it ends at byte 7 inside a value"),
    "cut in an escape": (b'{"a":"\\u00', "is not valid JSON: it ends at byte 10 inside a value"),
    "cut in a number": (b'{"a":12', "is not valid JSON: it ends at byte 7 inside a value"),
    "cut in a literal": (b'{"a":tr', "is not valid JSON: it ends at byte 7 inside a value"),
    "cut before a name": (b'{"a":1,', "is not valid JSON: it ends at byte 7 inside a value"),
    "cut after a name": (b'{"a" ', "is not valid JSON: it ends at byte 5 inside a value"),
    "cut in an array": (b'{"a":[ ', "is not valid JSON: it ends at byte 7 inside a value"),
    "cut at an element": (b'{"a":[1, ', "is not valid JSON: it ends at byte 9 inside a value"),
    "cut after a value": (b'{"a":"" ', "is not valid JSON: it ends at byte 8 inside a value"),
    "cut at the start": (b"{ ", "is not valid JSON: it ends at byte 2 inside a value"),
    "more": (b"{} x", "is not valid JSON at byte 3: expected nothing more"),
    "twice": (b"{}{}", "is not valid JSON at byte 2: expected nothing more"),
    "no name": (b"{1:2}", "is not valid JSON at byte 1: expected a member's name in double quotes"),
    "comma first": (
        b"{,}",
        "is not valid JSON at byte 1: expected a member's name in double quotes",
    ),
    "comma last": (
        b'{"a":1,}',
        "is not valid JSON at byte 7: expected a member's name in double quotes",
    ),
    "no colon": (b'{"a" 1}', "is not valid JSON at byte 5: expected a colon"),
    "no value": (b'{"a":}', "is not valid JSON at byte 5: expected a value"),
    "no comma": (b'{"a":1 "b":2}', "is not valid JSON at byte 7: expected a comma or }"),
    "no comma in an array": (b'{"a":[1 2]}', "is not valid JSON at byte 8: expected a comma or ]"),
    "no element": (b'{"a":[1,]}', "is not valid JSON at byte 8: expected a value"),
    "wrong bracket": (b'{"a":[1}', "is not valid JSON at byte 7: expected a comma or ]"),
    "single quotes": (
        b"{'a':1}",
        "is not valid JSON at byte 1: expected a member's name in double quotes",
    ),
    "not a literal": (b'{"a":trie}', "is not valid JSON at byte 5: expected a value"),
    "NaN": (b'{"a":NaN}', "is not valid JSON at byte 5: expected a value"),
    "leading zero": (
        b'{"a":01}',
        "is not valid JSON at byte 5: expected a number as JSON writes it",
    ),
    "plus": (b'{"a":+1}', "is not valid JSON at byte 5: expected a value"),
    "no digits": (b'{"a":-}', "is not valid JSON at byte 5: expected a number as JSON writes it"),
    "dot last": (b'{"a":[1.]}', "is not valid JSON at byte 6: expected a number as JSON writes it"),
    "line feed in a string": (
        b'{"a":"b\n"}',
        "is not valid JSON at byte 7: a control character in a string",
    ),
    "no escape": (b'{"a":"\\x"}', "is not valid JSON at byte 6: an escape that is none"),
    "half a pair": (
        b'{"a":"\\ud800x"}',
        "has half a surrogate pair at byte 6: escape the whole character, or send it as UTF-8",
    ),
    "the other half": (
        b'{"a":"\\udc00"}',
        "has half a surrogate pair at byte 6: escape the whole character, or send it as UTF-8",
    ),
    "many digits": (b'{"a":' + b"1" * 1_025 + b"}", "has a number of too many digits"),
    "deep": (b'{"a":' + b"[" * 256, "nests arrays or objects too deeply"),
    "deep objects": (b'{"a":' * 257, "nests arrays or objects too deeply"),
    "many members": (
        b"{" + b",".join(b'"k%d":0' % number for number in range(513)) + b"}",
        "has too many members: send at most 512 at the top level",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_says_what_is_wrong_and_where_whatever_the_pieces(name: str) -> None:
    body, problem = FAULTS[name]
    for size in (1, 2, 3, 7, len(body) + 1):
        scanner = scan(body, size)
        assert scanner.fault is not None
        assert scanner.fault.problem == problem
        assert scanner.fault.name is None
        assert not scanner.complete


def test_a_watched_name_must_not_come_twice_however_it_is_written() -> None:
    watched = {"model": EVERYTHING}
    for again in (b'"model"', b'"mod\\u0065l"', b'"\\u006d\\u006fdel"'):
        scanner = scan(b'{"model":"a","x":1,"x":2,' + again + b':"b"}', watched=watched)
        assert scanner.fault is not None
        assert scanner.fault.name == "model"
        assert scanner.fault.problem == "has `model` twice: send it once"
    assert scan(b'{"x":{"model":1,"model":2},"model":"a"}', watched=watched).fault is None


def test_after_a_fault_nothing_is_read_any_more() -> None:
    scanner = MemberScanner({})
    scanner.feed(b"[")
    fault = scanner.fault
    scanner.feed(b"{}")
    scanner.finish()
    assert scanner.fault is fault
    assert scanner.size == 1


def test_long_names_are_passed_over() -> None:
    long = b"k" * (json_members.NAME_BYTES_MAX + 1)
    escaped = b"\\u006b" * 1_000
    body = b'{"%b":1,"%b":2,"model":"m"}' % (long, escaped)
    for size in (1, 100, 1 << 20):
        scanner = scan(
            body, size, {"model": EVERYTHING, long.decode(): EVERYTHING, "k": EVERYTHING}
        )
        assert scanner.fault is None
        assert list(scanner.members) == ["model"]


def test_a_name_of_the_longest_length_is_watched() -> None:
    name = "k" * json_members.NAME_BYTES_MAX
    scanner = scan(b'{"%b":1}' % name.encode(), 10, {name: EVERYTHING})
    assert list(scanner.members) == [name]


def test_a_value_above_its_bound_is_measured_but_not_kept() -> None:
    body = b'{"a":"12345","b":"123456","c":["x"]}'
    for size in (1, 4, 100):
        scanner = scan(body, size, {"a": Watch(7), "b": Watch(7), "c": Watch(measure=True)})
        a, b, c = scanner.members.values()
        assert (a.value, a.characters) == (b'"12345"', 0)
        assert (b.value, b.start, b.end) == (None, 17, 25)
        assert (c.value, c.elements, c.characters) == (None, 1, 1)


def test_memory_is_constant_and_a_large_value_is_measured() -> None:
    scanner = MemberScanner({"data": Watch(measure=True), "usage": Watch(keep_bytes_max=100)})
    scanner.feed(b'{"data":[{"b64_json":"')
    for _ in range(200):
        scanner.feed(b"A" * 65_536)
        assert len(scanner._rest) == 0
    scanner.feed(b'"},{"b64_json":null}],"usage":{"total_tokens":7}}')
    scanner.finish()
    data, usage = scanner.members.values()
    assert (data.elements, data.characters) == (2, 200 * 65_536)
    assert usage.value == b'{"total_tokens":7}'


def test_a_member_is_seen_while_its_value_still_comes() -> None:
    scanner = MemberScanner({"data": Watch(measure=True)})
    scanner.feed(b'{"data":[{"b64_json":"AAA')
    member = scanner.members["data"]
    assert (member.end, member.elements) == (-1, 1)


@pytest.mark.parametrize(
    "body",
    [b'{"a":[1,2,3,4,5]}', b'{"a":["x","y","z"]}', b'{"a":[[1,2],[3]]}', b'{"a":["x\\n","y",1]}'],
)
def test_runs_count_as_single_elements_do(body: bytes) -> None:
    whole = scan(body).members["a"]
    assert outcome(scan(body, 1)) == outcome(scan(body))
    assert whole.elements == len(orjson.loads(body)["a"])


def test_runs_in_what_is_not_measured_are_passed_over() -> None:
    scanner = scan(b'{"a":[1,2,3],"b":["x","y",1]}', watched={"b": Watch(keep_bytes_max=99)})
    assert scanner.members["b"].elements == 0
    assert scanner.members["b"].value == b'["x","y",1]'


def test_the_scanner_asserts_its_own_state() -> None:
    scanner = MemberScanner({})
    with pytest.raises(AssertionError, match="kept"):
        scanner._keep(b"", 0)
    with pytest.raises(AssertionError, match="measured"):
        scanner._measure(b"")
    with pytest.raises(AssertionError, match="everywhere"):
        json_members._end(None)
