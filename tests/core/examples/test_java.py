import json

import pytest

from proxy.core.examples import java
from proxy.core.examples.literals import quoted_ascii
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    program = java.render(chat())
    assert program.startswith("import java.net.URI;\nimport java.net.http.HttpClient;\n")
    assert program.endswith(
        '        var request = HttpRequest.newBuilder(URI.create("https://relay.example/v1/chat/completions"))\n'
        '            .header("authorization", "Bearer " + System.getenv("SLUICE_API_KEY"))\n'
        '            .header("content-type", "application/json")\n'
        "            .POST(BodyPublishers.ofString(body))\n"
        "            .build();\n"
        "        var response = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());\n"
        "        if (response.statusCode() / 100 != 2) {\n"
        '            System.err.println(response.statusCode() + " " + response.body());\n'
        "            System.exit(1);\n"
        "        }\n"
        "        System.out.println(response.body());\n"
        "    }\n"
        "}\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = java.render(sample)
    assert program.isascii()
    assert quoted_ascii(sample.url) in program
    if sample.body is not None:
        block = program.split('"""')[1].replace("\\\\", "\\")
        assert json.loads(block) == json.loads(json.dumps(sample.body))
    if sample.form:
        assert quoted_ascii(ODD) in program
    assert (sample.save_as in program) or not sample.save_as
    assert ("ofLines" in program) == sample.stream
