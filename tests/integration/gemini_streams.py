"""Generated Gemini streams of a native channel. See stream_record.py for the fields.

The shapes follow `types.py` of google-genai: events end with two CRLF as Google's do, each repeats
the usage so far, and zeroes are not written. This module must not know how a relay works.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.core.entities import Dialect, Usage, Wire
from tests.integration.stream_record import (
    CODE_TEXT,
    UNICODE_TEXT,
    UpstreamStream,
    compact,
    pieces,
    prose,
)


@dataclass(slots=True)
class GeminiWriter:
    """Builds Gemini streams; every method appends events and returns the writer."""

    name: str
    ascii_only: bool = False
    newline: bytes = b"\r\n"
    prompt: int = 9
    cached: int = 0
    events: list[bytes] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)
    finish: str | None = None

    def raw(self, event: bytes) -> "GeminiWriter":
        self.events.append(event)
        return self

    def payload(self, value: object) -> "GeminiWriter":
        data = compact(value, ascii_only=self.ascii_only)
        return self.raw(b"data: " + data + self.newline * 2)

    def event(
        self, *parts: object, candidate: int = 0, finish: str | None = None, **usage: int
    ) -> "GeminiWriter":
        found: dict[str, object] = {"content": {"parts": parts, "role": "model"}}
        if finish is not None:
            found["finishReason"] = self.finish = finish
        return self.payload(
            {
                "candidates": [{**found, "index": candidate}],
                "usageMetadata": self.usage(**usage),
                "modelVersion": "gemini-generated-1",
                "responseId": f"r-{self.name}",
            }
        )

    def usage(self, written: int = 0, thoughts: int = 0) -> dict[str, object]:
        figures = {
            "candidatesTokenCount": written,
            "thoughtsTokenCount": thoughts,
            "cachedContentTokenCount": self.cached,
        }
        total = self.prompt + written + thoughts
        found: dict[str, object] = {"promptTokenCount": self.prompt, "totalTokenCount": total}
        return found | {name: figure for name, figure in figures.items() if figure}

    def said(
        self, text: str, candidate: int = 0, longest: int = 60, **part: object
    ) -> "GeminiWriter":
        for piece in pieces(text, seed=len(self.events), longest=longest):
            self.event({"text": piece, **part}, candidate=candidate)
        run = f"{candidate}/{'thought' if part else 'text'}"
        self.runs[run] = self.runs.get(run, "") + text
        return self

    def call(self, name: str, arguments: object, **part: object) -> "GeminiWriter":
        return self.event({"functionCall": {"name": name, "args": arguments}, **part})

    def end(
        self, written: int, reason: str = "STOP", *, thoughts: int = 0, text: str = ""
    ) -> UpstreamStream:
        """The last event and the record."""
        self.runs["end"] = text
        self.event({"text": text}, finish=reason, written=written, thoughts=thoughts)
        usage = Usage(
            input_uncached=self.prompt - self.cached,
            cache_read=self.cached,
            output=written + thoughts,
            reasoning=thoughts,
        )
        return self.record(usage)

    def record(self, usage: Usage | None = None, *, complete: bool = True) -> UpstreamStream:
        return UpstreamStream(
            name=f"gemini-{self.name}",
            dialect=Dialect.GEMINI,
            events=tuple(self.events),
            text_runs=dict(self.runs),
            usage=usage,
            finish=self.finish,
            complete=complete,
            terminal="finish_reason",
            wire=Wire.GEMINI,
        )


W = GeminiWriter


def _plain() -> list[UpstreamStream]:
    return [
        W("short").said(prose(1, 30)).end(33),
        W("last-words-with-the-end").said(prose(2, 9)).end(12, text=" And so on."),
        W("unicode-utf8").said(UNICODE_TEXT * 2).end(140),
        W("unicode-escaped", ascii_only=True).said(UNICODE_TEXT).end(70),
        W("code-and-control-characters").said(CODE_TEXT * 3).end(90),
        W("lines-end-in-lf", newline=b"\n").said(prose(3, 12)).end(13),
        W("2000-events").said(prose(4, 2_000), longest=9).end(2_900),
        W("big-200-kb-event").said(prose(5, 36_000), longest=300_000).end(40_000),
        W("no-content-at-all").end(0),
        W("comments").raw(b": hello\r\n\r\n").said("Hi.").raw(b":\r\n\r\n").end(3),
        W("cached", prompt=900, cached=800).said("Again.").end(3),
        W("cut-by-length").said("And then").end(2, "MAX_TOKENS"),
        W("filtered").said("The").end(2, "SAFETY"),
    ]


def _rich() -> list[UpstreamStream]:
    signed = {"thoughtSignature": "RXJlYm9vdHM" * 30}
    blocked = W("blocked-prompt")
    blocked.payload({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": blocked.usage()})
    blocked.finish = "SAFETY"
    picture = W("picture-is-no-text").said("Look:")
    picture.event({"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo" * 90}})
    return [
        W("thoughts").said("Hm, so.", thought=True).said("42").end(5, thoughts=90),
        W("one-tool").call("look_up", {"city": "Paris, ☂"}, **signed).end(20, thoughts=30),
        W("parallel-tools").call("a", {"n": 1}, **signed).call("b", {}).end(20),
        W("signed-text").said("Four.").event({"text": "", **signed}).end(2, thoughts=9),
        blocked.record(Usage(input_uncached=9)),
        picture.end(1_290),
    ]


def _broken() -> list[UpstreamStream]:
    error = {"error": {"code": 503, "message": "sk-secret", "status": "UNAVAILABLE"}}
    cut = W("cut-inside-the-last-event").said("Nearly")
    last = cut.end(3).events[-1]
    cut.events[-1] = last[: len(last) // 2]
    return [
        W("no-reason").said("Nothing follows").record(complete=False),
        W("nothing-at-all").record(complete=False),
        W("error-event").said("Half").payload(error).record(complete=False),
        W("error-first").payload(error).record(complete=False),
        W("done-is-no-end").said("a").raw(b"data: [DONE]\n\n").record(complete=False),
        cut.record(complete=False),
    ]


_FAMILIES: tuple[Callable[[], list[UpstreamStream]], ...] = (_plain, _rich, _broken)
GEMINI_STREAMS = tuple(stream for family in _FAMILIES for stream in family())
