"""Plays a framing case at a server and says what came back, extra answers and all.

After the expected answers a probe request follows where the connection may stay open: its answer
must be the next and last one, or a smuggled request was answered before it.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from tests.corpora.framing import FramingCase
from tests.integration.raw_client import RawClient, RawResponse, responses

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
    wanted = max(len(case.statuses), *(len(also) for also in case.also), 0)
    with RawClient(port) as client:
        # A server may refuse early and stop reading: sending must not wait for that.
        sender = threading.Thread(target=client.send, args=(request, write_bytes))
        sender.start()
        if case.fin:
            sender.join()
            client.half_close()
        client.read_until(lambda data: not case.fin and _enough(data, wanted))
        if client.ended is None:
            client.send(_PROBE)
            client.read_all()
        sender.join()
        raw = bytes(client.received)
    answers = list(responses(raw))
    probe = None
    if answers and not case.fin and PROBE_PATH.encode() in answers[-1].body:
        probe = answers.pop()
    return Played(tuple(answers), probe, raw)


def _enough(data: bytes, wanted: int) -> bool:
    found = list(responses(data))
    return bool(found) and (
        (len(found) >= wanted and all(each.whole for each in found))
        or (found[-1].whole and found[-1].status >= 400)
    )


def one_of(expected: Sequence[Sequence[int]], statuses: Sequence[int]) -> bool:
    """Whether `statuses` is one of the sequences expected."""
    return tuple(statuses) in {tuple(each) for each in expected}
