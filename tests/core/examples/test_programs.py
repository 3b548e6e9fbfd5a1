import pytest

from proxy.core.examples.programs import LANGUAGES, render
from proxy.core.examples.sample import ENDPOINTS
from tests.core.examples import PLAIN, ROOT


def test_there_are_all_that_people_ask_for() -> None:
    titles = {language.title for language in LANGUAGES.values()}
    assert titles >= {
        *("cURL", "Python SDK", "Python requests", "Node.js SDK", "Java", "C#", "Go", "PHP"),
        "Ruby",
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_a_program_for_every_endpoint(language: str) -> None:
    made = {render(name, language, base_url=ROOT, model=PLAIN) for name in ENDPOINTS}
    assert len(made) == len(ENDPOINTS)
    for program in made:
        assert program.endswith("\n")
        assert not any(line != line.rstrip() for line in program.splitlines())
        assert "None" not in program
        assert LANGUAGES[language].file_name.split(".")[0] in LANGUAGES[language].run or (
            language == "csharp"
        )


def test_unknown_languages_are_told_what_there_is() -> None:
    with pytest.raises(ValueError, match="no examples in 'perl'; there are curl, python, "):
        render("chat", "perl", base_url=ROOT, model=PLAIN)
