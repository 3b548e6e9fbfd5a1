"""From a provider's usage object to the one vector, believing no more than can be true.

Rules: absent is not zero and zero is a value. Reports within one call replace each other field
by field and are never added (cumulative reports are common); only a later zero does not erase a
figure. What cannot be a token count is an anomaly and counts as absent. A report of exactly the
documented shape is decoded typed and taken whole; every other one goes member by member. This
module must not know prices, nor where bytes come from.

Sources: WIRE.md sections 1, 3, 5 and 6 rule 5; F21 of FAULTS.md; DESIGN.md section 3.
"""

from typing import Final

from msgspec import Struct, ValidationError, convert
from msgspec.structs import replace

from proxy.core.entities import Usage, UsageSource
from proxy.core.usage_reports import (
    ANTHROPIC,
    GEMINI,
    NO_ALIASES,
    OPENAI,
    OPENAI_ALIASES,
    TOKENS_MAX,
    AnthropicReport,
    Names,
    OpenAIReport,
)

OUTPUT_SLACK_TOKENS: Final = 64
"""What a provider may report above the limit it was given: stop tokens, a template's frame."""
DIGITS_MAX: Final = 10

_INPUT_KINDS: Final = (
    "cache_read", "cache_read_image", "cache_read_audio", "input_uncached", "image_input",
    "cache_write_5m", "cache_write_1h", "audio_input",
)  # fmt: skip
_OUTPUT_KINDS: Final = ("output", "audio_output", "image_output")
"""Both from the cheapest kind to the dearest, as a rule."""
_NO_ANOMALIES: Final[frozenset[str]] = frozenset()
_NOTHING: Final = Usage()
_REPORTED: Final = UsageSource.REPORTED  # read at every call: a member of an enum costs 10 times it


class Bill(Struct, frozen=True, gc=False):
    """What a call is billed for: the vector, where it comes from, and what was wrong with it."""

    usage: Usage
    source: UsageSource
    anomalies: tuple[str, ...] = ()
    """Stable codes, sorted: negative, fractional, not_a_number, text, implausible, malformed,
    fell_to_zero, decreased, zero_with_text, parts_exceed_total, output_bounded, input_bounded,
    searches_bounded."""


class UsageTally:
    """Merges every usage object of one call; see the module docstring."""

    __slots__ = (
        "_anomalies", "_anthropic", "_clean", "_fields", "_final", "_usage", "bare", "silent",
    )  # fmt: skip

    def __init__(self) -> None:
        self._fields: dict[str, int] = {}
        self._anomalies: frozenset[str] = _NO_ANOMALIES
        self._anthropic = False
        self._final = False
        self._usage: Usage | None = None
        """The vector of what was taken so far, once somebody asked."""
        self._clean = False
        """One typed report with both sides and nothing odd: all there is."""
        self.bare: Usage | None = None
        """The vector of such a report, where it has but a prompt and a completion."""
        self.silent = True
        """Whether there was no report at all, not even one that cannot be true."""

    @property
    def seen(self) -> bool:
        """Whether any figure was reported."""
        return bool(self._fields)

    @property
    def input_seen(self) -> bool:
        """Whether the prompt's own figure was reported, not only what came from a cache."""
        return "input" in self._fields

    @property
    def final(self) -> bool:
        """Whether both sides of the call were reported, the output by more than a first guess."""
        return self._final and "input" in self._fields and "output" in self._fields

    @property
    def decisive(self) -> bool:
        """Whether the `bill` of a complete call is the same whatever output was counted."""
        if self.bare is not None:
            return self.bare.output > 0
        return self.final and self.usage().completion_total > 0

    @property
    def anomalies(self) -> tuple[str, ...]:
        """The codes of everything reported that could not be true, sorted."""
        return tuple(sorted(self._anomalies))

    def openai(self, usage: object) -> None:
        """Take the usage object of a chunk or plain body in the OpenAI dialect."""
        if not self._fields and self._whole(usage):
            return
        self._take(usage, OPENAI, OPENAI_ALIASES)
        self._final = True

    def anthropic(self, usage: object, *, final: bool = True) -> None:
        """Take the usage of message_delta or a plain body; `final=False` for message_start.

        The output in message_start is where the count begins, not what was used.
        """
        self._anthropic = True
        self._take(usage, ANTHROPIC, NO_ALIASES)
        self._final |= final

    def gemini(self, usage: object) -> None:
        """Take the `usageMetadata` of an event or plain body in the Gemini dialect.

        There the prompt holds what came from a cache but not the results of server tools, and
        the candidates do not hold thoughts (with some models they do, and the sum tells). A
        figure of zero is not written, so a sum without candidates says that there were none.
        """
        self._take(_by_modality(usage), GEMINI, NO_ALIASES)
        self._final = True
        fields = self._fields
        if "prompt" not in fields:
            return
        given = fields["input"] = fields["prompt"] + fields.get("tool_prompt", 0)
        thoughts, total = fields.get("reasoning", 0), fields.get("sum")
        if "candidates" in fields:
            made = fields["candidates"]
            fields["output"] = made if total == given + made else made + thoughts
        elif total is not None:
            fields["output"] = max(0, total - given)

    @classmethod
    def of_bare(cls, bare: Usage) -> "UsageTally":
        """Return one that has taken a single report of but a prompt and a completion."""
        tally = cls()
        tally._take_bare(bare)
        return tally

    def _take_bare(self, bare: Usage) -> None:
        self._fields = {"input": bare.input_uncached, "output": bare.output}
        self._usage = self.bare = bare
        self._clean = self._final = True
        self.silent = False

    def openai_report(self, report: OpenAIReport) -> bool:
        """Take the only report of a plain answer; False, nothing taken, if it is not that plain."""
        if self._fields:
            return False
        bare = bare_of(report)
        if bare is not None:
            self._take_bare(bare)
            return True
        prompt, completion = report.prompt_tokens, report.completion_tokens
        if prompt is None or completion is None or not report.plain:
            return False
        # Of the parts a zero is as good as nothing: only prompt and completion can be missed.
        fields = self._fields = {"input": prompt, "output": completion}
        self.silent = False
        self._usage = None  # somebody may have asked before there was a report
        given, made = report.prompt_tokens_details, report.completion_tokens_details
        parts = 0
        if given is not None:
            read, write = given.cached_tokens or 0, given.cache_write_tokens or 0
            audio = given.audio_tokens or 0
            parts = read + write + audio
            if parts:
                fields["cache_read"], fields["cache_write"] = read, write
                fields["audio_input"] = audio
        if made is not None and (made.reasoning_tokens or made.audio_tokens):
            fields["reasoning"] = made.reasoning_tokens or 0
            fields["audio_output"] = made.audio_tokens or 0
            if report.total_tokens is not None:
                fields["total"] = report.total_tokens
        self._clean = parts <= prompt
        self._final = True
        return True

    def _whole(self, usage: object) -> bool:
        """Take a first report of the documented shape at once: most streams have one, and no other.

        Member by member it costs ten times as much.
        """
        try:
            report = convert(usage, OpenAIReport)
        except (ValidationError, UnicodeEncodeError):  # the latter of names with half a surrogate
            return False
        if self._anomalies or not self.openai_report(report):
            return False
        if report.total_tokens is not None:  # one that follows may lack it
            self._fields["total"] = report.total_tokens
        return True

    def anthropic_report(self, report: AnthropicReport) -> bool:
        """Take the only report of a plain answer; False, nothing taken, if it is not that plain."""
        given, made = report.input_tokens, report.output_tokens
        if given is None or made is None or self._fields:
            return False
        fields = self._fields = {"input": given, "output": made}
        self._anthropic = self._final = self._clean = True
        self._usage, self.silent = None, False
        read, write = report.cache_read_input_tokens, report.cache_creation_input_tokens
        creation, details = report.cache_creation, report.output_tokens_details
        if read:
            fields["cache_read"] = read
        if write:
            fields["cache_write"] = write
        if creation is not None and creation.ephemeral_5m_input_tokens:
            fields["cache_write_5m"] = creation.ephemeral_5m_input_tokens
        if creation is not None and creation.ephemeral_1h_input_tokens:
            fields["cache_write_1h"] = creation.ephemeral_1h_input_tokens
        if details is not None and details.thinking_tokens:
            fields["reasoning"] = details.thinking_tokens
        tools = report.server_tool_use
        if tools is not None and tools.web_search_requests:
            fields["searches"] = tools.web_search_requests
        if len(fields) == 2:
            self._usage = self.bare = Usage(given, 0, 0, 0, made)
        return True

    def searched(self, searches: int) -> None:
        """Take how often the provider has searched by now, where its usage does not say so."""
        self._set("searches", searches)
        self._usage, self.bare, self.silent = None, None, False

    def opened(self, output_tokens: int) -> Usage | None:
        """Return the vector of a call of which there is no report but of its prompt, nothing odd.

        That, and so much output of our own count: as `bill` has it before the call is complete.
        Streams in the Anthropic dialect begin with such a report. None: ask `bill`.
        """
        fields = self._fields
        if not self._anthropic or self._final or self._anomalies or "input" not in fields:
            return None
        given = self._usage or self.usage()
        if given.searches:
            return None
        return Usage(
            given.input_uncached,
            given.cache_read,
            given.cache_write_5m,
            given.cache_write_1h,
            output_tokens,
        )

    def usage(self) -> Usage:
        """Return what was reported as a vector; kinds nobody reported are 0."""
        if self._usage is None:
            self._usage = self._vector()
        return self._usage

    def _vector(self) -> Usage:
        fields = self._fields
        if not fields:
            return _NOTHING
        output = fields.get("output", 0)
        hidden = fields.get("reasoning", 0)
        if hidden and fields.get("total") == fields.get("input", 0) + output + hidden:
            output += hidden  # some report reasoning beside the completion, not inside it
        if self._anthropic:
            long = fields.get("cache_write_1h", 0)
            short = max(fields.get("cache_write", 0) - long, fields.get("cache_write_5m", 0))
            return Usage(
                input_uncached=fields.get("input", 0),
                cache_read=fields.get("cache_read", 0),
                cache_write_5m=short,
                cache_write_1h=long,
                output=output,
                reasoning=min(hidden, output),
                searches=fields.get("searches", 0),
            )
        # Each part is taken out of what is left of the whole, in the order of their certainty.
        audio_output = min(fields.get("audio_output", 0), output)
        image_output = min(fields.get("image_output", 0), output - audio_output)
        output -= audio_output + image_output
        rest = fields.get("input", 0)
        cache_read = min(fields.get("cache_read", 0), rest)
        rest -= cache_read
        audio_cached = min(fields.get("audio_cached", 0), cache_read)
        image_cached = min(fields.get("image_cached", 0), cache_read - audio_cached)
        cache_write = min(fields.get("cache_write", 0), rest)
        rest -= cache_write
        audio_input = min(max(0, fields.get("audio_input", 0) - audio_cached), rest)
        rest -= audio_input
        image_input = min(max(0, fields.get("image_input", 0) - image_cached), rest)
        return Usage(
            input_uncached=rest - image_input,
            cache_read=cache_read - audio_cached - image_cached,
            cache_write_5m=cache_write,
            output=output,
            reasoning=min(hidden, output),
            audio_input=audio_input,
            audio_output=audio_output,
            searches=fields.get("searches", 0),
            image_input=image_input,
            image_output=image_output,
            cache_read_audio=audio_cached,
            cache_read_image=image_cached,
        )

    def bill(
        self,
        *,
        complete: bool,
        input_tokens: int,
        output_tokens: int,
        counted: UsageSource = UsageSource.COUNTED,
    ) -> Bill:
        """Decide the vector of a call: reported where that is final, counted elsewhere.

        `input_tokens` and `output_tokens` are our own counts, `output_tokens` of delivered text,
        `counted` how they were made. An incomplete call is billed no less output than was
        delivered: a report seen early in a stream says nothing of what followed it.
        """
        usage = self._usage or self.usage()
        reported = usage.completion_total
        if self._clean and (reported >= output_tokens or (complete and reported)):
            return Bill(usage, _REPORTED)
        fields = self._fields
        if not fields:  # as at every mark of a stream whose report comes last
            found = tuple(sorted(self._anomalies))
            return Bill(Usage(input_tokens, 0, 0, 0, output_tokens), counted, found)
        anomalies = set(self._anomalies)
        if not self._anthropic and "input" in fields and self._parts() > fields["input"]:
            anomalies.add("parts_exceed_total")
        known = self._final and "output" in fields and (complete or reported >= output_tokens)
        if not known:
            usage = replace(
                usage, output=output_tokens, reasoning=0, audio_output=0, image_output=0
            )
        elif not reported and output_tokens:
            anomalies.add("zero_with_text")
        if "input" not in fields:
            usage = replace(usage, input_uncached=max(0, input_tokens - usage.prompt_total))
        source = _REPORTED if known and "input" in fields else counted
        return Bill(usage, source, tuple(sorted(anomalies)))

    def _parts(self) -> int:
        """Tokens that were named as a part of the prompt, each once."""
        fields = self._fields
        kinds = ("audio", "image")
        uncached = [
            max(0, fields.get(f"{kind}_input", 0) - fields.get(f"{kind}_cached", 0))
            for kind in kinds
        ]
        return fields.get("cache_read", 0) + fields.get("cache_write", 0) + sum(uncached)

    def _take(self, usage: object, names: Names, aliases: Names) -> None:
        self._usage, self._clean, self.bare, self.silent = None, False, None, False
        if not isinstance(usage, dict):
            self._anomalies |= {"malformed"}
            return
        report: dict[str, object] = usage
        found: dict[str, int] = {}
        self._find(report, names, found)
        if not aliases.keys().isdisjoint(report):
            spare: dict[str, int] = {}
            self._find(report, aliases, spare)
            found = spare | {
                name: found[name] for name in found if found[name] or name not in spare
            }
        for field, value in found.items():
            self._set(field, value)

    def _find(self, report: dict[str, object], names: Names, found: dict[str, int]) -> None:
        for name, value in report.items():
            field = names.get(name)
            if field is None or value is None:
                continue
            if not isinstance(field, str):
                if isinstance(value, dict):
                    self._find(value, field, found)
                continue
            if type(value) is int and 0 <= value <= TOKENS_MAX:
                found[field] = value
                continue
            number = self._integer(value)
            if number is not None:
                found[field] = number

    def _set(self, field: str, value: int) -> None:
        before = self._fields.get(field, 0)
        if value < before:
            self._anomalies |= {"decreased" if value else "fell_to_zero"}
            if not value:
                return
        self._fields[field] = value

    def _integer(self, value: object) -> int | None:
        """Return a token count; None, with the anomaly noted, for what cannot be one."""
        number: int | None = None
        anomaly = "not_a_number"
        if type(value) is int:
            number, anomaly = value, ""
        elif isinstance(value, float) and abs(value) <= TOKENS_MAX:
            number, anomaly = int(value), "" if value.is_integer() else "fractional"
        elif isinstance(value, float):
            anomaly = "implausible"
        elif isinstance(value, str) and len(value) <= DIGITS_MAX and value.isdecimal():
            number, anomaly = int(value), "text"
        if number is not None and number < 0:
            number, anomaly = None, "negative"
        elif number is not None and number > TOKENS_MAX:
            number, anomaly = None, "implausible"
        if anomaly:
            self._anomalies |= {anomaly}
        return number


def bare_of(report: OpenAIReport) -> Usage | None:
    """Return the vector of a report that has but a prompt and a completion; None: look closer."""
    prompt, completion = report.prompt_tokens, report.completion_tokens
    if prompt is None or completion is None:
        return None
    given, made = report.prompt_tokens_details, report.completion_tokens_details
    if given is not None and (
        given.cached_tokens
        or given.cache_write_tokens
        or given.audio_tokens
        or given.image_tokens
        or given.cached_tokens_details
    ):
        return None
    if made is not None and (made.reasoning_tokens or made.audio_tokens or made.image_tokens):
        return None
    return Usage(prompt, 0, 0, 0, completion)


def bare_of_message(report: AnthropicReport) -> Usage | None:
    """The same of a report in the Anthropic dialect."""
    given, made, tools = report.input_tokens, report.output_tokens, report.server_tool_use
    creation, details = report.cache_creation, report.output_tokens_details
    if given is None or made is None or (tools is not None and tools.web_search_requests):
        return None
    cached = report.cache_read_input_tokens or report.cache_creation_input_tokens
    if creation is not None:
        cached = cached or creation.ephemeral_5m_input_tokens or creation.ephemeral_1h_input_tokens
    thought = details is not None and details.thinking_tokens
    return None if cached or thought else Usage(given, 0, 0, 0, made)


def _by_modality(usage: object) -> object:
    """A Gemini report whose lists of modalities are objects, by modality."""
    if not isinstance(usage, dict):
        return usage
    found: dict[str, object] = {}
    for name, value in usage.items():
        found[name] = value
        if isinstance(value, list):
            found[name] = {
                one["modality"]: one.get("tokenCount")
                for one in value
                if isinstance(one, dict) and isinstance(one.get("modality"), str)
            }
    return found


def bounded(
    usage: Usage,
    output_tokens_max: int | None,
    *,
    input_tokens_max: int | None = None,
    searches_max: int | None = None,
    slack: int = OUTPUT_SLACK_TOKENS,
) -> tuple[Usage, tuple[str, ...]]:
    """Cut a vector to what the request allowed; return it and the anomalies, if any.

    `output_tokens_max` is the limit sent upstream times the choices asked for; `input_tokens_max`
    a ceiling of the prompt (a token is at least one byte of it). None does not bound.
    """
    anomalies: tuple[str, ...] = ()
    if input_tokens_max is not None and usage.prompt_total > input_tokens_max:
        anomalies = ("input_bounded",)
        usage = _bounded_kinds(usage, _INPUT_KINDS, input_tokens_max)
    limit = None if output_tokens_max is None else output_tokens_max + slack
    if limit is not None and usage.completion_total > limit:
        anomalies += ("output_bounded",)
        usage = _bounded_kinds(usage, _OUTPUT_KINDS, limit)
        usage = replace(usage, reasoning=min(usage.reasoning, usage.output))
    if usage.searches and searches_max is not None and usage.searches > searches_max:
        anomalies += ("searches_bounded",)
        usage = replace(usage, searches=searches_max)
    return usage, anomalies


def _bounded_kinds(usage: Usage, kinds: tuple[str, ...], limit: int) -> Usage:
    """Keep the kinds that cost the caller least first: the excess is the provider's claim."""
    kept: dict[str, int] = {}
    for kind in kinds:
        kept[kind] = min(getattr(usage, kind), limit)
        limit -= kept[kind]
    return replace(usage, **kept)
