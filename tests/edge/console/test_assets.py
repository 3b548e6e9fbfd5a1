import hashlib
from pathlib import Path

import pytest

from proxy.edge.console.assets import FILE_BYTES_MAX, FOLDER, Assets
from tests import tree

SCRIPT_BYTES_MAX = 100_000
"""What a page may load as script, all of it together."""


def test_a_file_is_found_at_the_address_that_names_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_bytes(b"a{}")
    assets = Assets(tmp_path)
    digest = hashlib.sha256(b"a{}").hexdigest()[:16]
    assert assets.url("a.css") == f"/static/{digest}/a.css"
    asset = assets.at(assets.url("a.css"))
    assert asset is not None
    assert (asset.body, asset.content_type) == (b"a{}", "text/css; charset=utf-8")


@pytest.mark.parametrize(
    "path", ["/static/0000000000000000/a.css", "/static/a.css", "/static/../a.css", "", "a.css"]
)
def test_any_other_address_is_nothing(tmp_path: Path, path: str) -> None:
    (tmp_path / "a.css").write_bytes(b"a{}")
    assert Assets(tmp_path).at(path) is None


def test_a_file_that_is_not_there_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        Assets(tmp_path).url("b.css")


def test_a_file_without_a_type_or_too_large_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "a.exe").write_bytes(b"")
    with pytest.raises(AssertionError, match="a type"):
        Assets(tmp_path)
    (tmp_path / "a.exe").rename(tmp_path / "a.css")
    (tmp_path / "a.css").write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(AssertionError, match="more than"):
        Assets(tmp_path)


def test_all_scripts_together_are_small_and_none_comes_from_elsewhere() -> None:
    scripts = [path for path in FOLDER.iterdir() if path.suffix == ".js"]
    assert scripts
    assert sum(path.stat().st_size for path in scripts) < SCRIPT_BYTES_MAX
    texts = [path.read_text() for path in FOLDER.iterdir() if path.suffix in {".css", ".js"}]
    assert not [text for text in texts if "://" in text or "@import" in text]


def test_the_two_dark_themes_are_the_same() -> None:
    css = tree.text(Path("proxy/edge/web/static/sluice.css"))
    blocks = [
        css.partition(f':root[data-theme="{theme}"] {{')[2].partition("}")[0].split()
        for theme in ("auto", "dark")
    ]
    assert blocks[0] == blocks[1] != []
