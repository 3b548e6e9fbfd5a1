"""Recordings written down, or translated: billed by their length, or by tokens heard and written.

Rules: how long a recording is, its own bytes say (core/sound); where they do not, it is held for at
the lowest rate at which anybody records. What the provider reports is billed as such. This module
must not know prices or formats.

Sources: openai-python `types/audio/transcription_create_params.py` and
`translation_create_params.py`. Tokens: OpenAI's realtime guide counts 1 audio token for 100 ms of
input; the price page's estimate of a minute with gpt-4o-transcribe ($0.006) agrees, with some 3
tokens of text a second.
"""

from typing import Final

from proxy.core.entities import Usage, UsageSource
from proxy.core.services.forms import FormFields
from proxy.core.services.service import ServiceRequest
from proxy.core.sound.length import SoundLength

BYTES_A_SECOND_MIN: Final = 1_000
"""8 kbit/s: nobody records speech at less."""
BYTES_A_SECOND: Final = 4_000
"""32 kbit/s, a usual rate of speech: the estimate for a recording of unknown length."""
HEARD_A_SECOND: Final = 10
WRITTEN_A_SECOND: Final = 4
WRITTEN_A_SECOND_MAX: Final = 8
SLACK_MS: Final = 1_000
"""Reported lengths are whole seconds, rounded up."""
BELIEVED_MS: Final = 60_000
FRAME_TOKENS_MAX: Final = 256
_BELIEVED: Final = 4


def read(fields: FormFields, endpoint: str, sound: SoundLength) -> ServiceRequest:
    """Read a request to `endpoint` whose file `sound` was fed. Raises RelayError."""
    model = fields.model()
    file = fields.file("file", "the recording")
    fields.word("response_format")
    fields.word("language")
    prompt = fields.text("prompt")
    by_size = -(-file.size * 1_000 // BYTES_A_SECOND_MIN)
    known = sound.milliseconds()
    length = -(-file.size * 1_000 // BYTES_A_SECOND) if known is None else known
    held = by_size if known is None else known + SLACK_MS
    most = max(by_size, 2 * held) + BELIEVED_MS
    return ServiceRequest(
        endpoint=endpoint,
        model=model.name,
        place=model.place,
        model_given=model.given,
        usage_max=_usage(prompt.tokens_max, held, WRITTEN_A_SECOND_MAX, FRAME_TOKENS_MAX),
        usage_bound=_usage(
            prompt.tokens_bound, most, _BELIEVED * WRITTEN_A_SECOND_MAX, FRAME_TOKENS_MAX
        ),
        usage_known=_usage(prompt.tokens_known, length, WRITTEN_A_SECOND, 0),
        known_source=UsageSource.ESTIMATED,
        units_source=UsageSource.ESTIMATED if known is None else UsageSource.COUNTED,
        stream=endpoint == "transcriptions" and fields.flag("stream"),
    )


def _usage(prompt: int, milliseconds: int, written_a_second: int, frame: int) -> Usage:
    """Return what a recording of a length comes to, in time and in tokens."""
    return Usage(
        input_uncached=prompt + frame,
        audio_input=-(-milliseconds * HEARD_A_SECOND // 1_000),
        output=-(-milliseconds * written_a_second // 1_000) + frame,
        audio_ms=milliseconds,
    )
