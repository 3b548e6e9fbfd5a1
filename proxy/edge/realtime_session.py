"""A realtime session while it lasts: frames both ways as they came, and a bill per response.

Rules: whoever reads slowly makes the other side wait; nothing is kept but what has to be looked at.
A `response.done` reaches the client only after its charge is committed, and the next response is
held for before anything else passes. We end a session by an `error` event, where a message of ours
may stand, and a close frame whose code tells an SDK whether to come back. This module must not
know how a session is opened, nor SQL.

Sources: RFC 6455 sections 5.5.1 (closing) and 7.4.1 (codes); openai-python
`types/realtime/realtime_error_event.py` and `types/websocket_reconnection.py` (1001, 1011, 1012
and 1013 are come back from).
"""

import asyncio
import contextlib
from collections import deque
from typing import Final

from proxy.core import websocket
from proxy.core.entities import Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.realtime import Moment
from proxy.core.redact import REDACTED
from proxy.core.websocket import Control, FrameFault, FrameScanner, Message, Passing, Seen
from proxy.edge import settlement
from proxy.edge.downstream import Downstream
from proxy.edge.open_call import Notice
from proxy.edge.realtime_account import RealtimeAccount
from proxy.edge.realtime_ends import close_frame, cut_for, error_frame, failed_with
from proxy.edge.realtime_turn import Served
from proxy.edge.realtime_upstream import UpstreamLine
from proxy.edge.settlement import Ended
from proxy.edge.world import World
from proxy.storage.ports import Opening

MESSAGE_BYTES_MAX: Final = 16 << 20
"""OpenAI takes 15 MiB of sound in one event; base64 and its frame are within this."""
PING_SECONDS: Final = 20.0
"""Silence of a side after which it is asked whether it is there."""
SILENCE_SECONDS_MAX: Final = 65.0
"""Silence of a side after which it is gone: three pings without an answer."""
CLOSE_SECONDS_MAX: Final = 2.0
"""How long a closing side may take to say so too."""
BACKLOG_BYTES_MAX: Final = 1 << 20
"""What waits for a commit or for credit beyond what one read of the upstream holds."""
SECRET_BYTES_MIN: Final = 4
"""Shorter than this is no secret (core/redact.py)."""
_OUR_PING: Final = b"sluice"


class RealtimeSession:
    """See the module docstring. Made with the first response admitted; `run` carries it."""

    def __init__(self, world: World, client: Downstream, account: RealtimeAccount) -> None:
        self.world = world
        self.client = client
        self.account = account
        self.ended: Ended | None = None
        self.line: UpstreamLine | None = None
        self.opening_line: asyncio.Task[UpstreamLine] | None = None
        """The upstream's session being opened: nobody waits for it once this one has ended."""
        self.quiet_until = 0.0
        """Its deadlines are looked at in every round."""
        self._meter = account.meter
        self._sent = FrameScanner(masked=True, message_bytes_max=MESSAGE_BYTES_MAX)
        self._came = FrameScanner(
            masked=False,
            message_bytes_max=MESSAGE_BYTES_MAX,
            held_bytes_max=world.bounds.event_bytes_max,
        )
        self._backlog: deque[Seen] = deque()
        self._waiting: tuple[Moment, Message] | None = None
        """A message that passes when what it says is billed."""
        self._passed = Passing(b"")
        """What of a message that is not looked at went to the client last."""
        self._pumping = self._line_gone = False
        self._waker: asyncio.Future[None] | None = None
        self._closing = False
        """Whether a side has said farewell."""
        self._close_until: float | None = None
        self._client_heard = self._line_heard = world.loop.time()
        self._client_pinged = self._line_pinged = world.loop.time()
        self._client_paused_at: float | None = None
        self._line_paused_at: float | None = None

    @property
    def opening(self) -> Opening:
        """Whose response is open."""
        return self.account.turn.opening

    @property
    def _served(self) -> Served | None:
        return None if self.line is None else self.line.served

    def begin(self, line: UpstreamLine) -> None:
        """The upstream's session is open: from now on both sides are listened to."""
        self.line = line
        self._client_heard = self._line_heard = self.world.loop.time()
        self._client_pinged = self._line_pinged = self._line_heard

    # The life

    async def run(self) -> None:
        """Carry the session to its end; settles whatever is open when it returns."""
        try:
            while self.ended is None:
                if self._waiting is not None:
                    await self._bill(*self._waiting)
                else:
                    await self._changed()
            self.account.settle(self.ended, self._served)
            with contextlib.suppress(RelayError):
                await self.account.pay(self._served)
            while self._close_until is not None:
                await self._changed()
        finally:
            ended = settlement.INTERNAL_ERROR if self.ended is None else self.ended
            self.account.settle(ended, self._served)
            if self.line is not None:
                self.line.abort()

    async def _bill(self, moment: Moment, message: Message) -> None:
        """Settle what `message` ends, let it pass, and hold for what comes next."""
        account, size = self.account, len(message.raw)
        try:
            if moment is Moment.TRANSCRIBED:
                await account.bill_transcription(size, self._served)
            else:
                await account.end_response(size, self._served)
            if self.ended is not None:
                return
            self.client.raw(message.raw)
            if moment is Moment.DONE:
                await account.next_response(self._served)
        except RelayError as error:
            self._end(failed_with(error))
            return
        self._waiting = None
        self._pump()

    async def _changed(self) -> None:
        self._waker = self.world.loop.create_future()
        await self._waker

    def _wake(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    # From the client

    def client_data(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self._client_heard = self.world.loop.time()
        line = self.line
        for seen in self._sent.feed(data):
            if isinstance(seen, Control):
                self._client_control(seen)
            elif self.ended is None and line is not None:
                self._meter.sent(len(seen.raw))
                line.write(seen.raw)
        if self._sent.fault is not None and self.ended is None:
            self._broken(self._sent.fault)

    def _client_control(self, control: Control) -> None:
        if control.opcode == websocket.CLOSE:
            self._closed(control, by_client=True)
        elif control.payload != _OUR_PING and self.line is not None and self.ended is None:
            self.line.write(control.raw)

    def client_lost(self, unsent_bytes: int) -> None:
        """The client is gone without a word."""
        del unsent_bytes
        self._close_until = None
        self._end(settlement.CLIENT_GONE)

    def client_paused(self) -> None:
        """The client reads slower than the upstream speaks."""
        self._client_paused_at = self.world.loop.time()
        self._breathe()

    def client_resumed(self) -> None:
        """There is room again."""
        self._client_paused_at = None
        self._breathe()

    # From the upstream

    def line_data(self, data: bytes) -> None:
        """Look at what the upstream sent, and pass it on."""
        self._line_heard = self.world.loop.time()
        self._backlog.extend(self._came.feed(data))
        self._pump()

    def line_lost(self) -> None:
        """The upstream is gone without a word; what it said before may still pass."""
        self._line_gone = True
        self._pump()

    def line_paused(self) -> None:
        """The upstream reads slower than the client speaks."""
        self._line_paused_at = self.world.loop.time()
        self.client.connection.pause_reading()

    def line_resumed(self) -> None:
        """There is room again."""
        self._line_paused_at = None
        self.client.connection.resume_reading()

    def _pump(self) -> None:
        """Pass on what may pass; stop at what has to be billed, or is not held for."""
        if self._pumping:
            return
        self._pumping = True
        backlog = self._backlog
        while backlog and self._waiting is None and not self.account.at_edge and self.ended is None:
            seen = backlog.popleft()
            if isinstance(seen, Control):
                self._line_control(seen)
            elif isinstance(seen, Message):
                self._look(seen)
            else:
                self._passed = seen
                self.client.raw(seen.raw)
        self._pumping = False
        if not backlog and self._waiting is None and self.ended is None:
            self._look_for_an_end()
        self._breathe()

    def _look_for_an_end(self) -> None:
        """See, once all has passed, whether more can come."""
        fault = self._came.fault
        if fault is not None:
            text = f"The upstream's frames are unusable: {fault.reason}."
            self._end(Ended(Verdict.UPSTREAM_ERROR, RelayError(ErrorCode.UPSTREAM_ERROR, text)))
        elif self._line_gone:
            error = RelayError(ErrorCode.UPSTREAM_TRUNCATED, "The upstream closed the session.")
            self._end(Ended(Verdict.UPSTREAM_TRUNCATED, error))

    def _look(self, message: Message) -> None:
        message = self._without_secret(message)
        moment = self._meter.look(message.payload)
        if moment is Moment.DONE or moment is Moment.TRANSCRIBED:
            self._waiting = (moment, message)
            self._wake()
            return
        if moment is Moment.CONFIGURED:
            error = self.account.unpriced()
            if error is not None:
                self._end(Ended(Verdict.REJECTED, error))
                return
        if moment is Moment.DELIVERS:
            self.account.turn.delivered(len(message.raw))
        self.client.raw(message.raw)
        if moment is not Moment.NOTHING and not self.account.watch_hold(self._extended):
            self.cut(self.account.shortage)

    def _without_secret(self, message: Message) -> Message:
        """Return a message without the channel's key, should the upstream have put it there."""
        served = self._served
        secret = b"" if served is None else served.key.secret.encode()
        if len(secret) < SECRET_BYTES_MIN or secret not in message.payload:
            return message
        payload = message.payload.replace(secret, REDACTED.encode())
        return Message(websocket.frame(websocket.TEXT, payload), payload)

    def _line_control(self, control: Control) -> None:
        if control.opcode == websocket.CLOSE:
            self._closed(control, by_client=False)
        elif control.payload != _OUR_PING:
            self.client.raw(control.raw)

    def _extended(self) -> None:
        """The keeper has answered: go on, or end."""
        account = self.account
        if not account.at_edge or self.ended is not None:
            return
        if account.watch_hold(self._extended):
            self._pump()
        else:
            self.cut(self.account.shortage)

    def _breathe(self) -> None:
        """Read the upstream while what it says can pass."""
        if self.line is None:
            return
        size = sum(len(seen.raw) for seen in self._backlog)
        if self._client_paused_at is not None or size > BACKLOG_BYTES_MAX or self.account.at_edge:
            self.line.pause()
        else:
            self.line.resume()

    # Time

    def tick(self, now: float) -> None:
        """Look at every deadline of the session."""
        if self.line is None:
            return
        if self.ended is not None:
            if self._close_until is not None and now >= self._close_until:
                self._close_until = None
                self._wake()
            return
        bounds = self.world.bounds
        stalled = (self._client_paused_at, self._line_paused_at)
        if any(
            since is not None and now - since >= bounds.write_stall_seconds_max for since in stalled
        ):
            self.client.abort()
            return
        if self.world.draining and not self._meter.in_response and self._waiting is None:
            self.cut(Notice.SHUTDOWN)
            return
        self._ask(now)
        if self._meter.in_response:
            self.account.turn.mark(self.account.made(), self._served, now)

    def _ask(self, now: float) -> None:
        """Ask a silent side whether it is there; after long silence it is not."""
        if now - self._client_heard >= SILENCE_SECONDS_MAX:
            self.client.abort()
        elif now - self._line_heard >= SILENCE_SECONDS_MAX:
            error = RelayError(ErrorCode.UPSTREAM_TIMEOUT, "The upstream fell silent.")
            self._end(Ended(Verdict.TIMEOUT, error))
        if now - max(self._client_heard, self._client_pinged) >= PING_SECONDS:
            self._client_pinged = now
            if not self._passed.in_frame:
                self.client.raw(websocket.frame(websocket.PING, _OUR_PING))
        if now - max(self._line_heard, self._line_pinged) >= PING_SECONDS:
            self._line_pinged = now
            self._say(websocket.PING, _OUR_PING)

    # The end

    def cut(self, notice: Notice) -> None:
        """End the session for a reason of ours."""
        self._end(cut_for(notice))

    def _broken(self, fault: FrameFault) -> None:
        """The client does not speak WebSocket, or too much at once."""
        code = ErrorCode.REQUEST_TOO_LARGE
        if fault.code != websocket.TOO_BIG:
            code = ErrorCode.INVALID_REQUEST
        error = RelayError(code, f"The session was ended for {fault.reason}.")
        self._end(Ended(Verdict.REJECTED, error), fault.code)

    def _closed(self, control: Control, *, by_client: bool) -> None:
        """A side has said farewell: tell the other, and answer in kind."""
        if self._closing:
            self._close_until = None
            self._wake()
            return
        self._closing = True
        self._say(websocket.CLOSE, control.payload)
        if by_client:
            if not self._passed.in_frame:
                self.client.raw(websocket.frame(websocket.CLOSE, control.payload))
            busy = settlement.CLIENT_GONE
        else:
            self.client.raw(control.raw)
            error = RelayError(ErrorCode.UPSTREAM_TRUNCATED, "The upstream closed the session.")
            busy = Ended(Verdict.UPSTREAM_TRUNCATED, error)
            self._linger()
        self.ended = busy if self._meter.in_response else settlement.COMPLETE
        self._wake()

    def _end(self, ended: Ended, code: int | None = None) -> None:
        """End the session; tell the client why, if somebody is there to be told."""
        if self.ended is None:
            self.ended = ended
            if self.line is not None:
                self._farewell(ended.error, code)
            elif self.opening_line is not None:
                self.opening_line.cancel()
        self._wake()

    def _farewell(self, error: RelayError | None, code: int | None) -> None:
        """Tell both sides of an end that neither of them made."""
        if error is not None and not self.client.gone:
            if not self._passed.in_message:
                self.client.raw(error_frame(error, self.opening.call_id))
            if not self._passed.in_frame:
                self.client.raw(close_frame(error, code))
            self._closing = True
            self._linger()
        self._say(websocket.CLOSE, websocket.close_payload(websocket.NORMAL, ""))

    def _linger(self) -> None:
        self._close_until = self.world.loop.time() + CLOSE_SECONDS_MAX
        self._wake()

    def _say(self, opcode: int, payload: bytes) -> None:
        """Say something of our own to the upstream, where a frame may begin."""
        if self.line is not None and not self._sent.in_frame:
            mask = self.world.rng.randbytes(4)
            self.line.write(websocket.frame(opcode, payload, mask))
