import pytest

from proxy.core.examples import fetch
from proxy.core.examples.literals import quoted
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert fetch.render(chat()) == (
        'const response = await fetch("https://relay.example/v1/chat/completions", {\n'
        '  method: "POST",\n'
        "  headers: {\n"
        '    "authorization": `Bearer ${process.env.SLUICE_API_KEY}`,\n'
        '    "content-type": "application/json",\n'
        "  },\n"
        "  body: JSON.stringify({\n"
        '    model: "gpt-x",\n'
        '    messages: [{ role: "user", content: "Say hello in one sentence." }],\n'
        "  }),\n"
        "});\n"
        "if (!response.ok) {\n"
        "  throw new Error(`${response.status} ${await response.text()}`);\n"
        "}\n"
        "console.log((await response.json()).choices[0].message.content);\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = fetch.render(sample)
    assert quoted(sample.url) in program
    assert "process.env.SLUICE_API_KEY" in program
    assert (quoted(ODD) in program) == (sample.endpoint not in {"models", "gemini_generate"})
    assert all(quoted(value) in program for _, value in sample.headers)
    assert (sample.file is None) == ("new FormData()" not in program)
