import ast

import pytest

from proxy.core.examples import python_requests
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    assert python_requests.render(chat()) == (
        "import os\nimport sys\n\nimport requests\n\n"
        "response = requests.post(\n"
        '    "https://relay.example/v1/chat/completions",\n'
        """    headers={"authorization": f"Bearer {os.environ['SLUICE_API_KEY']}"},\n"""
        "    json={\n"
        '        "model": "gpt-x",\n'
        '        "messages": [{"role": "user", "content": "Say hello in one sentence."}],\n'
        "    },\n"
        "    timeout=600,\n"
        ")\n"
        "if not response.ok:\n"
        '    sys.exit(f"{response.status_code} {response.text}")\n'
        'print(response.json()["choices"][0]["message"]["content"])\n'
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_python_reads_what_is_meant(sample: Sample) -> None:
    program = python_requests.render(sample)
    constants = {
        node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)
    }
    assert sample.url in constants
    assert sample.key_header in constants
    assert "SLUICE_API_KEY" in constants
    assert (ODD in constants) == (sample.endpoint not in {"models", "gemini_generate"})
    assert sample.save_as in constants or not sample.save_as
