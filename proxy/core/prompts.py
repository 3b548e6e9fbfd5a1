"""What a prompt weighs: its countable texts, and published figures for what is not text.

Rules: `Prompt` is read once per call by core/openai.py or core/anthropic.py. The estimate leans
up, because it sizes holds and token limits before a provider has counted; the bill never uses it
when anything better exists. Figures for media are fixed and stand here with their source. This
module must not know either dialect's JSON.
"""

import msgspec

OBJECTS_MAX = 100_000
"""Opening braces of a body that is read part by part (at most 60 ms); beyond, it counts as text."""

SEARCHED_BYTES_MAX = 1_000_000
"""Largest member that is searched for hidden output; a larger one is taken to ask for it."""

OPENAI_IMAGE_TOKENS = 1_445
"""High or automatic detail: 85 + 170 per 512 px tile, at most 8 tiles (OpenAI's vision guide)."""
OPENAI_IMAGE_TOKENS_LOW = 85
"""`detail: low` costs 85 tokens whatever the size (the same guide)."""
MINI_IMAGE_TOKENS = 48_169
"""The gpt-4o-mini family bills 2,833 + 5,667 per tile (the same guide's table)."""
MINI_IMAGE_TOKENS_LOW = 2_833
ANTHROPIC_IMAGE_TOKENS = 4_784
"""One per 28 px patch: at most 92 x 52 after scaling to 2,576 px (Anthropic's vision guide)."""
ANTHROPIC_IMAGE_TOKENS_OLD = 1_600
"""Up to Claude 4.6 images are scaled to 1,568 px first: about 1,600 (the same guide)."""

DOCUMENT_TOKENS_MIN = 4_600
"""One PDF page: up to 3,000 tokens of text and an image (Anthropic's PDF guide)."""
DOCUMENT_TOKENS_MAX = 200_000
DOCUMENT_CHARS_PER_TOKEN = 8
"""Base64 characters per token: our figure, for a PDF of text (a scan weighs less)."""
AUDIO_TOKENS_MIN = 10
AUDIO_CHARS_PER_TOKEN = 500
"""Base64 characters per token: 10 tokens a second at 32 kbit/s, a low rate for speech."""

MESSAGE_TOKENS = 4
"""Framing of one message, and of the reply (OpenAI's cookbook counts 3, and 1 for a name)."""
TOOLS_TOKENS = 530
"""The system prompt that tools add: 159-530 tokens (Anthropic's tool-use pricing table)."""


class Prompt(msgspec.Struct, frozen=True, gc=False):
    """One prompt: `pieces` are texts to count apart, `fixed_tokens` everything that is not text."""

    pieces: tuple[str, ...]
    fixed_tokens: int


def estimate(prompt: Prompt) -> int:
    """Return an upper-leaning token count, at least 1: one token per 2 bytes of UTF-8.

    Measured with o200k and cl100k: English prose and code are over-estimated 2 to 2.5 times,
    dense JSON 1.25, Chinese 1.4 to 2.1; only hexadecimal, base64 pasted as text and some emoji
    and scripts under cl100k weigh more than this (up to 1.4 times).
    """
    tokens = prompt.fixed_tokens
    for piece in prompt.pieces:
        size = len(piece) if piece.isascii() else len(piece.encode())
        tokens += (size + 1) >> 1
    return tokens or 1


def document_tokens(base64_chars: int) -> int:
    """Return the fixed figure for a document of `base64_chars` (0: by reference)."""
    tokens = base64_chars // DOCUMENT_CHARS_PER_TOKEN
    return min(max(tokens, DOCUMENT_TOKENS_MIN), DOCUMENT_TOKENS_MAX)


def audio_tokens(base64_chars: int) -> int:
    """Return the fixed figure for recorded audio of `base64_chars`."""
    return max(base64_chars // AUDIO_CHARS_PER_TOKEN, AUDIO_TOKENS_MIN)
