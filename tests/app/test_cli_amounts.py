import click
import pytest
from click.testing import CliRunner

from proxy.app.cli_amounts import AmountCommand


@click.command("give", cls=AmountCommand)
@click.argument("amount")
@click.option("--reason", default="none")
def give(amount: str, reason: str) -> None:
    click.echo(f"{amount} {reason}")


@pytest.mark.parametrize("amount", ["-5", "-5.50", "-0", "-.5", "-1,000", "5"])
def test_an_amount_below_zero_is_no_option(amount: str) -> None:
    for arguments in ([amount, "--reason", "r"], ["--reason", "r", amount]):
        result = CliRunner().invoke(give, arguments)
        assert (result.exit_code, result.output) == (0, f"{amount} r\n")


@pytest.mark.parametrize("arguments", [["5", "--reson", "r"], ["-x"], ["5", "-5x"]])
def test_options_nobody_knows_are_still_told(arguments: list[str]) -> None:
    result = CliRunner().invoke(give, arguments)
    assert result.exit_code == 2
    assert "No such option" in result.output
