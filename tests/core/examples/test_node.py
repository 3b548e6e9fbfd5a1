import pytest

from proxy.core.examples import node
from proxy.core.examples.literals import quoted
from proxy.core.examples.sample import Sample, in_path
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert node.render(chat(stream=True)) == (
        'import OpenAI from "openai";\n\n'
        "const client = new OpenAI({\n"
        '  baseURL: "https://relay.example/v1",\n'
        "  apiKey: process.env.SLUICE_API_KEY,\n"
        "});\n"
        "const stream = await client.chat.completions.create({\n"
        '  model: "gpt-x",\n'
        '  messages: [{ role: "user", content: "Say hello in one sentence." }],\n'
        "  stream: true,\n"
        "});\n"
        "for await (const chunk of stream) {\n"
        '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");\n'
        "}\n"
        "console.log();\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = node.render(sample)
    assert quoted(sample.base_url) in program
    assert "process.env.SLUICE_API_KEY" in program
    name = in_path(ODD) if sample.endpoint == "gemini_generate" else ODD
    assert (quoted(name) in program) == (sample.endpoint != "models")
    assert (sample.file is None) == ("createReadStream" not in program)
    assert (sample.save_as in program) == bool(sample.save_as) or not sample.save_as
    packages = {"messages": '"@anthropic-ai/sdk"', "gemini_generate": '"@google/genai"'}
    assert packages.get(sample.endpoint, '"openai"') in program
