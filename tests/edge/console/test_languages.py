import re
import string
from pathlib import Path

import pytest
from markupsafe import Markup

from proxy.core.sentences import Sentence
from proxy.edge.console.languages import (
    ACCEPT_CHARS_MAX,
    ENGLISH,
    HTML_TAGS,
    LANGUAGES,
    Translator,
    choose,
    load,
)
from tests import tree
from tests.edge.console.texts import (
    HOW,
    ONE_WORD,
    REFUSING,
    TEMPLATES,
    flattened,
    load_texts,
    said,
)

CHINESE = load_texts()


def names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_text_of_the_console_has_its_chinese_and_nothing_else_is_kept() -> None:
    used = said()
    missing = sorted(f"{path}: {text}" for text, path in used.items() if text not in CHINESE)
    assert not missing, HOW
    assert not sorted(CHINESE.keys() - used.keys()), HOW


def test_the_chinese_names_the_same_parameters() -> None:
    wrong = {text: chinese for text, chinese in CHINESE.items() if names(text) != names(chinese)}
    assert not wrong
    assert all(chinese.strip() for chinese in CHINESE.values())


def test_no_refusal_is_put_together_before_it_is_translated() -> None:
    assert not [place for path in sorted(REFUSING) for place in flattened(path)]


def test_a_sentence_of_the_keeper_is_said_by_its_patterns() -> None:
    chinese = load()["zh"]
    keys = Sentence("there is no key {named!r}: see `sluice key list`", named="there is no key")
    assert chinese(keys) == "没有密钥 'there is no key'：参见 `sluice key list`"
    assert chinese(chinese(keys)) == chinese(keys)
    nested = Sentence("{where}: {name} {what}", where="x", name="y", what=Sentence("must be text"))
    assert chinese(nested) == "x：y 必须是文本"
    assert load()["en"](nested) is nested
    assert chinese(Sentence("nobody says {n}", n=1)) == "nobody says 1"


def test_the_chinese_has_one_word_for_one_thing() -> None:
    found = {
        text: chinese
        for text, chinese in CHINESE.items()
        if any(other in chinese for other in ONE_WORD)
    }
    assert not found, HOW


def test_the_chinese_is_sorted_with_each_text_once() -> None:
    keys = re.findall(
        r'^"((?:[^"\\]|\\.)*)":', tree.text(Path("proxy/edge/web/languages/zh.json")), re.MULTILINE
    )
    assert keys == sorted(keys), HOW
    assert len(keys) == len(set(keys)) == len(CHINESE)


def test_no_template_has_a_style_or_a_script_of_its_own() -> None:
    wrong = re.compile(
        r"\sstyle\s*=|<style|<script(?![^>]*\ssrc=)|\son[a-z]+\s*=|javascript:", re.IGNORECASE
    )
    found = [
        f"{path}: {match[0]}" for path in TEMPLATES if (match := wrong.search(tree.text(path)))
    ]
    assert not found, "the policy of the console's pages forbids it"


def test_a_text_is_said_in_its_language() -> None:
    chinese = Translator("zh", {"{n} of {all}": "共 {all},第 {n}"})
    assert chinese("{n} of {all}", n=3, all="8") == "共 8,第 3"
    assert chinese("not translated: {n}", n=1) == "not translated: 1"
    assert chinese("braces {stay} without parameters") == "braces {stay} without parameters"


def test_markup_in_a_text_escapes_the_rest() -> None:
    english = Translator("en", {})
    got = english("{name} made {link}", name="<b>", link=Markup("<i>it</i>"))
    assert got == "&lt;b&gt; made <i>it</i>"
    assert isinstance(got, Markup)


def test_each_language_is_loaded() -> None:
    translators = load()
    assert translators.keys() == LANGUAGES.keys() == HTML_TAGS.keys()
    assert translators["zh"]("Keys") == CHINESE["Keys"] != "Keys"
    assert translators[ENGLISH]("Keys") == "Keys"


@pytest.mark.parametrize(
    ("cookie", "account", "accept", "language"),
    [
        (None, None, None, "en"),
        ("zh", "en", "en", "zh"),
        ("xx", "zh", "en", "zh"),
        (None, "", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, None, "de, zh;q=0.5, en;q=0.7", "en"),
        (None, None, "zh;q=0, de", "en"),
        (None, None, "zh;q=nonsense", "en"),
        (None, None, "zh;q=2.5", "zh"),
        (None, None, "zh;q=١", "en"),
        (None, None, "zh;level=1", "en"),
        (None, None, "x" * ACCEPT_CHARS_MAX + ",zh", "en"),
    ],
)
def test_the_language_is_chosen(
    cookie: str | None, account: str | None, accept: str | None, language: str
) -> None:
    assert choose(cookie=cookie, account=account, accept=accept) == language
