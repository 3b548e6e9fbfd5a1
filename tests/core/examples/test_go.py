import json

import pytest

from proxy.core.examples import go
from proxy.core.examples.sample import Sample
from tests.core.examples import chat, named, samples


def test_chat() -> None:
    assert go.render(chat()).endswith(
        '\trequest, err := http.NewRequest("POST", "https://relay.example/v1/chat/completions", body)\n'
        "\tif err != nil {\n"
        "\t\tlog.Fatal(err)\n"
        "\t}\n"
        '\trequest.Header.Set("authorization", "Bearer "+os.Getenv("SLUICE_API_KEY"))\n'
        '\trequest.Header.Set("content-type", "application/json")\n'
        "\tresponse, err := http.DefaultClient.Do(request)\n"
        "\tif err != nil {\n"
        "\t\tlog.Fatal(err)\n"
        "\t}\n"
        "\tdefer response.Body.Close()\n"
        "\tif response.StatusCode/100 != 2 {\n"
        "\t\tio.Copy(os.Stderr, response.Body)\n"
        '\t\tlog.Fatal("\\n", response.Status)\n'
        "\t}\n"
        "\tio.Copy(os.Stdout, response.Body)\n"
        "}\n"
    )


@pytest.mark.parametrize("sample", samples("a\ufeffb`c"), ids=named)
def test_all_there_is_to_say_is_said(sample: Sample) -> None:
    program = go.render(sample)
    assert f'"{sample.url}"' in program
    assert "\ufeff" not in program
    if sample.body is not None:
        assert program.count("`") == (6 if "json:" in program else 2)
        block = program.split("NewReader(`")[1].split("`)")[0]
        assert json.loads(block) == json.loads(json.dumps(sample.body))
    if sample.form:
        assert '"a\\ufeffb`c"' in program
    assert (sample.save_as in program) or not sample.save_as
