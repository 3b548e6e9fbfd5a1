"""Samples as a Ruby program with net/http: `ruby example.rb`.

Rules: Ruby 2.7 or later, the standard library alone. This module must not know the other languages.
"""

from typing import Final

from proxy.core.examples.literals import RUBY, indented, literal, single_quoted
from proxy.core.examples.sample import KEY_VARIABLE, Reply, Sample

_ABORT: Final = 'abort "#{response.code} #{response.body}" unless response.is_a?(Net::HTTPSuccess)'


def render(sample: Sample) -> str:
    """Return the program."""
    needs_json = sample.body is not None or sample.reply in {Reply.TEXT, Reply.IMAGE}
    names = ["json"] if needs_json else []
    lines = [f"require '{name}'" for name in (*names, "net/http")]
    method = "Get" if sample.method == "GET" else "Post"
    lines += ["", f"uri = URI({single_quoted(sample.url)})"]
    lines.append(f"request = Net::HTTP::{method}.new(uri)")
    key = f"ENV.fetch('{KEY_VARIABLE}')"
    key = f'"{sample.key_prefix}#{{{key}}}"' if sample.key_prefix else key
    lines.append(f"request['{sample.key_header}'] = {key}")
    lines += [f"request['{name}'] = {single_quoted(value)}" for name, value in sample.headers]
    if sample.body is not None:
        lines.append("request['content-type'] = 'application/json'")
        lines.append(f"request.body = JSON.generate({literal(sample.body, RUBY, 0, 2)})")
    elif sample.file is not None:
        lines += _form(sample)
    lines.append("http = Net::HTTP.new(uri.host, uri.port)")
    lines += ["http.use_ssl = uri.scheme == 'https'", "http.read_timeout = 600"]
    if sample.stream:
        return "\n".join([*lines, *_events(sample), ""])
    return "\n".join([*lines, "response = http.request(request)", _ABORT, *_answer(sample), ""])


def _form(sample: Sample) -> list[str]:
    field, name, kind = sample.file or ("", "", "")
    options = f"{{ filename: '{name}', content_type: '{kind}' }}"
    rows = [f"['{label}', {single_quoted(value)}]," for label, value in sample.form]
    rows.append(f"['{field}', File.open('{name}', 'rb'), {options}]")
    return [
        "form = [",
        indented("\n".join(rows), 2),
        "]",
        "request.set_form(form, 'multipart/form-data')",
    ]


def _events(sample: Sample) -> list[str]:
    openai = sample.words[0] == "choices"
    words = "'choices', 0, 'delta', 'content'" if openai else "'delta', 'text'"
    inner = [
        "if response.is_a?(Net::HTTPSuccess)",
        "  rest = +''",
        "  response.read_body do |piece|",
        "    rest << piece",
        "    while (line = rest.slice!(/.*\\n/))",
        "      next unless line.start_with?('data: {')",
        "      event = JSON.parse(line.delete_prefix('data: '))",
        f"      print event.dig({words})",
        "      $stdout.flush",
        "    end",
        "  end",
        "else",
        '  abort "#{response.code} #{response.read_body}"',
        "end",
    ]
    return ["http.request(request) do |response|", indented("\n".join(inner), 2), "end", "puts"]


def _answer(sample: Sample) -> list[str]:
    if sample.reply is Reply.BYTES:
        return [f"File.binwrite('{sample.save_as}', response.body)"]
    if sample.reply is Reply.IMAGE:
        return [
            "picture = JSON.parse(response.body)['data'][0]",
            "if picture['b64_json']",
            f"  File.binwrite('{sample.save_as}', picture['b64_json'].unpack1('m'))",
            "else",
            "  puts picture['url']",
            "end",
        ]
    if sample.reply is Reply.TEXT:
        path = ", ".join(repr(step) for step in sample.words)
        return [f"puts JSON.parse(response.body).dig({path})"]
    return ["puts response.body"]
