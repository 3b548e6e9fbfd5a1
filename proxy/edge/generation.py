"""`GET /v1/generation`: one ended call as the ledger has it, for the user who made it.

Rules: everything its charge recomputes from is in the answer: usage by kind, the price version
with all its figures, the multiplier, what was posted. Amounts are nano-USD as integers; amounts in
USD are exact decimals. Names that OpenRouter has for the same thing stand beside ours. What
upstreams cost the operator is not told. This module must not know SQL.

Sources: DESIGN.md section 3; OpenRouter's `GET /api/v1/generation`.
"""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

import orjson
from msgspec.structs import asdict

from proxy.core.entities import MULTIPLIER_ONE, Key, Price, Usage, Verdict
from proxy.core.errors import ErrorCode, RelayError
from proxy.core.ids import format_id, parse_id
from proxy.core.money import format_usd
from proxy.storage.ports import CallRecord, KeeperUnavailableError, Records, Tried

_RATIOS = frozenset({"completion_ratio", "cache_ratio"})


async def generation(records: Records, key: Key, query: Mapping[str, str]) -> bytes:
    """Return the call that `query` names. Raises RelayError 400, 404, 503."""
    name = query.get("id")
    if name is None:
        raise RelayError(
            ErrorCode.INVALID_REQUEST,
            "`id` is required: send the request id that came with the answer, as `?id=req_...`.",
            param="id",
        )
    call_id = parse_id(name)
    try:
        found = False if call_id is None else await records.find(key.user_id, call_id)
    except KeeperUnavailableError:
        raise RelayError(
            ErrorCode.SERVICE_UNAVAILABLE, "The ledger is unavailable.", retry_after=1
        ) from None
    if found is True:
        raise RelayError(
            ErrorCode.GENERATION_NOT_FOUND,
            "This call is still open: ask again when its answer has ended.",
            param="id",
        )
    if found is False:
        raise RelayError(
            ErrorCode.GENERATION_NOT_FOUND,
            "No call of yours has this id, or its detail is no longer kept. Send the request id "
            "that came with the answer; what was refused before it began has no record.",
            param="id",
        )
    return receipt(found)


def receipt(call: CallRecord) -> bytes:
    """Return one ended call as the endpoint answers it, JSON."""
    return orjson.dumps({"data": {**_known_names(call), **_record(call)}})


def _known_names(call: CallRecord) -> dict[str, object]:
    """What OpenRouter tells, by its names."""
    usage, cost = call.usage, _usd(call.charge)
    waited = call.ttft_ms or 0.0
    return {
        "id": format_id(call.call_id),
        "model": call.model,
        "created_at": _moment(call.started_at),
        "streamed": call.stream,
        "cancelled": call.verdict == Verdict.CLIENT_GONE,
        "provider_name": call.channel,
        "upstream_id": call.attempts[-1].upstream_request_id if call.attempts else None,
        "finish_reason": call.finish_reason,
        "native_finish_reason": call.finish_reason,
        "tokens_prompt": usage.prompt_total,
        "tokens_completion": usage.completion_total,
        "native_tokens_prompt": usage.prompt_total,
        "native_tokens_completion": usage.completion_total,
        "native_tokens_reasoning": usage.reasoning,
        "native_tokens_cached": usage.cache_read,
        "num_search_results": usage.searches or None,
        "latency": round(waited),
        "generation_time": round(max(0.0, call.duration_ms - waited)),
        "total_cost": cost,
        "usage": cost,
        "is_byok": False,
    }


def _record(call: CallRecord) -> dict[str, object]:
    return {
        "endpoint": call.endpoint,
        "dialect": call.dialect,
        "group": call.group,
        "key": call.key,
        "client_reference": call.client_reference,
        "status": call.status,
        "verdict": call.verdict,
        "error_code": call.error_code,
        "channel": call.channel,
        "upstream_model": call.upstream_model,
        "used": _used(call.usage),
        "source": call.source,
        "anomalies": list(call.anomalies),
        "price_version": call.price_version,
        "price_nano_usd": None if call.price is None else _price(call.price),
        "multiplier_millionths": call.multiplier,
        "charge_nano_usd": call.charge,
        "overrun_nano_usd": call.overrun,
        "forgiven_nano_usd": call.forgiven,
        "refunded_nano_usd": call.refunded,
        "charge_usd": format_usd(call.charge),
        "balance_after_nano_usd": call.balance_after,
        "budget_after_nano_usd": call.budget_after,
        "delivered_bytes": call.delivered_bytes,
        "delivered_events": call.delivered_events,
        "ttft_ms": call.ttft_ms,
        "duration_ms": call.duration_ms,
        "attempts": [_attempt(tried, call) for tried in call.attempts],
    }


def _attempt(tried: Tried, call: CallRecord) -> dict[str, object]:
    return {
        "channel": tried.channel,
        "upstream_model": tried.upstream_model,
        "upstream_request_id": tried.upstream_request_id,
        "status": tried.status,
        "outcome": tried.outcome,
        # Two readings of two clocks: an attempt can seem to begin a moment before its call.
        "began_ms": round(max(0.0, tried.started_at - call.started_at) * 1000, 3),
        "duration_ms": tried.duration_ms,
        "used": _used(tried.usage),
    }


def _used(usage: Usage) -> dict[str, object]:
    """The kinds there were; `input_uncached`, `output` and `calls` always."""
    always = {"input_uncached", "output", "calls"}
    return {name: value for name, value in asdict(usage).items() if value or name in always}


def _price(price: Price) -> dict[str, object]:
    """Every figure of a price version that is not what it would be anyway."""
    shown: dict[str, object] = {}
    for field in fields(price):
        value = getattr(price, field.name)
        neutral = MULTIPLIER_ONE if field.name in _RATIOS else 0
        if field.name == "tiers":
            value = [{one.name: getattr(tier, one.name) for one in fields(tier)} for tier in value]
        elif field.name == "image_variants":
            value = dict(value)
        if value != neutral and (value or field.name in _RATIOS):
            shown[field.name] = value
    return shown


def _usd(nano: int) -> orjson.Fragment:
    """Write an amount as a JSON number with every digit it has."""
    return orjson.Fragment(format_usd(nano))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
