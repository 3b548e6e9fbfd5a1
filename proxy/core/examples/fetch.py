"""Samples as JavaScript without any package: fetch, as Node.js 18 and later and browsers have it.

Rules: ES modules, so files end in `.mjs`. This module must not know the other languages.
"""

from proxy.core.examples.literals import JAVASCRIPT, literal, quoted
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample


def render(sample: Sample) -> str:
    """Return the program."""
    lines = []
    if sample.reply in {Reply.IMAGE, Reply.BYTES} or sample.file is not None:
        lines += ['import fs from "node:fs";', ""]
    if sample.file is not None:
        lines += _form(sample)
    lines += [f"const response = await fetch({quoted(sample.url)}, {{"]
    lines += [f'  method: "{sample.method}",', *_headers(sample)]
    if sample.body is not None:
        lines.append(f"  body: JSON.stringify({literal(sample.body, JAVASCRIPT, 2, 2)}),")
    elif sample.file is not None:
        lines.append("  body: form,")
    lines += ["});", "if (!response.ok) {"]
    lines += ["  throw new Error(`${response.status} ${await response.text()}`);", "}"]
    return "\n".join(lines + _answer(sample)) + "\n"


def _headers(sample: Sample) -> list[str]:
    key = f"process.env.{KEY_VARIABLE}"
    if sample.key_prefix:
        key = f"`{sample.key_prefix}${{{key}}}`"
    rows = [f'    "{sample.key_header}": {key},']
    rows += [f'    "{name}": {quoted(value)},' for name, value in sample.headers]
    if sample.body is not None:
        rows.append('    "content-type": "application/json",')
    return ["  headers: {", *rows, "  },"]


def _form(sample: Sample) -> list[str]:
    lines = ["const form = new FormData();"]
    lines += [f'form.append("{name}", {quoted(value)});' for name, value in sample.form]
    field, name, kind = sample.file or ("", "", "")
    lines.append(f'const file = new Blob([fs.readFileSync("{name}")], {{ type: "{kind}" }});')
    return [*lines, f'form.append("{field}", file, "{name}");']


def _answer(sample: Sample) -> list[str]:
    if sample.stream:
        return _events(sample)
    if sample.reply is Reply.BYTES:
        content = "Buffer.from(await response.arrayBuffer())"
        return [f'fs.writeFileSync("{sample.save_as}", {content});']
    if sample.reply is Reply.IMAGE:
        return [
            "const picture = (await response.json()).data[0];",
            "if (picture.b64_json) {",
            f'  fs.writeFileSync("{sample.save_as}", Buffer.from(picture.b64_json, "base64"));',
            "} else {",
            "  console.log(picture.url);",
            "}",
        ]
    if sample.reply is Reply.TEXT:
        path = "".join(
            f".{step}" if isinstance(step, str) else f"[{step}]" for step in sample.words
        )
        return [f"console.log((await response.json()){path});"]
    return ["console.log(await response.text());"]


def _events(sample: Sample) -> list[str]:
    openai = sample.words[0] == "choices"
    words = "event.choices[0]?.delta?.content" if openai else "event.delta?.text"
    return [
        'let rest = "";',
        "for await (const text of response.body.pipeThrough(new TextDecoderStream())) {",
        '  const lines = (rest + text).split("\\n");',
        "  rest = lines.pop();",
        "  for (const line of lines) {",
        '    if (!line.startsWith("data:") || line === "data: [DONE]") continue;',
        "    const event = JSON.parse(line.slice(5));",
        f'    process.stdout.write({words} ?? "");',
        "  }",
        "}",
        "console.log();",
    ]
