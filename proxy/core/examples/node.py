"""Samples as Node.js programs with the provider's own SDK.

Rules: packages are openai, @anthropic-ai/sdk and @google/genai; programs are ES modules, so files
end in `.mjs`; what an SDK has no method for goes through its `post`. This module must not know the
other languages.
"""

from collections.abc import Mapping
from typing import Final

from proxy.core.examples.literals import JAVASCRIPT, literal, quoted
from proxy.core.examples.sample import KEY_VARIABLE, QUESTION, Json, Reply, Sample, in_path

_KEY: Final = f"process.env.{KEY_VARIABLE}"
_CALLS: Final[Mapping[str, tuple[str, str]]] = {
    "chat": ("chat.completions.create", "response.choices[0].message.content"),
    "responses": ("responses.create", "response.output_text"),
    "completions": ("completions.create", "response.choices[0].text"),
    "embeddings": ("embeddings.create", "response.data[0].embedding"),
    "images_generations": ("images.generate", ""),
    "images_edits": ("images.edit", ""),
    "transcriptions": ("audio.transcriptions.create", "response.text"),
    "speech": ("audio.speech.create", ""),
    "moderations": ("moderations.create", "response.results[0]"),
}
"""Method of the client, and what to print of its response."""


def render(sample: Sample) -> str:
    """Return the program."""
    if sample.endpoint == "messages":
        return _program(sample, "Anthropic", '"@anthropic-ai/sdk"', _messages(sample))
    if sample.endpoint == "gemini_generate":
        return _gemini(sample)
    return _program(sample, "OpenAI", '"openai"', _openai(sample))


def _program(sample: Sample, client: str, package: str, lines: list[str]) -> str:
    head = []
    if sample.reply in {Reply.IMAGE, Reply.BYTES} or sample.file is not None:
        head.append('import fs from "node:fs";')
    head += [f"import {client} from {package};", "", f"const client = new {client}({{"]
    head += [f"  baseURL: {quoted(sample.base_url)},", f"  apiKey: {_KEY},", "});"]
    return "\n".join([*head, *lines]) + "\n"


def _openai(sample: Sample) -> list[str]:
    if sample.endpoint == "models":
        return [
            "for await (const model of client.models.list()) {",
            "  console.log(model.id);",
            "}",
        ]
    arguments = _arguments(sample)
    if sample.endpoint == "rerank":
        body = literal({"body": sample.body or {}}, JAVASCRIPT, 0, 2)
        return [f'const response = await client.post("/rerank", {body});', "console.log(response);"]
    method, shown = _CALLS[sample.endpoint]
    if sample.stream:
        return [
            f"const stream = await client.{method}({arguments});",
            "for await (const chunk of stream) {",
            '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
            "}",
            "console.log();",
        ]
    lines = [f"const response = await client.{method}({arguments});"]
    if sample.reply is Reply.IMAGE:
        return lines + _image(sample.save_as)
    if sample.reply is Reply.BYTES:
        content = "Buffer.from(await response.arrayBuffer())"
        return [*lines, f'fs.writeFileSync("{sample.save_as}", {content});']
    return [*lines, f"console.log({shown});"]


def _arguments(sample: Sample) -> str:
    values: Mapping[str, Json] = dict(sample.form) if sample.body is None else sample.body
    rows = [f"  {name}: {literal(value, JAVASCRIPT, 2, 2)}," for name, value in values.items()]
    if sample.file is not None:
        rows.append(f'  {sample.file[0]}: fs.createReadStream("{sample.file[1]}"),')
    return "\n".join(["{", *rows, "}"])


def _image(name: str) -> list[str]:
    return [
        "const picture = response.data[0];",
        "if (picture.b64_json) {",
        f'  fs.writeFileSync("{name}", Buffer.from(picture.b64_json, "base64"));',
        "} else {",
        "  console.log(picture.url);",
        "}",
    ]


def _messages(sample: Sample) -> list[str]:
    if sample.stream:
        return [
            f"const stream = await client.messages.create({_arguments(sample)});",
            "for await (const event of stream) {",
            '  if (event.type === "content_block_delta") {',
            '    process.stdout.write(event.delta.text ?? "");',
            "  }",
            "}",
            "console.log();",
        ]
    return [
        f"const message = await client.messages.create({_arguments(sample)});",
        "for (const block of message.content) {",
        '  if (block.type === "text") console.log(block.text);',
        "}",
    ]


def _gemini(sample: Sample) -> str:
    return "\n".join(
        [
            'import { GoogleGenAI } from "@google/genai";',
            "",
            "const client = new GoogleGenAI({",
            f"  apiKey: {_KEY},",
            f"  httpOptions: {{ baseUrl: {quoted(sample.base_url)} }},",
            "});",
            "const response = await client.models.generateContent({",
            f"  model: {quoted(in_path(sample.model))},",
            f"  contents: {quoted(QUESTION)},",
            "});",
            "console.log(response.text);",
            "",
        ]
    )
