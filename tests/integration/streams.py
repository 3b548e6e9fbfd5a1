"""Every generated stream of every wire form, by name. See stream_record.py for the fields."""

from tests.integration.anthropic_streams import ANTHROPIC_STREAMS
from tests.integration.completion_streams import COMPLETION_STREAMS
from tests.integration.openai_streams import OPENAI_STREAMS
from tests.integration.response_streams import RESPONSE_STREAMS
from tests.integration.stream_record import UpstreamStream

CHAT_AND_MESSAGES: tuple[UpstreamStream, ...] = OPENAI_STREAMS + ANTHROPIC_STREAMS
STREAMS = CHAT_AND_MESSAGES + RESPONSE_STREAMS + COMPLETION_STREAMS
COMPLETE_STREAMS = tuple(stream for stream in STREAMS if stream.complete)
BY_NAME = {stream.name: stream for stream in STREAMS}
