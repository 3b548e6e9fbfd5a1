import re
import stat
from pathlib import Path

import pytest

from proxy.app.cli_money import SHOWN_ONCE
from proxy.core.codes import RANDOM_BYTES, new_code
from tests.app.test_cli import data, done, sluice

__all__ = ["data"]
UNKNOWN = new_code(bytes(RANDOM_BYTES))


def test_codes_are_made_listed_redeemed_and_withdrawn(data: Path) -> None:
    made = done(data, "code", "make", "5", "--count", "2", "--batch", "fair", "--expires", "30d")
    first = made["codes"][0]["code"]
    assert done(data, "code", "redeem", "ann", first.lower())["credited_usd"] == "5.00"
    assert done(data, "code", "withdraw", "2") == {"withdrawn": 1}
    states = [row["state"] for row in done(data, "code", "list", "--batch", "fair")]
    assert states == ["withdrawn", "redeemed"]
    result = sluice(data, "code", "make", "1")
    assert SHOWN_ONCE in result.stderr
    assert done(data, "code", "withdraw", "--batch", "fair") == {"withdrawn": 0}


def test_codes_are_written_to_a_new_private_file(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    result = sluice(data, "code", "make", "5", "--count", "3", "--csv", str(file))
    assert result.exit_code == 0, result.stderr
    assert "3 codes" in result.stderr
    assert len(re.findall(r"(?:\w{4}-){5}\w{4}", file.read_text())) == 3
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sluice(data, "code", "make", "5", "--csv", str(file)).exit_code == 1
    assert len(done(data, "code", "list")) == 3, "none was made that could not be written"


def test_a_wallet_is_corrected_and_its_history_told(data: Path) -> None:
    done(data, "wallet", "credit", "ann", "5")
    before = done(data, "wallet", "show", "ann")["balance_usd"]
    down = done(data, "wallet", "adjust", "ann", "-1.5", "--reason", "typo", "--reference", "t")
    assert down["changed_usd"] == "-1.50"
    assert done(data, "wallet", "adjust", "ann", "1.5", "--reason", "back")["balance_usd"] == before
    told = done(data, "wallet", "history", "ann", "--days", "7")
    assert [row["amount_usd"] for row in told["entries"][:2]] == ["1.50", "-1.50"]
    assert "typo" in sluice(data, "wallet", "history", "ann").stdout
    assert done(data, "wallet", "threshold", "ann", "2")["below_usd"] == "2.00"


def test_a_plan_is_made_chosen_and_removed(data: Path) -> None:
    done(data, "wallet", "credit", "ann", "20")
    fee = ("--fee", "9", "--credit", "1", "--concurrency", "3", "--offered")
    assert done(data, "plan", "set", "pro", "--create", *fee)[0]["action"] == "add"
    chosen = done(data, "plan", "choose", "ann", "pro")
    assert (chosen["fee_usd"], chosen["credit_usd"]) == ("9.00", "1.00")
    assert "pro" in sluice(data, "plan", "list").stdout
    assert done(data, "plan", "set", "pro", "--not-offered", "--fee", "8")[0]["action"] == "change"
    assert done(data, "plan", "set", "x", "--create")
    assert done(data, "plan", "remove", "x")[0]["action"] == "remove"
    assert done(data, "payment", "list") == done(data, "payment", "notes") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("wallet", "refund", "x", "--reason", "r"), "not a request id"),
        (("wallet", "refund", "req_0000000000001", "--reason", "r"), "charged nothing"),
        (("wallet", "adjust", "ann", "-1000000", "--reason", "r"), "no open call holds"),
        (("code", "redeem", "ann", "nonsense"), "24 letters"),
        (("code", "make", "0"), "more than 0"),
        (("code", "make", "-5"), "must not be negative"),
        (("wallet", "credit", "ann", "-5"), "try: correct the wallet instead"),
        (("wallet", "threshold", "ann", "-5"), "must not be negative"),
        (("code", "withdraw"), "which codes?"),
        (("code", "redeem", "ann", "nonsense"), "type it as it was given"),
        (("code", "redeem", "ann", UNKNOWN), "sluice code list"),
        (("code", "make", "5", "--expires", "2020-01-01"), "name a later moment"),
        (("plan", "choose", "ann", "no"), "no plan 'no'"),
        (("plan", "choose", "ann", "no"), "sluice plan list"),
    ],
)
def test_what_cannot_be_done_is_told(data: Path, arguments: tuple[str, ...], said: str) -> None:
    result = sluice(data, *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
