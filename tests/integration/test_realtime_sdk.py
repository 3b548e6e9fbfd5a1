"""OpenAI's own realtime client through the relay, against an upstream that says it is a stand-in."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.websocket_reconnection import ReconnectingEvent

from proxy.edge.open_call import Notice
from tests.edge.harness import ANN, Relay
from tests.edge.test_realtime import serving
from tests.edge.test_realtime_session import PRICE
from tests.integration.realtime_stand_in import NAME, RealtimeStandIn, Session

pytestmark = pytest.mark.filterwarnings("ignore:connect\\(\\) must be used:DeprecationWarning")


def base_url(relay: Relay) -> str:
    return f"http://127.0.0.1:{relay.port}/v1"


async def converse(session: Session) -> None:
    """Answer in sound and words, and call a tool when asked for the weather."""
    await session.say("session.created", session={"type": "realtime", "model": NAME})
    async for message in session.connection:
        event = json.loads(message)
        session.received.append(event)
        if event["type"] == "session.update":
            await session.say("session.updated", session=event["session"])
        elif event["type"] == "conversation.item.create":
            await session.say("conversation.item.added", item=event["item"])
        elif event["type"] == "response.create":
            await answer(session)


async def answer(session: Session) -> None:
    tool = "weather" in json.dumps(session.received[-3])
    await session.say("response.created", response={"id": "r", "status": "in_progress"})
    if tool:
        arguments = '{"city":"Oslo"}'
        await session.say("response.function_call_arguments.delta", delta=arguments, call_id="c")
        await session.say("response.function_call_arguments.done", arguments=arguments, call_id="c")
    else:
        await session.say("response.output_audio.delta", delta="A" * 6_400)
        await session.say("response.output_audio_transcript.delta", delta="Hello")
    await session.respond(words=())


def test_a_conversation_in_sound_and_words_is_billed_response_by_response(tmp_path: Path) -> None:
    with (
        RealtimeStandIn(converse) as upstream,
        Relay(tmp_path, serving(upstream)) as relay,
    ):
        client = openai.OpenAI(api_key=ANN, base_url=base_url(relay))
        with client.realtime.connect(model="m") as connection:
            assert connection.recv().type == "session.created"
            output = {"format": {"type": "audio/pcm", "rate": 24_000}}
            changes: Any = {"type": "realtime", "audio": {"output": output}}
            connection.session.update(session=changes)
            assert connection.recv().type == "session.updated"
            for text in ("Say hello.", "The weather?"):
                item: Any = {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": text}],
                }
                connection.conversation.item.create(item=item)
                connection.input_audio_buffer.append(audio="A" * 64_000)
                connection.response.create()
                kinds: list[str] = []
                while not kinds or kinds[-1] != "response.done":
                    kinds.append(connection.recv().type)
                wanted = "function_call_arguments" if "weather" in text else "output_audio"
                assert any(wanted in kind for kind in kinds)
        *calls, last = relay.calls()
        assert [call["charge"] for call in calls] == [PRICE, PRICE]
        assert [call["source"] for call in calls] == ["reported", "reported"]
        assert (last["charge"], last["verdict"]) == (0, "complete")
        received = [event["type"] for event in upstream.sessions[0].received]
        assert received.count("input_audio_buffer.append") == 2


def test_an_asynchronous_client_gets_an_error_event_and_may_come_back(tmp_path: Path) -> None:
    with RealtimeStandIn() as upstream, Relay(tmp_path, serving(upstream)) as relay:
        asked: list[int] = []

        def reconnecting(event: ReconnectingEvent) -> None:
            asked.append(event.close_code)

        async def talk() -> list[str]:
            kinds: list[str] = []
            client = openai.AsyncOpenAI(api_key=ANN, base_url=base_url(relay))
            async with client.realtime.connect(
                model="m", on_reconnecting=reconnecting, initial_delay=0.0
            ) as connection:
                async for event in connection:
                    kinds.append(event.type)
                    if kinds == ["session.created"]:
                        await asyncio.to_thread(cut, relay)
                    if kinds.count("session.created") == 2:
                        await connection.close()
            await client.close()
            return kinds

        assert asyncio.run(talk()) == ["session.created", "error", "session.created"]
        assert asked == [1012]
        assert [call["verdict"] for call in relay.calls()] == ["cut_by_shutdown", "complete"]


def cut(relay: Relay) -> None:
    """Restart, as far as open sessions can tell."""
    relay.do(lambda: [one.cut(Notice.SHUTDOWN) for one in relay.world.open])
