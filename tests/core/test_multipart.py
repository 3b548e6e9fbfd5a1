"""Forms are read alike however they are cut, as the standard library reads them, or not at all."""

import email.parser
import email.policy
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import multipart
from proxy.core.multipart import Field, FilePart, FormScanner, Sink
from tests.corpora.forms import BOUNDARY, FormCase, forms

GOOD = [case for case in forms() if case.fault is None]
BAD = [case for case in forms() if case.fault is not None]


class Kept:
    """A sink that keeps what it sees."""

    def __init__(self) -> None:
        self.data = b""

    def feed(self, piece: bytes) -> None:
        self.data += piece


def scan(
    body: bytes, size: int, watch: Callable[[FilePart], Sink | None] | None = None
) -> FormScanner:
    boundary = BOUNDARY.encode()
    scanner = FormScanner(boundary) if watch is None else FormScanner(boundary, watch)
    for start in range(0, len(body), size):
        scanner.feed(body[start : start + size])
    scanner.finish()
    return scanner


def outcome(scanner: FormScanner) -> tuple[object, ...]:
    return scanner.fault, scanner.complete, scanner.first, scanner.fields, scanner.files


def sizes(body: bytes) -> tuple[int, ...]:
    return (1, 2, 7, 64, 1_000, len(body) + 1) if len(body) < 30_000 else (1_000, len(body))


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_what_is_in_a_form_is_found_where_it_is(case: FormCase) -> None:
    body = case.body
    whole = scan(body, len(body))
    assert whole.fault is None
    assert whole.complete
    assert [(field.name, field.value) for field in whole.fields] == [
        (name, value.encode()) for name, value in case.fields
    ]
    assert [(file.name, file.filename, file.size) for file in whole.files] == list(case.files)
    for size in sizes(body):
        assert outcome(scan(body, size)) == outcome(whole)
    for field in whole.fields:
        assert body[field.start : field.end] == field.value
        assert field.narrow + field.wide == len((field.value or b"").decode())
    for file in whole.files:
        assert body[file.start : file.end][: multipart.FILE_HEAD_BYTES_MAX] == file.head


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.name)
def test_what_is_wrong_with_a_form_has_a_name(case: FormCase) -> None:
    body = case.body
    whole = scan(body, max(1, len(body)))
    assert whole.fault is not None
    assert whole.fault.kind == case.fault
    assert 0 <= whole.fault.offset <= len(body)
    assert whole.fault.problem.isprintable()
    for size in sizes(body):
        assert scan(body, size).fault == whole.fault


def test_the_corpus_is_large_and_its_names_unique() -> None:
    assert len(BAD) >= 60
    assert len({case.name for case in forms()}) == len(forms())


CONTENTS = st.binary(max_size=60) | st.lists(
    st.sampled_from([b"\r\n", b"--", b"-", b"\r", b"\n", BOUNDARY[:3].encode(), b"x", b"\r\n--"]),
    max_size=12,
).map(b"".join)
WORDS = st.text("abcxyz[]-_ é日", min_size=1, max_size=8).filter(lambda text: text.strip() == text)


@given(
    st.lists(st.tuples(WORDS, CONTENTS, st.none() | WORDS), min_size=1, max_size=5),
    st.integers(1, 40),
)
def test_the_standard_library_finds_the_same(
    parts: list[tuple[str, bytes, str | None]], size: int
) -> None:
    marker = b"--" + BOUNDARY.encode()
    parts = [part for part in parts if marker not in part[1] + b"\r\n"] or [("a", b"", None)]
    pieces = []
    for name, content, filename in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\n'
        pieces.append(marker + b"\r\n" + head.encode() + b"\r\n" + content + b"\r\n")
    body = b"".join(pieces) + marker + b"--\r\n"
    seen: list[Kept] = []

    def watch(file: FilePart) -> Sink | None:
        seen.append(Kept())
        return seen[-1]

    scanner = scan(body, size, watch)
    assert scanner.fault is None
    header = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(header + body)
    found = [part.get_payload(decode=True) for part in message.iter_parts()]
    files = iter(seen)
    here: list[Field | FilePart] = [*scanner.fields, *scanner.files]
    here.sort(key=lambda part: part.start)
    mine = [part.value if isinstance(part, Field) else next(files).data for part in here]
    assert len(mine) == len(parts)
    assert mine == [content for _, content, _ in parts]
    assert len(found) == len(parts)
    for theirs, (_, content, _) in zip(found, parts, strict=True):
        if b"\r" not in content and b"\n" not in content:  # It mends line ends.
            assert theirs == content


@given(
    st.lists(
        st.sampled_from(
            [
                b"--" + BOUNDARY.encode(),
                b"\r\n",
                b"\n",
                b"--",
                b"-",
                b'Content-Disposition: form-data; name="a"',
                b'; filename="f"',
                b"\r\n\r\n",
                b"x",
                b"",
                b" ",
                b":",
                BOUNDARY.encode(),
            ]
        ),
        max_size=14,
    ).map(b"".join),
    st.integers(1, 9),
)
def test_any_cut_of_anything_gives_the_same(body: bytes, size: int) -> None:
    whole, cut = scan(body, len(body) + 1), scan(body, size)
    assert outcome(whole) == outcome(cut)


def test_files_pass_by_in_constant_memory() -> None:
    kept: list[int] = []

    class Count:
        def feed(self, piece: bytes) -> None:
            kept.append(len(piece))

    scanner = FormScanner(b"b", lambda _file: Count())
    scanner.feed(b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n')
    for _ in range(100):
        scanner.feed(b"\0" * 65_536)
        assert len(scanner._rest) < 10
    scanner.feed(b"\r\n--b--")
    scanner.finish()
    assert scanner.fault is None
    assert sum(kept) == scanner.files[0].size == 100 * 65_536


def test_a_field_above_its_bound_is_measured_but_not_kept() -> None:
    text = "é" * multipart.FIELD_BYTES_MAX
    body = (
        b'--xYzZY\r\nContent-Disposition: form-data; name="f"\r\n\r\n%b\r\n--xYzZY--'
        % text.encode()
    )
    for size in (1, 100, len(body)):
        (field,) = scan(body, size).fields
        assert (field.value, field.narrow, field.wide) == (None, 0, len(text))


def test_after_a_fault_nothing_is_read_any_more() -> None:
    scanner = FormScanner(b"b")
    scanner.feed(b"x--b")
    fault = scanner.fault
    scanner.feed(b"\r\n")
    scanner.finish()
    assert scanner.fault is fault
    assert scanner.size == 4


def test_the_scanner_asserts_its_own_state() -> None:
    with pytest.raises(AssertionError, match="no part"):
        FormScanner(b"b")._data(b"", 0)
