from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from proxy.core.entities import Verdict
from proxy.edge.console.render import (
    FOLDER,
    Renderer,
    count,
    day,
    duration,
    percent,
    usd,
    when,
)
from tests.edge.console.visits import charts, stranger, visit

HERE = Path(__file__).parent


def gallery(seen: SimpleNamespace, language: str = "en") -> str:
    """The page that has every component once, for this reader."""
    renderer = Renderer(folders=(FOLDER, HERE))
    return renderer.render("gallery.html", language=language, visit=seen, charts=charts())


@pytest.mark.parametrize("language", ["en", "zh", "unknown"])
@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
@pytest.mark.parametrize("role", ["user", "operator", "admin"])
def test_every_component_renders(language: str, theme: str, role: str) -> None:
    page = gallery(visit(role, theme=theme), language)
    assert f'data-theme="{theme}"' in page
    assert ('href="/operator/audit"' in page) == (role != "user")
    assert ('lang="zh-Hans"' in page) == (language == "zh")


def test_a_stranger_sees_the_frame_without_what_is_for_people() -> None:
    page = gallery(stranger())
    assert 'href="/login"' in page
    assert 'action="/logout"' not in page
    assert 'href="/keys"' not in page


def test_roles_may_be_members_of_an_enumeration() -> None:
    seen = visit(role=SimpleNamespace(name="OPERATOR"))
    page = gallery(seen)
    assert 'href="/operator/audit"' in page


def test_every_verdict_has_its_words(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "{% import 'macros.html' as ui with context %}{{ ui.verdict(verdict) }}"
    )
    renderer = Renderer(folders=(tmp_path, FOLDER))
    for verdict in Verdict:
        said = renderer.render("a.html", language="zh", verdict=verdict, visit=visit())
        assert "badge" in said
        assert verdict.value not in said


def test_everything_is_escaped_and_a_missing_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("{{ name }} {{ _('<b>') }}")
    renderer = Renderer(folders=(tmp_path,))
    assert renderer.render("a.txt", language="en", name="<i>") == "&lt;i&gt; &lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        renderer.render("a.txt", language="en")


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (None, "–"),
        (0, "$0.00"),
        (12_500_000_000, "$12.50"),
        (-37_500, "-$0.0000375"),
        (1_234_567_890_123_456_789, "$1,234,567,890.123456789"),
    ],
)
def test_amounts_are_exact(nano: int | None, text: str) -> None:
    assert usd(nano) == text


def test_counts_have_their_thousands_apart() -> None:
    assert [count(number) for number in (None, 0, 1234567)] == ["–", "0", "1,234,567"]


def test_times_are_told_in_utc() -> None:
    assert when(None) == day(None) == "–"
    assert when(1_763_700_000.75) == (
        '<time datetime="2025-11-21T04:40:00Z">2025-11-21 04:40:00 UTC</time>'
    )
    assert day(1_763_700_000) == day("2025-11-21T04:40:00Z") == "2025-11-21"
    assert when("2025-11-21T05:40:00.5+01:00") == when("2025-11-21T04:40:00") == when(1_763_700_000)
    assert day(8e12) == "9999-12-31", "an expiry that was let in once"
    with pytest.raises(ValueError, match="isoformat"):
        when("soon")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.0 s"),
        (3_290, "3.2 s"),
        (60_000, "1 min"),
        (125_000, "2 min 5 s"),
        (3_600_000, "1 h"),
        (5_400_000, "1 h 30 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations_are_short(milliseconds: float | None, text: str) -> None:
    assert duration(milliseconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (None, 1, "–"),
        (1, None, "–"),
        (1, 0, "–"),
        (0, 5, "0%"),
        (9_999, 10_000, "99.9%"),
        (10_000, 10_000, "100%"),
        (1, 3, "33.3%"),
        (-1, 4, "-25%"),
        (-1, 100_000, "0%"),
    ],
)
def test_shares_are_never_rounded_up(part: int | None, whole: int | None, text: str) -> None:
    assert percent(part, whole) == text
