"""Samples as Python programs with the provider's own SDK: openai, anthropic or google-genai.

Rules: what an SDK has no method for goes through its `post`, with the same key and retries. This
module must not know the other languages.
"""

from collections.abc import Mapping
from typing import Final

from proxy.core.examples.literals import PYTHON, quoted
from proxy.core.examples.literals import literal as write
from proxy.core.examples.sample import KEY_VARIABLE, QUESTION, Json, Reply, Sample, in_path

_KEY: Final = f'os.environ["{KEY_VARIABLE}"]'
_CALLS: Final[Mapping[str, tuple[str, str]]] = {
    "chat": ("chat.completions.create", "response.choices[0].message.content"),
    "responses": ("responses.create", "response.output_text"),
    "completions": ("completions.create", "response.choices[0].text"),
    "embeddings": ("embeddings.create", "response.data[0].embedding"),
    "images_generations": ("images.generate", ""),
    "images_edits": ("images.edit", ""),
    "transcriptions": ("audio.transcriptions.create", "response.text"),
    "moderations": ("moderations.create", "response.results[0].model_dump_json(indent=2)"),
}
"""Method of the client, and what to print of its response."""


def render(sample: Sample) -> str:
    """Return the program."""
    if sample.endpoint == "messages":
        return _program(sample, "anthropic", "Anthropic", _messages(sample))
    if sample.endpoint == "gemini_generate":
        return _gemini(sample)
    return _program(sample, "openai", "OpenAI", _openai(sample))


def _program(sample: Sample, package: str, client: str, lines: list[str]) -> str:
    imports = ["base64"] if sample.reply is Reply.IMAGE else []
    head = [f"import {name}" for name in (*imports, "os")]
    head += ["", f"from {package} import {client}", ""]
    head.append(f"client = {client}(base_url={quoted(sample.base_url)}, api_key={_KEY})")
    return "\n".join([*head, *lines]) + "\n"


def _openai(sample: Sample) -> list[str]:
    if sample.endpoint == "models":
        return ["for model in client.models.list():", "    print(model.id)"]
    if sample.endpoint == "rerank":
        body = write(sample.body or {}, PYTHON, 0)
        return [
            f'response = client.post("/rerank", cast_to=object, body={body})',
            "print(response)",
        ]
    arguments = _arguments(sample)
    if sample.endpoint == "speech":
        return [
            "with client.audio.speech.with_streaming_response.create(",
            *arguments,
            ") as response:",
            f'    response.stream_to_file("{sample.save_as}")',
        ]
    method, shown = _CALLS[sample.endpoint]
    if sample.stream:
        return [
            f"stream = client.{method}(",
            *arguments,
            ")",
            "for chunk in stream:",
            "    for choice in chunk.choices:",
            '        print(choice.delta.content or "", end="", flush=True)',
            "print()",
        ]
    lines = [f"response = client.{method}(", *arguments, ")"]
    return [
        *lines,
        *(_image(sample.save_as) if sample.reply is Reply.IMAGE else [f"print({shown})"]),
    ]


def _arguments(sample: Sample) -> list[str]:
    values: Mapping[str, Json] = dict(sample.form) if sample.body is None else sample.body
    lines = [f"    {name}={write(value, PYTHON, 4)}," for name, value in values.items()]
    if sample.file is not None:
        lines.append(f'    {sample.file[0]}=open("{sample.file[1]}", "rb"),')
    return lines


def _image(name: str) -> list[str]:
    return [
        "picture = response.data[0]",
        "if picture.b64_json:",
        f'    with open("{name}", "wb") as file:',
        "        file.write(base64.b64decode(picture.b64_json))",
        "else:",
        "    print(picture.url)",
    ]


def _messages(sample: Sample) -> list[str]:
    lines = [line for line in _arguments(sample) if not line.startswith("    stream=")]
    if sample.stream:
        return [
            "with client.messages.stream(",
            *lines,
            ") as stream:",
            "    for text in stream.text_stream:",
            '        print(text, end="", flush=True)',
            "print()",
        ]
    return [
        "message = client.messages.create(",
        *lines,
        ")",
        "for block in message.content:",
        '    if block.type == "text":',
        "        print(block.text)",
    ]


def _gemini(sample: Sample) -> str:
    return "\n".join(
        [
            "import os",
            "",
            "from google import genai",
            "",
            "client = genai.Client(",
            f"    api_key={_KEY},",
            f'    http_options={{"base_url": {quoted(sample.base_url)}}},',
            ")",
            "response = client.models.generate_content(",
            f"    model={quoted(in_path(sample.model))},",
            f"    contents={quoted(QUESTION)},",
            ")",
            "print(response.text)",
            "",
        ]
    )
