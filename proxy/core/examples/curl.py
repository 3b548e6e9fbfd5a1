"""Samples as a shell command: curl 7.76 or later.

Rules: single quotes around everything but the key; an error status makes curl fail and still shows
what was said. This module must not know the other languages.
"""

from proxy.core.examples.literals import json_text
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample


def render(sample: Sample) -> str:
    """Return the command."""
    flags = "-sS --fail-with-body" + (" -N" if sample.stream else "")
    lines = [f"curl {flags} {_word(sample.url)}"]
    lines.append(f'-H "{sample.key_header}: {sample.key_prefix}${KEY_VARIABLE}"')
    lines.extend(f"-H {_word(f'{name}: {value}')}" for name, value in sample.headers)
    if sample.body is not None:
        lines.append("-H 'content-type: application/json'")
        lines.append(f"-d '{json_text(sample.body, unquotable=chr(39))}'")
    # Not -F: that would read a file where a value begins with an at sign.
    lines.extend(f"--form-string {_word(f'{name}={value}')}" for name, value in sample.form)
    if sample.file is not None:
        field, name, kind = sample.file
        lines.append(f"-F '{field}=@{name};type={kind}'")
    if sample.reply is Reply.IMAGE:
        lines.append(f"-o {sample.save_as}.json")
    elif sample.reply is Reply.BYTES:
        lines.append(f"-o {sample.save_as}")
    command = " \\\n  ".join(lines) + "\n"
    if sample.reply is Reply.IMAGE:
        command += "# .data[0] has the image: b64_json is the file in base64, or url its address\n"
    return command


def _word(text: str) -> str:
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"
