"""What an attempt sends, and what reads its answer."""

import json

import pytest

from proxy.core.catalog import spoken
from proxy.core.entities import Dialect, Wire
from proxy.core.exchange import Exchange, Phase
from proxy.core.plain_exchange import PlainExchange
from proxy.core.tokenizers import Calibration
from proxy.edge.engines import PLAIN, request_body, stream_exchange
from proxy.edge.translation import Translation
from tests.edge.harness import CONTENT, ROLE, body, usage
from tests.edge.test_translation import offer
from tests.integration.scripts import Send, chunk, plain_script, stream_head


def streaming(upstream: Dialect, *, omit_usage: bool = False) -> Exchange:
    made, channel = offer(upstream)
    return stream_exchange(
        made,
        channel,
        spoken(channel, made.request.wire),
        Calibration(),
        made.ceiling,
        omit_usage,
        True,
        1_000,
        int,
    )


def test_a_stream_of_the_callers_dialect_passes_as_it_is() -> None:
    exchange = streaming(Dialect.OPENAI)
    exchange.receive(stream_head() + chunk(ROLE) + chunk(CONTENT[0]))
    assert exchange.phase is Phase.CONTENT
    assert exchange.ordinary(chunk(CONTENT[1])) == len(chunk(CONTENT[1]))
    assert exchange.tokens_allowed == 2_000, "what is held covers"


@pytest.mark.parametrize("omit", [False, True])
def test_usage_is_left_out_where_it_was_asked_for_by_us(omit: bool) -> None:
    exchange = streaming(Dialect.OPENAI, omit_usage=omit)
    exchange.receive(stream_head() + chunk(ROLE) + chunk(CONTENT[0]))
    assert exchange.receive(chunk(usage(9, 1))) == (usage(9, 1) if omit else b"")
    assert exchange.tally.seen


def test_a_stream_to_be_translated_is_never_passed_as_it_is() -> None:
    exchange = streaming(Dialect.ANTHROPIC)
    start = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}\n\n'
    assert exchange.receive(stream_head() + chunk(start)) == start
    assert exchange.ordinary(chunk(start)) == 0


def test_a_plain_answer_is_read_whole() -> None:
    exchange = PlainExchange(PLAIN[Wire.CHAT])
    for step in plain_script(b'{"choices":[]}'):
        assert isinstance(step, Send)
        exchange.receive(step.data)
    assert exchange.phase is Phase.TERMINAL
    assert exchange.body == b'{"choices":[]}'


def test_a_request_is_edited_or_translated() -> None:
    made, channel = offer(Dialect.OPENAI)
    own = json.loads(request_body(made, body(seed=1), channel, None, omit_usage=False))
    assert (own["model"], own["seed"]) == ("up", 1)
    assert own["stream_options"] == {"include_usage": True}
    plain = json.loads(request_body(made, body(seed=1), channel, None, omit_usage=True))
    assert "stream_options" not in plain
    made, channel = offer(Dialect.ANTHROPIC)
    translation = Translation(made, channel, 0)
    other = json.loads(request_body(made, body(seed=1), channel, translation, omit_usage=False))
    assert (other["model"], other["max_tokens"]) == ("up", 2_000)
    assert translation.left_out == ("seed",)
