import json
import re

import pytest

from proxy.core.examples import csharp
from proxy.core.examples.literals import quoted_ascii
from proxy.core.examples.sample import Sample
from tests.core.examples import ODD, chat, named, samples


def test_chat() -> None:
    program = csharp.render(chat())
    assert program.startswith("using System;\nusing System.IO;\nusing System.Net.Http;\n")
    assert program.endswith(
        'var url = "https://relay.example/v1/chat/completions";\n'
        "var request = new HttpRequestMessage(HttpMethod.Post, url);\n"
        'request.Headers.TryAddWithoutValidation("authorization", "Bearer " + key);\n'
        'request.Content = new StringContent(body, Encoding.UTF8, "application/json");\n'
        "var response = await client.SendAsync(request);\n"
        "if (!response.IsSuccessStatusCode)\n"
        "{\n"
        "    var told = await response.Content.ReadAsStringAsync();\n"
        '    Console.Error.WriteLine((int)response.StatusCode + " " + told);\n'
        "    Environment.Exit(1);\n"
        "}\n"
        "Console.WriteLine(await response.Content.ReadAsStringAsync());\n"
    )


@pytest.mark.parametrize("sample", samples(), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = csharp.render(sample)
    assert program.isascii()
    assert quoted_ascii(sample.url) in program
    if sample.body is not None:
        found = re.search(r'@"((?:[^"]|"")*)";', program)
        assert found
        assert json.loads(found[1].replace('""', '"')) == json.loads(json.dumps(sample.body))
    if sample.form:
        assert quoted_ascii(ODD) in program
    assert (sample.save_as in program) or not sample.save_as
    assert ("ResponseHeadersRead" in program) == sample.stream
