"""Pages from templates: one environment, the same rules for every page.

Rules: everything is escaped unless it says itself that it is markup; a name a template does not
get is an error and never an empty space; amounts are exact (`proxy.core.money`), no filter ever
computes with a float of money; times go out as UTC in `<time>`, and a script may make them local.
This module must not know requests, storage or what any page is about.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from proxy.core.money import format_usd
from proxy.core.months import LATEST
from proxy.edge.console.assets import Assets
from proxy.edge.console.languages import ENGLISH, HTML_TAGS, LANGUAGES, Translator, load

FOLDER: Final = Path(__file__).parent.parent / "web" / "templates"
NONE: Final = "–"
"""What stands where there is no value; a zero is a value and is shown as one."""
_SECOND_MS, _MINUTE_MS, _HOUR_MS, _DAY_MS = 1_000, 60_000, 3_600_000, 86_400_000


class Renderer:
    """Renders the console's templates in any of its languages."""

    def __init__(
        self,
        assets: Assets | None = None,
        translators: dict[str, Translator] | None = None,
        folders: Sequence[Path] = (FOLDER,),
    ) -> None:
        self.assets: Final = assets or Assets()
        self.translators: Final = translators or load()
        self._environment: Final = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folders),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,  # every template there is; nobody outside can add one
        )
        self._environment.filters.update(
            usd=usd, count=count, when=when, duration=duration, percent=percent, day=day
        )
        self._environment.globals.update(asset=self.assets.url, languages=LANGUAGES)

    def render(self, template: str, *, language: str, **context: object) -> str:
        """The page as text. Raises jinja2.TemplateError if the template is at fault.

        `language` is one of `LANGUAGES`; the template gets `_()` and the context.
        """
        translator = self.translator(language)
        return self._environment.get_template(template).render(
            _=translator, html_language=HTML_TAGS[translator.language], **context
        )

    def translator(self, language: str) -> Translator:
        """The `_()` of a language; English for one that the console does not speak."""
        return self.translators.get(language) or self.translators[ENGLISH]


def usd(nano: int | None) -> str:
    """Nano-USD as `$1,234.50`, exactly, `-$0.0000375` if it is negative."""
    if nano is None:
        return NONE
    whole, _, fraction = format_usd(abs(nano)).partition(".")
    return f"{'-' if nano < 0 else ''}${int(whole):,}.{fraction}"


def count(number: int | None) -> str:
    """A whole number with its thousands apart: `1,234,567`."""
    return NONE if number is None else f"{number:,}"


def when(moment: float | str | None) -> str:
    """A time (Unix seconds or ISO 8601) as `<time>` in UTC; a script shows it locally.

    Raises ValueError for a text that is no time.
    """
    if moment is None:
        return NONE
    told = _moment(moment)
    return Markup('<time datetime="{}">{}</time>').format(
        told.strftime("%Y-%m-%dT%H:%M:%SZ"), told.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def day(moment: float | str | None) -> str:
    """The day of a time, as `when` takes it, in UTC: `2026-11-21`."""
    return NONE if moment is None else _moment(moment).strftime("%Y-%m-%d")


def _moment(moment: float | str) -> datetime:
    if isinstance(moment, str):
        told = datetime.fromisoformat(moment)
        return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)
    return datetime.fromtimestamp(min(moment, LATEST), UTC)


def duration(milliseconds: float | None) -> str:
    """How long something took, to three figures or so: `840 ms`, `3.2 s`, `2 min 5 s`, `3 h`."""
    if milliseconds is None:
        return NONE
    whole = round(milliseconds)
    if whole < _SECOND_MS:
        return f"{whole} ms"
    if whole < _MINUTE_MS:
        return f"{whole // 1_000}.{whole % 1_000 // 100} s"
    if whole < _HOUR_MS:
        return _two(whole, _MINUTE_MS, "min", _SECOND_MS, "s")
    if whole < _DAY_MS:
        return _two(whole, _HOUR_MS, "h", _MINUTE_MS, "min")
    return _two(whole, _DAY_MS, "d", _HOUR_MS, "h")


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = whole % large // small
    return f"{whole // large} {large_name}" + (f" {rest} {small_name}" if rest else "")


def percent(part: int | None, whole: int | None) -> str:
    """`part` of `whole`, cut to a tenth: 999 of 1000 is `99.9%`, and only all of it is `100%`."""
    if part is None or not whole:
        return NONE
    tenths = abs(part) * 1_000 // abs(whole)
    sign = "-" if (part < 0) != (whole < 0) and tenths else ""
    return f"{sign}{tenths // 10}" + (f".{tenths % 10}%" if tenths % 10 else "%")
