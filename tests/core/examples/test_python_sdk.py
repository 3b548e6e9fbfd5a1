import ast

import pytest

from proxy.core.examples import python_sdk
from proxy.core.examples.sample import Sample, in_path
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert python_sdk.render(chat()) == (
        "import os\n\n"
        "from openai import OpenAI\n\n"
        'client = OpenAI(base_url="https://relay.example/v1", '
        'api_key=os.environ["SLUICE_API_KEY"])\n'
        "response = client.chat.completions.create(\n"
        '    model="gpt-x",\n'
        '    messages=[{"role": "user", "content": "Say hello in one sentence."}],\n'
        ")\n"
        "print(response.choices[0].message.content)\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_python_reads_what_is_meant(sample: Sample) -> None:
    program = python_sdk.render(sample)
    constants = {
        node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)
    }
    assert "SLUICE_API_KEY" in constants
    assert sample.base_url in constants
    name = in_path(ODD) if sample.endpoint == "gemini_generate" else ODD
    assert (name in constants) == (sample.endpoint != "models")
    package = {"messages": "anthropic", "gemini_generate": "google"}.get(sample.endpoint, "openai")
    assert f"from {package} import" in program
