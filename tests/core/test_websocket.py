"""Frames are found alike however they are cut, and a peer of another make understands ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from proxy.core import websocket
from proxy.core.websocket import Control, FrameScanner, Message, Passing, Seen

MASK = b"\x01\x02\x03\x04"


def scan(scanner: FrameScanner, data: bytes, size: int) -> list[Seen]:
    seen: list[Seen] = []
    for start in range(0, len(data), size):
        seen += scanner.feed(data[start : start + size])
    return seen


def client() -> FrameScanner:
    return FrameScanner(masked=True, message_bytes_max=1_000)


def server(held: int = 100, most: int = 1_000) -> FrameScanner:
    return FrameScanner(masked=False, message_bytes_max=most, held_bytes_max=held)


def joined(seen: list[Seen]) -> list[Seen]:
    """What was passed on in several pieces, as one."""
    result: list[Seen] = []
    for one in seen:
        if isinstance(one, Passing) and result and isinstance(result[-1], Passing):
            raw = result[-1].raw + one.raw
            result[-1] = Passing(raw, one.in_frame, one.in_message)
        else:
            result.append(one)
    return result


TEXTS = st.lists(
    st.tuples(
        st.sampled_from([websocket.TEXT, websocket.BINARY]),
        st.lists(st.binary(max_size=90), min_size=1, max_size=3),
        st.booleans(),
    ),
    max_size=5,
)


def written(messages: list[tuple[int, list[bytes], bool]], mask: bytes) -> list[bytes]:
    """Frames of messages in fragments, some with a ping between."""
    frames = []
    for opcode, fragments, ping in messages:
        for number, payload in enumerate(fragments):
            last = number == len(fragments) - 1
            raw = websocket.frame(opcode if number == 0 else websocket.CONTINUATION, payload, mask)
            frames.append(raw if last else bytes([raw[0] & 0x7F]) + raw[1:])
            if ping:
                frames.append(websocket.frame(websocket.PING, b"p", mask))
    return frames


@given(TEXTS, st.integers(1, 50), st.sampled_from([MASK, b""]))
def test_nothing_is_lost_or_changed_however_it_is_cut(
    messages: list[tuple[int, list[bytes], bool]], size: int, mask: bytes
) -> None:
    frames = written(messages, mask)
    body = b"".join(frames)
    make = client if mask else server
    whole, cut = make(), make()
    seen = scan(whole, body, len(body) + 1)
    assert joined(scan(cut, body, size)) == joined(seen)
    assert whole.fault is cut.fault is None
    # Control frames may overtake a message that is held; everything else is in order.
    passed = b"".join(one.raw for one in seen if not isinstance(one, Control))
    assert passed == b"".join(raw for raw in frames if raw[0] & 0x0F != websocket.PING)
    controls = [one for one in seen if isinstance(one, Control)]
    assert all((one.opcode, one.payload) == (websocket.PING, b"p") for one in controls)
    texts = [
        b"".join(fragments)
        for opcode, fragments, _ in messages
        if opcode == websocket.TEXT and sum(map(len, fragments)) <= 100 and not mask
    ]
    assert [one.payload for one in seen if isinstance(one, Message)] == texts


def test_a_message_too_large_to_hold_passes_by() -> None:
    scanner = server(held=10)
    raw = websocket.frame(websocket.TEXT, b"x" * 11)
    assert joined(scan(scanner, raw, 4)) == [Passing(raw)]
    assert not scanner.in_message
    begun = websocket.frame(websocket.TEXT, b"x" * 6)
    begun = bytes([begun[0] & 0x7F]) + begun[1:]
    assert scanner.feed(begun) == []
    assert not scanner.in_message
    more = websocket.frame(websocket.CONTINUATION, b"y" * 5)
    assert joined(scanner.feed(more[:3])) == [
        Passing(begun + more[:3], in_frame=True, in_message=True)
    ]
    assert scanner.in_message
    assert scanner.in_frame
    assert joined(scanner.feed(more[3:])) == [Passing(more[3:])]
    assert not scanner.in_message
    assert not scanner.in_frame


def test_between_the_frames_of_a_message_another_frame_may_stand() -> None:
    scanner = client()
    raw = websocket.frame(websocket.TEXT, b"x", MASK)
    raw = bytes([raw[0] & 0x7F]) + raw[1:]
    assert scanner.feed(raw) == [Passing(raw, in_frame=False, in_message=True)]


FAULTS = {
    "reserved bit": (b"\xc1\x00", False, 1002, "reserved bit"),
    "unknown kind": (b"\x83\x00", False, 1002, "unknown kind"),
    "unknown control": (b"\x8b\x00", False, 1002, "unknown kind"),
    "not masked": (b"\x81\x00", True, 1002, "not masked"),
    "masked": (b"\x81\x80", False, 1002, "is masked"),
    "control in two": (b"\x09\x00", False, 1002, "cut or too long"),
    "long control": (b"\x89\x7e", False, 1002, "cut or too long"),
    "continuation of nothing": (b"\x80\x00", False, 1002, "continuation of nothing"),
    "message inside another": (b"\x01\x00\x81\x00", False, 1002, "message inside another"),
    "length of 16 bits for 125": (b"\x81\x7e\x00\x7d", False, 1002, "longer than need be"),
    "length of 64 bits for 65535": (
        b"\x81\x7f\0\0\0\0\0\0\xff\xff",
        False,
        1002,
        "longer than need be",
    ),
    "length of 64 bits": (b"\x81\x7f" + b"\xff" * 8, False, 1009, "larger than 1000 bytes"),
    "too large": (b"\x81\x7e\x03\xe9", False, 1009, "larger than 1000 bytes"),
    "too large in parts": (
        b"\x01\x7e\x03\xe8" + b"x" * 1_000 + b"\x80\x01",
        False,
        1009,
        "larger than 1000 bytes",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_believed_has_a_close_code(name: str) -> None:
    data, masked, code, reason = FAULTS[name]
    for size in (1, 2, 5, 5_000):
        scanner = client() if masked else server()
        scan(scanner, data + b"\0" * 20, size)
        assert scanner.fault is not None
        assert scanner.fault.code == code
        assert reason in scanner.fault.reason
        assert scanner.feed(b"\x81\x00") == []


def test_what_came_before_a_fault_is_told() -> None:
    scanner = server()
    ping = websocket.frame(websocket.PING, b"")
    assert scanner.feed(ping + b"\x83\x00") == [Control(ping, websocket.PING, b"")]


def test_masked_messages_are_not_looked_at() -> None:
    with pytest.raises(AssertionError, match="masked"):
        FrameScanner(masked=True, message_bytes_max=1, held_bytes_max=1)


@pytest.mark.parametrize("mask", [b"", MASK])
@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 65_535, 65_536, 100_003])
def test_another_make_reads_our_frames(size: int, mask: bytes) -> None:
    payload = bytes(number & 0xFF for number in range(size))
    reader = StreamReader()
    reader.feed_data(websocket.frame(websocket.BINARY, payload, mask))
    parsing = Frame.parse(reader.read_exact, mask=bool(mask))
    with pytest.raises(StopIteration) as stopped:
        next(parsing)
    assert stopped.value.value == Frame(Opcode.BINARY, payload)


def test_closing_has_a_code_and_a_reason() -> None:
    payload = websocket.close_payload(websocket.POLICY, "é" * 100)
    assert len(payload) <= websocket.CONTROL_BYTES_MAX
    assert payload[2:].decode() == "é" * 61
    assert websocket.close_code(payload) == 1008
    assert websocket.close_code(b"") == websocket.close_code(b"\x03") == websocket.NO_CODE


HEADERS = {
    "connection": "keep-alive, Upgrade",
    "upgrade": "WebSocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_handshake_is_that_of_the_specification() -> None:
    assert websocket.upgrade_key("GET", HEADERS) == "dGhlIHNhbXBsZSBub25jZQ=="
    assert websocket.accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    response = ServerProtocol().accept(
        Request("/", Headers(HEADERS | {"host": "x"})),
    )
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("connection", "keep-alive"),
        ("upgrade", "h2c"),
        ("sec-websocket-version", "8"),
        ("sec-websocket-key", ""),
        ("sec-websocket-key", "dGhl"),
        ("sec-websocket-key", "not base64 at all!!!!!!!"),
    ],
)
def test_another_request_opens_none(name: str, value: str) -> None:
    assert websocket.upgrade_key("GET", HEADERS | {name: value}) is None
    assert websocket.upgrade_key("POST", HEADERS) is None
    assert websocket.upgrade_key("GET", {}) is None
