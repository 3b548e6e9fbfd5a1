"""Samples as Python programs with the requests package.

Rules: an error status prints what was said and ends the program. This module must not know the
other languages.
"""

from proxy.core.examples.literals import PYTHON, literal, quoted
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample


def render(sample: Sample) -> str:
    """Return the program."""
    image, saves = sample.reply is Reply.IMAGE, sample.reply is Reply.BYTES
    imports = ["base64"] if image else []
    imports += ["json"] if sample.stream else []
    lines = [f"import {name}" for name in (*imports, "os", "sys")]
    lines += ["", "import requests", "", f"response = requests.{sample.method.lower()}("]
    lines.append(f"    {quoted(sample.url)},")
    lines.append(f"    headers={_headers(sample)},")
    if sample.body is not None:
        lines.append(f"    json={literal(sample.body, PYTHON, 4)},")
    if sample.form:
        lines.append(f"    data={literal(dict(sample.form), PYTHON, 4)},")
    if sample.file is not None:
        field, name, kind = sample.file
        lines.append(f'    files={{"{field}": ("{name}", open("{name}", "rb"), "{kind}")}},')
    if sample.stream:
        lines.append("    stream=True,")
    lines += ["    timeout=600,", ")"]
    lines += ["if not response.ok:", '    sys.exit(f"{response.status_code} {response.text}")']
    if saves:
        lines += [f'with open("{sample.save_as}", "wb") as file:']
        lines += ["    file.write(response.content)"]
    elif image:
        lines += _image(sample.save_as)
    elif sample.stream:
        lines += _events(sample)
    elif sample.reply is Reply.TEXT:
        lines.append(f"print(response.json(){_path(sample)})")
    else:
        lines.append("print(response.text)")
    return "\n".join(lines) + "\n"


def _headers(sample: Sample) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]'
    if sample.key_prefix:
        key = f'f"{sample.key_prefix}{{os.environ[{KEY_VARIABLE!r}]}}"'
    rows = [f'"{sample.key_header}": {key}']
    rows += [f'"{name}": {quoted(value)}' for name, value in sample.headers]
    return "{" + ", ".join(rows) + "}"


def _path(sample: Sample) -> str:
    return "".join(f'["{step}"]' if isinstance(step, str) else f"[{step}]" for step in sample.words)


def _image(name: str) -> list[str]:
    return [
        'picture = response.json()["data"][0]',
        'if "b64_json" in picture:',
        f'    with open("{name}", "wb") as file:',
        '        file.write(base64.b64decode(picture["b64_json"]))',
        "else:",
        '    print(picture["url"])',
    ]


def _events(sample: Sample) -> list[str]:
    lines = [
        "for line in response.iter_lines():",
        '    if not line.startswith(b"data:") or line == b"data: [DONE]":',
        "        continue",
        "    event = json.loads(line[5:])",
    ]
    if sample.words[0] == "choices":
        lines += [
            '    for choice in event["choices"]:',
            '        print(choice["delta"].get("content") or "", end="", flush=True)',
        ]
    else:
        lines.append('    print(event.get("delta", {}).get("text", ""), end="", flush=True)')
    return [*lines, "print()"]
