"""An exact count of the text a client was sent, in constant memory.

Rules: text is remembered event by event with its size on the wire; `advance` counts what left
this machine and keeps the rest. Each *run* (a choice's content, its reasoning, one tool call,
one Anthropic block) is tokenised apart, because tokens never span two of them. A run is cut into
windows only where no token can straddle the cut, so windowed counts equal whole counts; a run
that offers no such place for `WINDOW_CHARACTERS_MAX` is cut there, at the price of a token or two.

An ordinary event costs one `add_openai` or `add_anthropic`: two list appends. The caller calls
`advance` at least once per `PENDING_BYTES_MAX` written; that, and what its write buffer may hold
unsent, bounds the pending texts. This module must not know who pays, nor any token table.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from proxy.core.deltas import AnthropicEvent, OpenAIChunk, RunKey

PENDING_BYTES_MAX: Final = 262_144
"""The caller advances after at most so many written bytes."""
WINDOW_CHARACTERS_MAX: Final = 65_536
"""The longest text without a safe cut that a run keeps uncounted."""
RUNS_MAX: Final = 256
"""Runs counted apart in one call; any further ones share a last run."""
UNREAD_BYTES_PER_TOKEN: Final = 4
"""What a token of text weighs where an event was too large to be read."""

_SHARED_RUN: Final[RunKey] = (-1, "shared", 0)
_UNREAD_RUN: Final[RunKey] = (-2, "unread", 0)
MAIN_RUN: Final[RunKey] = (0, "text", 0)
"""Where text goes that is of the first choice or block: nearly all."""

# Read backwards: the reversed text is searched forwards, so the last cut is found first. In
# both published split patterns (o200k_base, cl100k_base) no pre-token holds anything but white
# space before a U+0020, and none goes from a letter on into a line feed or a CJK mark; what
# precedes the cut ends without white space, so no look-ahead reaches over it.
_CUT_BACKWARDS: Final = re.compile(
    r" (?=\S)|[\n\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]"
    r"(?=[A-Za-z\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3])"
)


def safe_cut(text: str) -> int:
    """Return the last position no token straddles, 0 if there is none inside `text`."""
    match = _CUT_BACKWARDS.search(text[::-1])
    return 0 if match is None else len(text) - 1 - match.start()


class _Run:
    """One text tokenised by itself: what is counted, and the tail that may still change."""

    __slots__ = ("counted", "measured", "tail")

    def __init__(self) -> None:
        self.measured = 0
        """All of it, the tail as it stands."""
        self.counted = 0
        """Before the tail."""
        self.tail = ""

    def fold(self, more: str, measure: Callable[[str], int]) -> None:
        """Take `more` text; count it up to the last safe cut, and what is left as a tail."""
        text = self.tail + more
        # Nearly always as good as the last cut of all; one further back only makes a longer tail,
        # which begins with that very space: then it is looked for with care.
        before, space, word = text.rpartition(" ")
        tail = space + word
        if not before or before[-1].isspace():
            cut = safe_cut(text)
            if not cut and len(text) > WINDOW_CHARACTERS_MAX:
                cut = len(text)
            before, tail = text[:cut], text[cut:]
        if before:
            self.counted += measure(before)
        self.tail = tail
        self.measured = self.counted + measure(tail)


def _bytes_max(text: str) -> int:
    """Return how many bytes of UTF-8 `text` has at most, without encoding it."""
    return len(text) if text.isascii() else 4 * len(text)


def _unread_tokens(size: int) -> int:
    return -(-size // UNREAD_BYTES_PER_TOKEN)


def _identity(measured: int) -> int:
    return measured


class Meter:
    """Counts the delivered output of one call; see the module docstring.

    `measure` gives a text's size in units that add up over windows; `tokens` turns the sum into
    tokens. An exact tokenizer measures tokens; an estimator measures characters.
    """

    __slots__ = (
        "_measure",
        "_now",
        "_pieces",
        "_reasoning_index",
        "_run",
        "_runs",
        "_sizes",
        "_switches",
        "_text_index",
        "_tokens",
        "_unread_bytes",
        "delivered",
        "density",
        "exact",
        "taken",
        "text_bytes",
        "written",
    )

    def __init__(
        self,
        measure: Callable[[str], int],
        tokens: Callable[[int], int] = _identity,
        *,
        exact: bool = True,
        density: int = 1,
    ) -> None:
        self.density = density
        """The most tokens that one byte of text can be."""
        self.exact = exact
        """False once anything was estimated: bill as `UsageSource.ESTIMATED`, else `COUNTED`."""
        self.delivered = 0
        """Output tokens as of the last `advance`."""
        self.text_bytes = 0
        """Bytes of UTF-8 that all texts ever taken have at most: a bound on tokens that costs no
        count."""
        self.written = 0
        """Bytes ever taken, as they stand on the wire."""
        self.taken = 0
        """Texts ever taken, empty ones too."""
        self._measure = measure
        self._tokens = tokens
        self._pieces: list[str] = []
        self._sizes: list[int] = []
        self._switches: list[tuple[int, RunKey]] = []
        """From which piece on which run is meant; the run before the first is `_run`."""
        self._run = MAIN_RUN
        self._runs: dict[RunKey, _Run] = {}
        self._now: _Run | None = None
        """The one of `_run`; None while nothing of that was counted, or nothing can be."""
        self._text_index = 0
        self._reasoning_index = -1
        self._unread_bytes = 0

    def add_openai(self, chunk: OpenAIChunk, size: int) -> bool:
        """Take an ordinary chunk written as `size` bytes; False, and nothing taken, if it is not.

        Ordinary: one choice, content or reasoning but not both, no tool call, refusal, finish
        reason, usage or error. The others go through `openai_runs` and `add_run`.
        """
        choices = chunk.choices
        if len(choices) != 1 or chunk.usage is not None or chunk.error is not None:
            return False
        choice = choices[0]
        delta = choice.delta
        if choice.finish_reason or delta is None:
            return False
        if delta.tool_calls or delta.refusal or delta.function_call:
            return False
        text = delta.content
        reasoning = delta.reasoning_content or delta.reasoning or delta.thinking
        if reasoning:
            if text:
                return False
            if choice.index != self._reasoning_index:
                self._switch((choice.index, "reasoning", 0))
            text = reasoning
        elif choice.index != self._text_index:
            self._switch((choice.index, "text", 0))
        if text:
            self.text_bytes += _bytes_max(text)
            self._pieces.append(text)
        else:
            self._pieces.append("")
        self._sizes.append(size)
        self.taken += 1
        self.written += size
        return True

    def add_anthropic(self, event: AnthropicEvent, size: int) -> bool:
        """Take a content_block_delta of any kind and block; False for every other event."""
        delta = event.delta
        if delta is None or event.type != "content_block_delta":
            return False
        if event.index != self._text_index:
            self._switch((event.index, "text", 0))
        text = delta.text or delta.partial_json or delta.thinking or ""
        self.text_bytes += _bytes_max(text)
        self._pieces.append(text)
        self._sizes.append(size)
        self.taken += 1
        self.written += size
        return True

    def add(self, text: str, size: int) -> None:
        """Take content of choice or block 0 written as `size` bytes; "" for bytes without text.

        Every byte written after the head belongs to some event here; bytes nobody told the meter
        of make it take later events for undelivered, never the other way round.
        """
        if self._text_index != 0:
            self._switch(MAIN_RUN)
        if text:
            self.text_bytes += _bytes_max(text)
        self._pieces.append(text)
        self._sizes.append(size)
        self.taken += 1
        self.written += size

    def add_all(
        self, texts: list[str], sizes: list[int], text_bytes: int
    ) -> tuple[list[str], list[int]]:
        """Take texts of the run that is current, `text_bytes` at most, each written as a size.

        Both lists become the meter's; returns two empty ones for the next texts and sizes.
        """
        self.text_bytes += text_bytes
        self.taken += len(sizes)
        self.written += sum(sizes)
        pieces = self._pieces
        if not pieces:  # nearly always
            spare = pieces, self._sizes
            self._pieces, self._sizes = texts, sizes
            return spare
        pieces += texts
        self._sizes += sizes
        return [], []

    def add_run(self, run: RunKey, text: str, size: int) -> None:
        """Take text of any run. Of an event with several, only the last carries the size."""
        if run != self.run:
            self._switch(run)
        self.text_bytes += _bytes_max(text)
        self._pieces.append(text)
        self._sizes.append(size)
        self.taken += 1
        self.written += size

    def add_runs(self, runs: Sequence[tuple[RunKey, str]], size: int) -> bool:
        """Take an event with any number of texts, written as `size` bytes; say if it had one."""
        for position, (run, text) in enumerate(runs, 1):
            self.add_run(run, text, size if position == len(runs) else 0)
        if not runs:
            self.add("", size)
        return bool(runs)

    def add_unread(self, size: int) -> None:
        """Take `size` written bytes of an event too large to be read: counted by their weight."""
        self.add_run(_UNREAD_RUN, "", size)
        self.text_bytes += size

    def count(self, text: str) -> int:
        """Count `text` by itself, in tokens; changes nothing."""
        return self._tokens(self._measure(text))

    def room(self, tokens: int) -> int:
        """Return how many more bytes of text may be taken uncounted where `tokens` are left.

        A quarter stays, so that whoever must ask for more does so in time with any text.
        """
        return max(0, tokens) * 3 // 4 // self.density

    def advance(self, unsent_bytes: int = 0) -> int:
        """Count everything but the last `unsent_bytes` written; return output tokens so far.

        An event not wholly sent is not delivered: it waits for a later call. The figure includes
        the tail of each run as it stands, so it may fall by a token when a word goes on.
        """
        run, pieces = self._now, self._pieces
        if unsent_bytes > 0 or self._switches or self._run is _UNREAD_RUN:
            self._fold(self._sent(unsent_bytes))
        elif pieces:  # all of one run, as nearly always
            if run is None:
                run = self._now = self._state(self._run)
            run.fold("".join(pieces), self._measure)
            pieces.clear()
            self._sizes.clear()
        measured = run.measured if run is not None and len(self._runs) == 1 else self.measured()
        tokens = self._tokens(measured)
        if self._unread_bytes:
            tokens += _unread_tokens(self._unread_bytes)
        self.delivered = tokens
        return tokens

    def projected(self, runs: Iterable[tuple[RunKey, str]] = ()) -> int:
        """Count as `advance` would had all left that waits, and then `runs`; changes nothing.

        Texts are counted in their places: apart they may come to less than together.
        """
        texts: dict[RunKey, list[str]] = {}
        unread, start, current = self._unread_bytes, 0, self._run
        for position, following in (*self._switches, (len(self._pieces), current)):
            if current == _UNREAD_RUN:
                unread += sum(self._sizes[start:position])
            else:
                texts.setdefault(current, []).extend(self._pieces[start:position])
            start, current = position, following
        for run, text in runs:
            texts.setdefault(run, []).append(text)
        measured, measure = self.measured(), self._measure
        for run, parts in texts.items():
            known = self._runs.get(run)
            if known is None:
                measured += measure("".join(parts))
            else:
                measured += known.counted + measure(known.tail + "".join(parts)) - known.measured
        return self._tokens(measured) + _unread_tokens(unread)

    def final(self, unsent_bytes: int = 0) -> int:
        """Count for the last time; what was not sent is forgotten."""
        tokens = self.advance(unsent_bytes)
        self._pieces.clear()
        self._sizes.clear()
        self._switches.clear()
        return tokens

    def measured(self) -> int:
        """Return the units measured so far (tokens, or an estimator's characters)."""
        measured = 0
        for run in self._runs.values():
            measured += run.measured
        return measured

    @property
    def run(self) -> RunKey:
        """The run that the last text belongs to."""
        return self._switches[-1][1] if self._switches else self._run

    @property
    def last(self) -> str:
        """The text taken last, while it is still uncounted."""
        return self._pieces[-1] if self._pieces else ""

    def _switch(self, run: RunKey) -> None:
        self._switches.append((len(self._pieces), run))
        self._text_index = run[0] if run[1] == "text" else -1
        self._reasoning_index = run[0] if run[1] == "reasoning" else -1

    def _sent(self, unsent_bytes: int) -> int:
        """Return how many pieces have wholly left, looking back from the last."""
        sizes = self._sizes
        sent = len(sizes)
        if unsent_bytes <= 0:
            return sent
        while sent and unsent_bytes > 0:
            sent -= 1
            unsent_bytes -= sizes[sent]
        while sent and sizes[sent - 1] == 0:
            sent -= 1
        return sent

    def _fold(self, sent: int) -> None:
        """Move the first `sent` pieces into their runs and count those."""
        pieces, start, run = self._pieces, 0, self._run
        touched: dict[_Run, list[str]] = {}
        kept: list[tuple[int, RunKey]] = []
        for position, following in self._switches:
            if position > sent:
                kept.append((position - sent, following))
                continue
            self._take(run, start, position, touched)
            start, run = position, following
        self._take(run, start, sent, touched)
        self._run = run
        self._now = self._runs.get(run)
        self._switches = kept
        for state, parts in touched.items():
            state.fold("".join(parts), self._measure)
        del pieces[:sent]
        del self._sizes[:sent]

    def _take(self, run: RunKey, start: int, end: int, touched: dict[_Run, list[str]]) -> None:
        if start == end:
            return
        if run == _UNREAD_RUN:
            self.exact = False
            self._unread_bytes += sum(self._sizes[start:end])
            return
        touched.setdefault(self._state(run), []).extend(self._pieces[start:end])

    def _state(self, run: RunKey) -> _Run:
        state = self._runs.get(run)
        if state is None:
            if len(self._runs) >= RUNS_MAX:
                run = _SHARED_RUN
            state = self._runs.setdefault(run, _Run())
        return state
