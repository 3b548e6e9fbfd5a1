from pathlib import Path

import pytest

from proxy.app import check
from proxy.app.check import check_catalog, check_files, check_settings, line_in_entry
from proxy.app.settings import Settings, SettingsError
from tests import tree

GOOD = """\
[[plan]]
name = "paygo"

[[group]]
name = "default"
multiplier = "1.0"

[[model]]
name = "m1"
context_window = 1000
output_tokens_max = 100
price = { input = "1.00", output = "2.00" }

[[model]]
name = "m2"
context_window = 1000
output_tokens_max = 100
price = { model_ratio = "1.25" }

[[channel]]
name = "main"
dialect = "openai"
base_url = "https://api.example.com/v1"
keys = ["sealed:3", "sk-1"]
groups = ["default"]
models = { "m1" = "m1", "m2" = "m2" }
"""


def problems(path: Path, text: str) -> list[str]:
    (path / "c.toml").write_text(text)
    return [str(problem) for problem in check_catalog(path / "c.toml")]


def test_a_good_catalog_and_an_exported_one_have_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD) == []
    assert problems(tmp_path, "version = 9\n" + GOOD) == []
    assert problems(tmp_path, "") == []


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ('input = "1.00"', "input = 1.0", 12, "model 'm1' price: input"),
        ('input = "1.00"', 'input = "-1"', 12, "input is not a price"),
        ('"1.25"', '"nan"', 18, "model 'm2' price"),
        ('dialect = "openai"', 'dialect = "telnet"', 22, "must be one of openai, anthropic"),
        ('multiplier = "1.0"', 'multiplyer = "1.0"', 6, "unknown key 'multiplyer'"),
        ('groups = ["default"]', 'groups = ["nope"]', 25, "group 'nope'"),
        ('"m2" = "m2" }', '"m3" = "m3" }', 26, "model 'm3'"),
        ('name = "m2"', 'name = "m1"', 8, "there twice"),
        ('name = "paygo"', "", 1, "plan number 1"),
        ("context_window = 1000", "context_window = 0", 10, "at least 1"),
        ("[[plan]]", "[[plans]]", 1, "unknown key 'plans'"),
        ('name = "m2"', "name = ", 15, "not valid TOML"),
        ('base_url = "https://', 'base_url = "ftp://', 23, "http:// or https://"),
        ('keys = ["sealed:3", "sk-1"]', 'keys = "sk-1"', 24, "must be a list"),
        ('price = { model_ratio = "1.25" }', "", 14, "no price, so calls for it are refused"),
        ('keys = ["sealed:3", "sk-1"]', "", 20, "no keys, so it is never used"),
    ],
)
def test_each_mistake_is_found_with_its_line(
    tmp_path: Path, before: str, after: str, line: int, words: str
) -> None:
    assert before in GOOD
    found = problems(tmp_path, GOOD.replace(before, after, 1))
    assert len(found) == 1
    assert found[0].startswith(f"line {line}: "), found
    assert words in found[0]
    assert "; " in found[0], "a remedy follows"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('name = "m1"', 'name = "m1"\nendpoints = ["realtime"]', "no channel of it serves (main)"),
        ('name = "m1"', 'name = "m1"\nendpoints = ["images_edits"]', None),
        ('name = "m1"', 'name = "m1"\nendpoints = ["speech"]', None),
        ('input = "1.00"', 'image = "0.04", input = "1.00"', None),
    ],
)
def test_endpoints_and_prices_that_do_not_fit_are_found(
    tmp_path: Path, before: str, after: str, words: str | None
) -> None:
    text = GOOD.replace(before, after, 1)
    found = problems(tmp_path, text)
    if words is None:
        assert found == [], "output is a price of images and of speech"
        found = problems(tmp_path, text.replace('output = "2.00"', 'call = "0"'))
        assert bool(found) == ("endpoints" in after)
        return
    (problem,) = found
    assert problem.startswith("line 8: ")
    assert words in problem


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = check_catalog(tmp_path / "none.toml")
    assert "cannot be read" in problem.reason
    (tmp_path / "l.toml").write_bytes(b"# \xff")
    assert check_catalog(tmp_path / "l.toml")[0].reason == "not UTF-8"
    monkeypatch.setattr(check, "CATALOG_BYTES_MAX", 1)
    assert "above" in problems(tmp_path, GOOD)[0]


def test_settings_files_are_judged_by_the_loader(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("heartbeat_ms = 500\n")
    assert check_settings(path) == []
    path.write_text("heartbeat_ms = 5\nnope = 1\n")
    assert [problem.line for problem in check_settings(path)] == [1, 2]


def test_a_message_about_nothing_in_the_file_has_no_line() -> None:
    assert line_in_entry(GOOD, "the disk is full") is None
    assert line_in_entry(GOOD, "model 'unknown' is odd") is None
    assert line_in_entry(GOOD, "model number 9 is odd") is None


@pytest.mark.parametrize("name", ["settings.toml", "catalog.toml"])
def test_the_examples_are_good(name: str) -> None:
    path = tree.ROOT / "config" / name
    judge = check_settings if name == "settings.toml" else check_catalog
    assert judge(path) == []


def test_the_place_for_large_uploads_has_to_be_there_before_one_comes(tmp_path: Path) -> None:
    config, spool = tmp_path / "settings.toml", tmp_path / "spool"
    config.write_text(f"workers = 1\nspool_dir = '{spool}'\n")
    (problem,) = check_settings(config)
    assert (problem.line, problem.reason) == (
        2, f"spool_dir {spool} is no directory that can be written to",
    )  # fmt: skip
    assert "leave spool_dir out" in problem.remedy
    with pytest.raises(SettingsError, match="spool_dir"):
        check_files(Settings(spool_dir=str(spool)))
    spool.write_text("a file")
    assert len(check_settings(config)) == 1
    spool.unlink()
    spool.mkdir()
    assert check_settings(config) == []
    check_files(Settings(spool_dir=str(spool)))


def test_a_secret_of_others_is_looked_for_where_it_is_named(tmp_path: Path) -> None:
    config, word = tmp_path / "settings.toml", tmp_path / "word"
    config.write_text(f"oidc_client_id = 'x'\noidc_client_secret_file = '{word}'\n")
    (problem,) = check_settings(config)
    assert problem.line == 2
    assert "does not exist" in problem.reason
    word.write_text("secret of ours there")
    (problem,) = check_settings(config)
    assert "others may read" in problem.reason
    word.chmod(0o600)
    assert check_settings(config) == []
