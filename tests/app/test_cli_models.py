import tomllib
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from proxy.app.cli import main
from proxy.app.cli_models import models_import

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "catalog.toml"
ONE = ("--provider", "openai", "--model", "gpt-4o-mini")


def sluice(data: Path, *arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(data)], **more)


def prices(data: Path) -> dict[str, Any]:
    exported = orjson.loads(sluice(data, "catalog", "export", "--json").stdout)
    return {model["name"]: model.get("price") for model in exported["model"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    assert sluice(path, "catalog", "apply", str(EXAMPLE), "--yes").exit_code == 0
    return path


def test_prices_are_shown_asked_about_and_applied_once(data: Path) -> None:
    before = prices(data)
    shown = sluice(
        data, "models", "import", "--provider", "openai", "--model", "gpt-4.1*", "--dry-run"
    )
    assert "new" in shown.stdout
    assert prices(data) == before
    alone = sluice(data, "models", "import", "--provider", "openai", "--model", "gpt-4.1")
    assert (alone.exit_code, "--yes or --dry-run" in alone.stderr) == (1, True)
    done = sluice(data, "models", "import", "--provider", "openai", "--model", "gpt-4.1", "--yes")
    assert done.exit_code == 0, done.output
    after = prices(data)
    assert after.keys() - before.keys() == {"gpt-4.1"}
    again = sluice(data, "models", "import", "--provider", "openai", "--model", "gpt-4.1", "--json")
    assert (again.exit_code, orjson.loads(again.stdout)) == (0, [])
    every = sluice(
        data, "models", "import", "--provider", "openai", "--model", "gpt-4.1", "--json", "--all"
    )
    assert [row["status"] for row in orjson.loads(every.stdout)] == ["unchanged"]


def test_a_changed_price_is_a_new_version(data: Path) -> None:
    edited = data / "edited.toml"
    assert sluice(data, "catalog", "export", str(edited)).exit_code == 0
    model = '[[model]]\nname = "gpt-4o-mini"\ncontext_window = 9\noutput_tokens_max = 9\n'
    kept = [part for part in edited.read_text().split("\n\n") if 'name = "gpt-4o-mini"' not in part]
    edited.write_text("\n\n".join(kept) + "\n" + model + 'price = { input = "77" }\n')
    assert sluice(data, "catalog", "apply", str(edited), "--yes").exit_code == 0
    done = sluice(data, "models", "import", *ONE, "--yes", "--json")
    assert done.exit_code == 0, done.output
    (row,) = orjson.loads(done.stdout)
    assert row["status"] == "changed"
    assert row["prices"]["input"].startswith("77.00 -> ")
    assert row["context_window"].startswith("9 -> ")
    assert prices(data)["gpt-4o-mini"]["input"] != "77.00"


def test_tables_are_written_for_a_catalog_file(data: Path, tmp_path: Path) -> None:
    written = sluice(
        data, "models", "import", "--provider", "openai", "--model", "gpt-4.1", "--toml"
    )
    (table,) = tomllib.loads(written.stdout)["model"]
    assert (table["name"], "input" in table["price"]) == ("gpt-4.1", True)
    config = tmp_path / "s.toml"
    config.write_text(f'data_dir = "{data}"\ncatalog_file = "{EXAMPLE}"\n')
    arguments = ["models", "import", "--provider", "openai", "--model", "gpt-4.1", "--yes"]
    refused = CliRunner().invoke(main, [*arguments, "--config", str(config)])
    assert (refused.exit_code, "--toml prints" in refused.stderr) == (1, True)
    assert "gpt-4.1" not in prices(data)


def test_models_of_the_catalog_are_looked_up_where_their_channels_are(data: Path) -> None:
    shown = sluice(data, "models", "import", "--dry-run", "--all", "--json")
    rows = {row["model"]: row for row in orjson.loads(shown.stdout)}
    assert rows["gpt-4o"]["provider"] == "openai"
    assert rows["gpt-4o"]["status"] in {"changed", "unchanged"}
    assert all(row["notes"] for row in rows.values() if row["status"] == "skipped")


def test_the_command_works_by_itself_too(data: Path) -> None:
    found = CliRunner().invoke(models_import, [*ONE, "--dry-run", "--json", "--data", str(data)])
    assert found.exit_code == 0
    assert len(orjson.loads(found.stdout)) <= 1


def test_an_unknown_provider_is_refused_with_the_known_ones(data: Path) -> None:
    refused = sluice(data, "models", "import", "--provider", "nobody")
    assert (refused.exit_code, "name one of anthropic" in refused.stderr) == (1, True)
