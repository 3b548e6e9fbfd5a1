"""Calls of tools as OpenAI's chat completions write them, in requests as in whole answers.

Rules: a signature of Gemini's goes with what it belongs to, in the place Google's own chat
completions have for it; another maker's has none here. This module must not know other dialects.

Sources: WIRE.md section 1; `proxy/core/translation/signatures.py` for `extra_content`.
"""

from collections.abc import Iterable

from proxy.core.translation.conversation import Part, Thinking, ToolCall
from proxy.core.translation.signatures import Place, extra_content, of_gemini


def written_calls(parts: Iterable[Part]) -> Iterable[dict[str, object]]:
    """The calls among `parts`, each with the signature that stands before it, if one does."""
    signature: tuple[Place, str] | None = None
    for part in parts:
        if isinstance(part, Thinking):
            signature = of_gemini(part.signature)
        elif isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments}
            call: dict[str, object] = {"id": part.id, "type": "function", "function": function}
            if signature is not None and signature[0] is Place.CALL:
                call["extra_content"] = extra_content(signature[1])
            signature = None
            yield call


def text_signature(parts: Iterable[Part]) -> str | None:
    """The last signature of a text among `parts`."""
    found = None
    for part in parts:
        signature = of_gemini(part.signature) if isinstance(part, Thinking) else None
        if signature is not None and signature[0] is Place.TEXT:
            found = signature[1]
    return found
