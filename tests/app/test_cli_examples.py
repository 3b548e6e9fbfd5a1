import pytest
from click.testing import CliRunner

from proxy.app import cli_examples
from proxy.app.cli import main
from proxy.core.examples.programs import LANGUAGES, render


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_program_and_nothing_else_is_written(language: str) -> None:
    arguments = ["examples", "--language", language, "--model", "a 'b'", "--stream"]
    result = CliRunner().invoke(main, [*arguments, "--base-url", "https://relay.example/v1"])
    assert result.exit_code == 0
    assert result.stdout == render(
        "chat", language, base_url="https://relay.example/v1", model="a 'b'", stream=True
    )
    assert f"and run: {LANGUAGES[language].run}" in result.stderr


def test_the_relay_of_this_machine_is_meant_where_nobody_says() -> None:
    result = CliRunner().invoke(main, ["examples", "--endpoint", "embeddings", "--model", "m"])
    assert f"'{cli_examples.BASE_URL}/v1/embeddings'" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--endpoint", "files", "--model", "m"], "'files' is not one of"),
        (["--language", "perl", "--model", "m"], "'perl' is not one of"),
        (["--endpoint", "speech", "--model", "m", "--stream"], "no streamed example"),
        ([], "Missing option '--model'"),
    ],
)
def test_what_there_is_not_is_said(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["examples", *arguments])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
