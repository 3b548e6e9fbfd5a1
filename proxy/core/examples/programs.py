"""The programs by language, endpoint and model.

Rules: a program reads its key from the environment and has everything else filled in; whatever a
model is called, it stays inside its quotes. Each language is one module, which knows no other and
nothing of the endpoints but `Sample`. This module must not know which models exist.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.examples import (
    csharp,
    curl,
    fetch,
    go,
    java,
    node,
    php,
    python_requests,
    python_sdk,
    ruby,
)
from proxy.core.examples.sample import Sample, sample


@dataclass(frozen=True, slots=True)
class Language:
    """A way to write programs: `file_name` is what to save one as, `run` what starts it there."""

    title: str
    file_name: str
    run: str
    render: Callable[[Sample], str]


LANGUAGES: Final[Mapping[str, Language]] = {
    "curl": Language("cURL", "example.sh", "sh example.sh", curl.render),
    "python": Language("Python SDK", "example.py", "python3 example.py", python_sdk.render),
    "requests": Language(
        "Python requests", "example.py", "python3 example.py", python_requests.render
    ),
    "node": Language("Node.js SDK", "example.mjs", "node example.mjs", node.render),
    "fetch": Language("JavaScript fetch", "example.mjs", "node example.mjs", fetch.render),
    "java": Language("Java", "Main.java", "java Main.java", java.render),
    "csharp": Language("C#", "Program.cs", "dotnet run", csharp.render),
    "go": Language("Go", "main.go", "go run main.go", go.render),
    "php": Language("PHP", "example.php", "php example.php", php.render),
    "ruby": Language("Ruby", "example.rb", "ruby example.rb", ruby.render),
}
"""By the name the command line knows them under."""


def render(endpoint: str, language: str, *, base_url: str, model: str, stream: bool = False) -> str:
    """Return the program that calls `endpoint` (the value of an `Endpoint`) for `model`.

    Raises ValueError, which names what there is, for an unknown language or endpoint.
    """
    found = LANGUAGES.get(language)
    if found is None:
        raise ValueError(f"no examples in {language!r}; there are {', '.join(LANGUAGES)}")
    return found.render(sample(endpoint, base_url=base_url, model=model, stream=stream))
