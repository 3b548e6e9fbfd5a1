"""What a call is charged for: the disconnect contract, the same for every caller and verdict.

Rules (DESIGN.md section 3): nothing delivered, nothing charged; what was used all the same is
forgiven, at the operator's expense. Where the provider's figure was seen it is billed, within
bounds; else the prompt plus the output that was delivered, marked `counted` (a published token
table) or `estimated`. This module must not know wallets or holds: what a wallet can give is the
ledger's business.
"""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from proxy.core import pricing
from proxy.core.entities import Price, Usage, UsageSource
from proxy.core.money import ceil_div
from proxy.core.searches import SEARCHES_MAX
from proxy.core.usage import OUTPUT_SLACK_TOKENS, UsageTally, bounded


class Delivered(Struct, frozen=True, gc=False):
    """What left this machine for the client."""

    content: bool
    """At least one byte of content."""
    output_tokens: int
    """Counted over the delivered text."""
    exact: bool
    """Counted with the model family's own table, not by estimate."""


class Statement(Struct, frozen=True, gc=False):
    """A call's usage and price, nano-USD; `forgiven` is the price of what is not charged."""

    usage: Usage
    source: UsageSource
    charge: int
    forgiven: int
    anomalies: tuple[str, ...] = ()


_COUNTED, _ESTIMATED = UsageSource.COUNTED, UsageSource.ESTIMATED
_REPORTED = UsageSource.REPORTED
NOTHING = Statement(Usage(calls=0), UsageSource.NONE, 0, 0)


class Terms(Struct, frozen=True, gc=False):
    """What prices a call: the price version, the group's multiplier, and what can be true.

    `output_tokens_max`: the limit sent upstream. `input_tokens_max`: what the prompt can have
    come to, None where the provider may add to it (server tools). `searches_max`: its searches.
    """

    price: Price
    multiplier: int
    output_tokens_max: int
    input_tokens_max: int | None = None
    searches_max: int = SEARCHES_MAX


def state_bare(
    usage: Usage,
    rates: pricing.Rates,
    output_tokens_max: int,
    input_tokens_max: int | None,
    source: UsageSource = _REPORTED,
) -> Statement | None:
    """Return what `state` does, at these terms, of content that was delivered and used `usage`.

    That has but a prompt and a completion, reported of a complete answer or, of one without a
    report, counted or estimated. None: there is something to bound.
    """
    if usage.output > output_tokens_max + OUTPUT_SLACK_TOKENS:
        return None
    if input_tokens_max is not None and usage.input_uncached > input_tokens_max:
        return None
    given, made, divisor = rates
    units = given * usage.input_uncached + made * usage.output
    return Statement(usage, source, units if divisor == 1 else ceil_div(units, divisor), 0)


def state_opened(
    usage: Usage,
    price: Price,
    multiplier: int,
    output_tokens_max: int,
    input_tokens_max: int | None,
    source: UsageSource,
) -> Statement | None:
    """The same of content of a call that is not complete and of whose prompt alone was a report.

    `usage`: see `UsageTally.opened`.
    """
    if usage.output > output_tokens_max + OUTPUT_SLACK_TOKENS:
        return None
    if input_tokens_max is not None and usage.input_total > input_tokens_max:
        return None
    return Statement(usage, source, pricing.charge(usage, price, multiplier), 0)


def state(
    terms: Terms,
    tally: UsageTally,
    delivered: Delivered,
    prompt_tokens: Callable[[], int],
    complete: bool,  # noqa: FBT001 - names in a call cost a tenth of all this
    delivered_only: bool = False,  # noqa: FBT001, FBT002 - likewise
) -> Statement:
    """Return what to charge; `prompt_tokens` is asked only when no provider said.

    `delivered_only`: it was we who ended the call, so that no output is charged that the client
    did not get, whatever the provider reported.
    """
    if delivered.content:
        bare, source, counted = tally.bare, _REPORTED, delivered.output_tokens
        if bare is not None:
            settled = not delivered_only and (
                bare.output >= counted or (complete and bare.output > 0)
            )
        elif tally.silent:
            bare, settled = Usage(prompt_tokens(), 0, 0, 0, counted), True
            source = _COUNTED if delivered.exact else _ESTIMATED
        else:
            settled = False
        # As nearly every call ends, and is marked: what follows would find nothing to bound.
        if (
            settled
            and bare is not None
            and bare.output <= terms.output_tokens_max + OUTPUT_SLACK_TOKENS
            and (terms.input_tokens_max is None or bare.input_uncached <= terms.input_tokens_max)
        ):
            amount = pricing.charge_bare(bare, terms.price, terms.multiplier)
            return Statement(bare, source, amount, 0)
    if not delivered.content and not tally.final:
        return NOTHING
    made = tally.bill(
        complete=complete,
        input_tokens=0 if tally.input_seen else prompt_tokens(),
        output_tokens=delivered.output_tokens,
        counted=_COUNTED if delivered.exact else _ESTIMATED,
    )
    usage, anomalies = bounded(
        made.usage,
        output_tokens_max=terms.output_tokens_max,
        input_tokens_max=terms.input_tokens_max,
        searches_max=terms.searches_max,
    )
    source, output_tokens = made.source, delivered.output_tokens
    if delivered_only and delivered.content and usage.completion_total > output_tokens:
        usage = replace(usage, output=output_tokens, reasoning=0, audio_output=0, image_output=0)
        source = _COUNTED if delivered.exact else _ESTIMATED
    if made.anomalies:
        anomalies = tuple(sorted({*made.anomalies, *anomalies}))
    amount = pricing.charge(usage, terms.price, terms.multiplier)
    if not delivered.content:
        return Statement(usage, source, 0, amount, anomalies)
    return Statement(usage, source, amount, 0, anomalies)
