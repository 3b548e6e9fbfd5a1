"""The nouns of a relay, as frozen records shared by every layer.

Rules: amounts are integer nano-USD, prices integer nano-USD per 1,000,000 units, multipliers
integer millionths, times Unix seconds (float) unless the name says otherwise. No behaviour
beyond small derived facts. What is made once per call is a msgspec Struct, which costs a tenth of
a frozen dataclass to make. This module must not know how any of these are stored or sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from msgspec import Struct

MULTIPLIER_ONE = 1_000_000
INTERRUPTED: Final = "interrupted"
"""Outcome of an attempt that an exception, a cancellation or a kill took out of our hands."""

DIALECT_ENDPOINTS: Final[Mapping[str, frozenset[str]]] = {
    "openai": frozenset(
        {
            "chat", "completions", "embeddings", "images_generations", "images_edits",
            "images_variations", "transcriptions", "translations", "speech", "moderations",
            "rerank",
        }
    ),
    "anthropic": frozenset({"messages", "count_tokens"}),
    "gemini": frozenset({"gemini_generate", "gemini_stream", "gemini_count_tokens"}),
}  # fmt: skip
"""What an upstream is taken to serve when nobody says, by dialect; names of core/urls.py."""
ENDPOINTS: Final = frozenset({"responses", "realtime"}).union(*DIALECT_ENDPOINTS.values())
"""What a channel or a model may name: the endpoints that are about a model."""


class Dialect(StrEnum):
    """Whose protocol a caller or an upstream speaks: keys, headers and the shape of errors."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    GEMINI = "gemini"

    # Enum hashes in Python code; this one is looked up several times a request.
    __hash__ = str.__hash__


class Wire(StrEnum):
    """The form in which one conversation is written: its request, its answer and its stream."""

    CHAT = "chat"
    MESSAGES = "messages"
    RESPONSES = "responses"
    COMPLETIONS = "completions"
    """Legacy text completions."""
    GEMINI = "gemini"

    __hash__ = str.__hash__


WIRE_ENDPOINTS: Final[Mapping[Wire, str]] = {
    Wire.CHAT: "chat",
    Wire.MESSAGES: "messages",
    Wire.RESPONSES: "responses",
    Wire.COMPLETIONS: "completions",
    Wire.GEMINI: "gemini_generate",
}
"""The value of the `Endpoint` that serves each wire form."""


class Verdict(StrEnum):
    """How a call ended, from protocol events and never from end of file (DESIGN.md promise 5)."""

    COMPLETE = "complete"
    CLIENT_GONE = "client_gone"
    UPSTREAM_TRUNCATED = "upstream_truncated"
    UPSTREAM_ERROR = "upstream_error"
    TIMEOUT = "timeout"
    CUT_FOR_BALANCE = "cut_for_balance"
    CUT_FOR_MAX_COST = "cut_for_max_cost"
    """The caller's own limit for this call (`x-max-cost`)."""
    CUT_BY_SHUTDOWN = "cut_by_shutdown"
    CUT_BY_REVOCATION = "cut_by_revocation"
    REJECTED = "rejected"
    INTERNAL_ERROR = "internal_error"

    __hash__ = str.__hash__


class UsageSource(StrEnum):
    """Where a usage vector comes from, in falling order of truth."""

    REPORTED = "reported"
    COUNTED = "counted"
    ESTIMATED = "estimated"
    NONE = "none"
    CACHED = "cached"
    """The vector of the call whose answer was kept and given again: no provider was asked."""

    __hash__ = str.__hash__


class CacheScope(StrEnum):
    """Among whose calls a kept answer is given again."""

    KEY = "key"
    USER = "user"
    GROUP = "group"


class DisconnectMode(StrEnum):
    """What a group does with the upstream when its client leaves."""

    CANCEL = "cancel"
    DRAIN = "drain"


class Tokenizer(StrEnum):
    """The token table of a model family; ESTIMATE where the family publishes none."""

    O200K = "o200k"
    CL100K = "cl100k"
    ESTIMATE = "estimate"

    __hash__ = str.__hash__


class BudgetPeriod(StrEnum):
    """When a key's budget starts anew (UTC)."""

    TOTAL = "total"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class UsageOption(StrEnum):
    """Whether a channel accepts `stream_options.include_usage`."""

    SEND = "send"
    OMIT = "omit"


class TerminalRule(StrEnum):
    """What ends a complete stream: `[DONE]`, or every choice finished and a clean end."""

    DONE = "done"
    FINISH_REASON = "finish_reason"


class Usage(Struct, frozen=True, gc=False, omit_defaults=True):
    """What one call used: disjoint token kinds, except `reasoning`, which is inside `output`.

    Input kinds exclude each other (Anthropic's view); OpenAI's `cached_tokens` is taken out of
    `prompt_tokens` when a vector is read (WIRE.md section 6 rule 5). Where a vector is written by
    name, a default is not: it may never become another.
    """

    input_uncached: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    audio_input: int = 0
    audio_output: int = 0
    images: int = 0
    characters: int = 0
    calls: int = 1
    audio_ms: int = 0
    """Length of audio that is billed by time, in milliseconds; not its tokens."""
    searches: int = 0
    """Searches on the provider's side: web searches of a chat, search units of a rerank."""
    variant: str = ""
    """Which of `Price.image_variants` the images are; empty where none fits."""
    image_input: int = 0
    """Tokens of images read, where a provider counts them apart; not how many images."""
    image_output: int = 0
    cache_read_audio: int = 0
    cache_read_image: int = 0

    @property
    def input_total(self) -> int:
        """All tokens of text read: uncached, cached and cache writes."""
        return self.input_uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h

    @property
    def prompt_total(self) -> int:
        """All tokens read, audio and images among them."""
        return (
            self.input_uncached + self.cache_read + self.cache_write_5m + self.cache_write_1h
            + self.audio_input + self.image_input + self.cache_read_audio + self.cache_read_image
        )  # fmt: skip

    @property
    def cached_total(self) -> int:
        """All tokens read from a cache, those of audio and images among them."""
        return self.cache_read + self.cache_read_audio + self.cache_read_image

    @property
    def completion_total(self) -> int:
        """All tokens written, audio and images among them."""
        return self.output + self.audio_output + self.image_output


NOTHING_USED: Final = Usage(calls=0)


class Formula(StrEnum):
    """How a price turns usage into money (core/pricing.py)."""

    TOKENS = "tokens"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Tier:
    """Prices of every token of a call whose prompt is longer than `over` tokens of all kinds.

    Nano-USD per 1,000,000 tokens, under the names they have in `Price`.
    """

    over: int
    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image_input: int = 0
    image_output: int = 0
    cache_read_audio: int = 0
    cache_read_image: int = 0


@dataclass(frozen=True, slots=True)
class Price:
    """One version of a model's price: nano-USD per 1,000,000 units.

    Nano-USD each are `call`, `search` and `image_variants`; `audio_hour` is nano-USD per hour, so
    that a price per second, minute or hour is exact. An image of a variant that is named costs
    what that says, any other `image`. Above a tier's length its token prices take the place of
    these; tiers rise, in `over` and in every price.

    With `Formula.RATIO` the token fields are unused and charge =
    group x `model_ratio` x (prompt + completion x `completion_ratio`), ratios in millionths,
    where a ratio of 1 means $2 per 1M tokens; cached prompt tokens weigh `cache_ratio`.
    """

    model: str
    version: int
    formula: Formula = Formula.TOKENS
    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    audio_input: int = 0
    audio_output: int = 0
    image: int = 0
    character: int = 0
    call: int = 0
    model_ratio: int = 0
    completion_ratio: int = MULTIPLIER_ONE
    cache_ratio: int = MULTIPLIER_ONE
    audio_hour: int = 0
    search: int = 0
    image_input: int = 0
    image_output: int = 0
    cache_read_audio: int = 0
    cache_read_image: int = 0
    image_variants: Mapping[str, int] = field(default_factory=dict)
    tiers: tuple[Tier, ...] = ()

    def __hash__(self) -> int:
        """Hash what names a price; figures kept per price are looked up several times a call."""
        return hash((self.model, self.version))


@dataclass(frozen=True, slots=True)
class Model:
    """A model as users name it. `price` None means it is listed but refused, never free."""

    name: str
    context_window: int
    output_tokens_max: int
    tokenizer: Tokenizer = Tokenizer.ESTIMATE
    hidden_output: bool = False
    price: Price | None = None
    endpoints: frozenset[str] | None = None
    """What callers may use it for, as names of `ENDPOINTS`; None: whatever a channel serves."""


@dataclass(frozen=True, slots=True)
class Group:
    """A resource channel class: which upstreams, at which multiplier, under which contract."""

    name: str
    multiplier: int = MULTIPLIER_ONE
    disconnect: DisconnectMode = DisconnectMode.CANCEL
    drain_seconds_max: float = 30.0
    retry_after_timeout: bool = False
    output_tokens_max: int | None = None
    cache_scope: CacheScope = CacheScope.KEY
    cache_multiplier: int = 0
    """Share of the price that an answer costs when it is given again, in millionths."""


@dataclass(frozen=True, slots=True)
class ChannelKey:
    """One credential of a channel's pool. `secret` is in the clear only in memory."""

    id: int
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Channel:
    """One upstream: where it is, what it speaks, whom it serves, how patient we are with it."""

    id: int
    name: str
    dialect: Dialect
    base_url: str
    keys: tuple[ChannelKey, ...]
    models: Mapping[str, str]
    """Public model name to the upstream's own name."""
    groups: frozenset[str]
    priority: int = 0
    """Higher is tried first."""
    weight: int = 1
    connect_seconds_max: float = 5.0
    first_byte_seconds_max: float = 120.0
    idle_seconds_max: float = 120.0
    proxy: str | None = None
    allow_private: bool = False
    usage_option: UsageOption = UsageOption.SEND
    terminal: TerminalRule = TerminalRule.DONE
    costs: Mapping[str, Price] = field(default_factory=dict)
    """What the operator pays, per public model name; absent means unknown, booked as zero."""
    api_version: str | None = None
    """Azure OpenAI's `api-version`; None means the channel is no Azure resource."""
    enabled: bool = True
    endpoints: frozenset[str] = frozenset()
    """What the upstream serves natively, as names of `ENDPOINTS`; none: what its dialect has."""

    def __post_init__(self) -> None:
        """Fill in what nobody said."""
        if not self.endpoints:
            object.__setattr__(self, "endpoints", DIALECT_ENDPOINTS[self.dialect])


@dataclass(frozen=True, slots=True)
class Plan:
    """Default limits of a user's keys, None means unlimited; what a month of it costs and gives.

    Amounts are nano-USD. `offered`: who owns a wallet may choose it themselves. `groups`: those
    that people may choose for their keys, None any.
    """

    name: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    monthly_fee: int = 0
    monthly_credit: int = 0
    offered: bool = False
    groups: frozenset[str] | None = None

    @property
    def monthly(self) -> bool:
        """Whether anything happens at the beginning of each month of it."""
        return bool(self.monthly_fee or self.monthly_credit)


@dataclass(frozen=True, slots=True)
class User:
    """A wallet's owner. The balance itself lives in the ledger, never here."""

    id: int
    name: str
    plan: str
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """A client key, without its secret: `digest` is HMAC-SHA256 of it under the pepper."""

    id: int
    user_id: int
    digest: bytes = field(repr=False)
    name: str
    group: str
    prefix: str
    last4: str
    enabled: bool = True
    expires_at: float | None = None
    budget: int | None = None
    budget_period: BudgetPeriod = BudgetPeriod.TOTAL
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    models: frozenset[str] | None = None
    networks: tuple[str, ...] | None = None
    """CIDR ranges the key may be used from; None means anywhere."""
    cache_seconds: int | None = None
    """Its answers are kept so long without being asked to; None: only where a call asks."""


class Attempt(Struct, frozen=True, gc=False):
    """One try at one upstream, kept also when it failed: what reconciles with an invoice."""

    channel_id: int
    channel_key_id: int
    started_at: float
    status: int | None
    """The upstream's HTTP status, None when no response head arrived."""
    outcome: str
    """`served` or the stable code of the error that ended it."""
    upstream_request_id: str | None
    upstream_model: str
    usage: Usage
    cost: int
    """Nano-USD the operator is presumed to owe; 0 when the cost basis is unknown."""
    duration_ms: float
