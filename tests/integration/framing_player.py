"""Plays a framing case at a server and says what came back, extra answers and all.

After the expected answers a probe request follows where the connection may stay open: its answer
must be the next and last one, or a smuggled request was answered before it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tests.corpora.framing import FramingCase
from tests.integration.raw_client import RawClient, RawResponse, parse_response, responses

SENDING_SECONDS_MAX = 1.0
PROBE_PATH = "/probe-for-what-came-before"
_PROBE = (f"GET {PROBE_PATH} HTTP/1.1\r\nHost: relay.test\r\nConnection: close\r\n\r\n").encode()


@dataclass(frozen=True, slots=True)
class Played:
    """What a server did. `answers` are its final responses; `probe` the answer to the probe."""

    answers: tuple[RawResponse, ...]
    probe: RawResponse | None
    raw: bytes

    @property
    def statuses(self) -> tuple[int, ...]:
        """The statuses, in order."""
        return tuple(answer.status for answer in self.answers)

    @property
    def closed(self) -> bool:
        """Whether the server closed without answering the probe."""
        return self.probe is None


def play(port: int, case: FramingCase, key: str, *, write_bytes: int | None = None) -> Played:
    """Send the case and collect everything to the end of the connection.

    Raises TimeoutError when the server neither answers nor closes.
    """
    request = case.request(key)
    head_only = case.name.startswith(("head-", "method-head"))
    wanted = max(len(case.statuses), *(len(also) for also in case.also), 0)
    with RawClient(port) as client:
        # A server may refuse early and stop reading: sending must not wait for that.
        sender = threading.Thread(target=client.send, args=(request, write_bytes))
        sender.start()
        if case.fin:
            sender.join()
            client.half_close()
        client.read_until(lambda data: not case.fin and _enough(data, wanted, head_only=head_only))
        if client.ended is None:
            # Not into the middle of what is still being sent, unless nobody reads that any more.
            sender.join(SENDING_SECONDS_MAX)
            client.send(_PROBE)
            if case.statuses[-1:] == (413,) or 408 in _statuses(
                client.received, head_only=head_only
            ):
                # The server reads on for a while, so that the refusal is not lost to a reset.
                client.half_close()
            client.read_all()
        sender.join()
        raw = bytes(client.received)
    answers = _answers(raw, head_only=head_only)
    probe = None
    if answers and not case.fin and PROBE_PATH.encode() in answers[-1].body:
        probe = answers.pop()
    return Played(tuple(answers), probe, raw)


def _enough(data: bytes, wanted: int, *, head_only: bool) -> bool:
    found = _answers(data, head_only=head_only)
    return bool(found) and (
        (len(found) >= wanted and all(each.whole for each in found))
        or (found[-1].whole and found[-1].status >= 400)
    )


def _answers(data: bytes, *, head_only: bool) -> list[RawResponse]:
    """All answers; the first of a HEAD request has no body, whatever its headers say."""
    if not head_only:
        return list(responses(data))
    first = parse_response(data, method="HEAD")
    return [] if first is None else [first, *responses(first.rest)]


def _statuses(data: bytes | bytearray, *, head_only: bool) -> list[int]:
    return [answer.status for answer in _answers(bytes(data), head_only=head_only)]


def one_of(expected: Sequence[Sequence[int]], statuses: Sequence[int]) -> bool:
    """Whether `statuses` is one of the sequences expected."""
    return tuple(statuses) in {tuple(each) for each in expected}
