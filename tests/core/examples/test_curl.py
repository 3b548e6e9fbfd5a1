import json
import shlex

import pytest

from proxy.core.examples import curl
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert curl.render(chat(stream=True)) == (
        "curl -sS --fail-with-body -N 'https://relay.example/v1/chat/completions' \\\n"
        '  -H "authorization: Bearer $SLUICE_API_KEY" \\\n'
        "  -H 'content-type: application/json' \\\n"
        "  -d '{\n"
        '  "model": "gpt-x",\n'
        '  "messages": [\n'
        "    {\n"
        '      "role": "user",\n'
        '      "content": "Say hello in one sentence."\n'
        "    }\n"
        "  ],\n"
        '  "stream": true\n'
        "}'\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_a_shell_reads_what_is_meant(sample: Sample) -> None:
    words = shlex.split(curl.render(sample), comments=True)
    assert words[0] == "curl"
    assert sample.url in words
    headers = [words[i + 1] for i, word in enumerate(words) if word == "-H"]
    assert f"{sample.key_header}: {sample.key_prefix}$SLUICE_API_KEY" in headers
    if sample.body is not None:
        body = json.loads(words[words.index("-d") + 1])
        assert body == json.loads(json.dumps(sample.body))
    if sample.form:
        assert f"model={ODD}" in words
    if sample.save_as:
        assert words[words.index("-o") + 1].startswith(sample.save_as)
