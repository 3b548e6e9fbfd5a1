"""Checks one received answer against its script, byte by byte, and reads the stamps in it.

Rules: strict. A wrong status, a framing error, a missing, extra or different byte is a mismatch
with a reason. The only additions allowed are SSE comments and Anthropic pings between events
(heartbeats, which a relay may add). Runs after the measurement, never during it.
"""

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from benchmarks.script import (
    ANTHROPIC,
    STAMP_BYTES,
    STAMP_MASK,
    Frames,
    Script,
    plain_answer,
    texts,
)

_PING = b"event: ping\n"


@dataclass(slots=True)
class Answer:
    """What one connection received for one call: pieces with arrival times (monotonic ns)."""

    script: Script
    sent_at: int = 0
    usage_asked: bool = False
    pieces: list[bytes] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check; times in nanoseconds.

    `lateness`: arrival minus stamp for every content event. `terminal_wait`: arrival of the last
    byte minus the stamp of the finish event. `total_ttft`: request written to first content.
    """

    error: str = ""
    events: int = 0
    heartbeats: int = 0
    lateness: tuple[int, ...] = ()
    terminal_wait: int = 0
    total_ttft: int = 0


def response_end(data: bytes) -> int | None:
    """Where the response at the start of `data` ends; None if more bytes are needed.

    -1 says: chunked, so it ends where the data ends in the last chunk.
    """
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = data[:head_end].lower()
    start = head.find(b"\r\ncontent-length:")
    if start < 0:
        return -1
    line_end = head.find(b"\r\n", start + 2)
    return head_end + 4 + int(head[start + 17 : line_end if line_end > 0 else head_end])


def check_plain(answer: Answer) -> Finding:
    """A small JSON answer must be exactly what the mock wrote."""
    if answer.error:
        return Finding(error=answer.error)
    status, body, problem = _unframe(b"".join(answer.pieces))
    if problem or status != 200:
        return Finding(error=problem or f"status {status}: {body[:200]!r}")
    if body != plain_answer(answer.script):
        return Finding(error=f"body differs: {body[:200]!r}")
    return Finding(total_ttft=answer.arrivals[-1] - answer.sent_at)


def check_stream(answer: Answer) -> Finding:
    """Every event must be there, in order, byte for byte, with nothing between but heartbeats."""
    if answer.error:
        return Finding(error=answer.error)
    raw = b"".join(answer.pieces)
    status, body, problem = _unframe(raw)
    if problem or status != 200:
        return Finding(error=problem or f"status {status}: {body[:200]!r}")
    frames = Frames(answer.script, usage_asked=answer.usage_asked, chunked=False)
    position = count = heartbeats = 0
    stamps: list[int] = []
    ends: list[int] = []
    for before, after in frames.expected():
        while body.startswith((b":", _PING), position):
            position = body.find(b"\n\n", position) + 2
            heartbeats += 1
        if not body.startswith(before, position):
            return Finding(error=_differs(count, before, body[position : position + 400]))
        position += len(before)
        if after is not None:
            stamp = body[position : position + STAMP_BYTES]
            position += STAMP_BYTES
            if len(stamp) < STAMP_BYTES or not body.startswith(after, position):
                return Finding(error=_differs(count, after, body[position : position + 60]))
            stamps.append(int(stamp, 16))
            position += len(after)
            ends.append(position)
        count += 1
    if position != len(body):
        return Finding(error=f"{len(body) - position} bytes too many: {body[position:][:120]!r}")
    return _timed(answer, raw, stamps, ends, (count, heartbeats))


def check_translated(answer: Answer) -> Finding:
    """A stream in the caller's dialect must say each of the mock's texts in an event of its own,
    end once, and hold nothing else; the stamps do not survive a translation. Events are the content
    events alone, which makes each of them rather too dear.
    """
    if answer.error:
        return Finding(error=answer.error)
    raw = b"".join(answer.pieces)
    status, body, problem = _unframe(raw)
    if problem or status != 200:
        return Finding(error=problem or f"status {status}: {body[:200]!r}")
    to_messages = answer.script.caller == ANTHROPIC
    said, ends, last = [], [], b""
    for event in body.removesuffix(b"\n\n").split(b"\n\n"):
        last = event.rpartition(b"data: ")[2]
        if event.startswith((b":", _PING)) or last == b"[DONE]":
            continue
        text, end = (_of_messages if to_messages else _of_chat)(json.loads(last))
        said += [text] if text else []
        ends += [end] if end else []
    wanted = texts(answer.script)
    if said != [wanted[index & 63] for index in range(answer.script.events)]:
        return Finding(error=f"other texts: {len(said)} pieces, {said[:3]!r}")
    if ends != ["end_turn" if to_messages else "stop"]:
        return Finding(error=f"ended by {ends}")
    if last != (b'{"type":"message_stop"}' if to_messages else b"[DONE]"):
        return Finding(error=f"the last event is {last[:80]!r}")
    return Finding(events=len(said), total_ttft=answer.arrivals[0] - answer.sent_at)


def _of_chat(event: dict[str, Any]) -> tuple[str | None, str | None]:
    """The text and the reason to end in an event, if any."""
    for choice in event["choices"]:
        return choice["delta"].get("content"), choice["finish_reason"]
    return None, None


def _of_messages(event: dict[str, Any]) -> tuple[str | None, str | None]:
    delta = event.get("delta", {})
    return delta.get("text"), delta.get("stop_reason")


def _timed(
    answer: Answer, raw: bytes, stamps: list[int], ends: list[int], counts: tuple[int, int]
) -> Finding:
    """Find when the piece that completes each event arrived."""
    bounds: list[int] = []
    total = 0
    for piece in answer.pieces:
        total += len(piece)
        bounds.append(total)
    positions = _raw_positions(raw, ends)
    arrivals = [answer.arrivals[bisect_left(bounds, position)] for position in positions]
    late = [(at - stamp) & STAMP_MASK for at, stamp in zip(arrivals, stamps, strict=True)]
    content = late[:-1]
    return Finding(
        events=counts[0],
        heartbeats=counts[1],
        lateness=tuple(content),
        terminal_wait=(answer.arrivals[-1] - stamps[-1]) & STAMP_MASK,
        total_ttft=arrivals[0] - answer.sent_at,
    )


def _raw_positions(raw: bytes, ends: list[int]) -> list[int]:
    """Where the body offsets `ends` lie in the framed response."""
    found: list[int] = []
    position = raw.find(b"\r\n\r\n") + 4
    if response_end(raw) != -1:
        return [position + end for end in ends]
    consumed = 0
    wanted = iter(ends)
    end = next(wanted, None)
    while end is not None:
        line_end = raw.find(b"\r\n", position)
        size = int(raw[position:line_end], 16)
        while end is not None and end <= consumed + size:
            found.append(line_end + 2 + end - consumed)
            end = next(wanted, None)
        consumed += size
        position = line_end + 2 + size + 2
    return found


def _unframe(raw: bytes) -> tuple[int, bytes, str]:
    """Status, body without chunk framing, and what is wrong with the framing."""
    end = response_end(raw)
    if end is None or not raw.startswith(b"HTTP/1.1 "):
        return 0, raw[:200], f"no response head: {raw[:120]!r}"
    status = int(raw[9:12])
    position = raw.find(b"\r\n\r\n") + 4
    if end != -1:
        problem = "" if len(raw) == end else f"{len(raw) - end:+d} bytes against content-length"
        return status, raw[position:end], problem
    body: list[bytes] = []
    while True:
        line_end = raw.find(b"\r\n", position)
        digits = raw[position:line_end]
        if line_end < 0 or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return status, b"".join(body), f"chunk size expected at {position}: {digits[:40]!r}"
        size = int(digits, 16)
        start = line_end + 2
        if raw[start + size : start + size + 2] != b"\r\n":
            return status, b"".join(body), f"chunk not closed at {start + size}"
        position = start + size + 2
        if not size:
            problem = "" if position == len(raw) else f"{len(raw) - position} bytes after the end"
            return status, b"".join(body), problem
        body.append(raw[start : start + size])


def _differs(event: int, expected: bytes, found: bytes) -> str:
    return f"event {event} differs: expected {expected[:160]!r}, got {found[:160]!r}"
