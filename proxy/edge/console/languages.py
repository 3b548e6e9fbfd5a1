"""The languages of the console's texts, and which of them a visitor gets.

Rules: the English text is its own key, so a page never shows a code where a sentence should be;
parameters have names, so that another language may put them in another order; a text that is not
translated is shown in English rather than not at all. The choice is, in this order: what the
visitor chose here (cookie), what their account says, what their browser asks for.
This module must not know templates, requests or storage.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import msgspec
from markupsafe import Markup

from proxy.core.sentences import Sentence, joined, split_remedy, spoken

ENGLISH: Final = "en"
LANGUAGES: Final[Mapping[str, str]] = {ENGLISH: "English", "zh": "中文"}
"""Each language's tag in `<html lang>`, and its name as its readers write it."""
HTML_TAGS: Final[Mapping[str, str]] = {ENGLISH: "en", "zh": "zh-Hans"}
ACCEPT_CHARS_MAX: Final = 1_000
"""How much of `Accept-Language` is read."""
FOLDER: Final = Path(__file__).parent.parent / "web" / "languages"


class Translator:
    """Says the console's English texts in one language.

    `translator("{n} calls", n="3")` looks the English text up and puts the named parameters in.
    If one of them is markup, the result is markup, and everything else in it is escaped. A
    `Sentence`, which knows its own parameters, is said by its pattern.
    """

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language: Final = language
        self._texts: Final = texts

    def __call__(self, text: str, /, **parameters: object) -> str:
        if isinstance(text, Sentence):
            return self._said(text)
        said = self._texts.get(text, text)
        if not parameters:
            return said
        if any(hasattr(value, "__html__") for value in parameters.values()):
            return Markup(said).format(**parameters)  # noqa: S704 - `said` is ours, not a visitor's
        return said.format(**parameters)

    def _said(self, sentence: Sentence) -> Sentence:
        """A sentence of the keeper's, and those it is made of."""
        if self.language == ENGLISH:
            return sentence
        if sentence.pattern not in self._texts:  # what says in one what is told in two elsewhere
            what, remedy = split_remedy(sentence)
            if remedy:
                return self._said(joined(self(what), self(remedy)))
        pattern = self._texts.get(sentence.pattern, sentence.pattern)
        values = {
            name: self._said(value) if isinstance(value, Sentence) else value
            for name, value in sentence.values.items()
        }
        return spoken(pattern.format(**values) if values else pattern, sentence, values)


def later(text: str) -> str:
    """Mark a text that is said in a reader's language later, by their translator."""
    return text


def load(folder: Path = FOLDER) -> dict[str, Translator]:
    """A translator for each of `LANGUAGES`. Raises OSError or msgspec.DecodeError."""
    translators = {ENGLISH: Translator(ENGLISH, {})}
    for language in LANGUAGES:
        if language != ENGLISH:
            texts = msgspec.json.decode((folder / f"{language}.json").read_bytes())
            translators[language] = Translator(language, cast("dict[str, str]", texts))
    return translators


def choose(*, cookie: str | None, account: str | None, accept: str | None) -> str:
    """The language for a visitor; each of the three may be absent or nonsense."""
    for wish in (cookie, account):
        if wish is not None and wish in LANGUAGES:
            return wish
    wishes = []
    for place, part in enumerate((accept or "")[:ACCEPT_CHARS_MAX].split(",")):
        tag, _, quality = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        weight = _weight(quality)
        if language in LANGUAGES and weight > 0:
            wishes.append((-weight, place, language))
    return min(wishes)[2] if wishes else ENGLISH


def _weight(quality: str) -> int:
    """`q=0.8` as 800; absent is 1000, nonsense is 0. (RFC 9110 section 12.4.2)"""
    text = quality.strip()
    if not text:
        return 1_000
    name, _, value = text.partition("=")
    whole, _, places = value.strip().partition(".")
    digits = (whole + places.ljust(3, "0"))[:4]
    if (
        name.strip().lower() != "q"
        or len(whole) != 1
        or not (digits.isascii() and digits.isdigit())
    ):
        return 0
    return min(int(digits), 1_000)
