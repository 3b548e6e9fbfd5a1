"""`sluice examples`: a program that calls the relay, in the language somebody asks for.

Rules: nothing is asked of a relay or a database, so it works anywhere; the program alone goes to
standard output, how to run it to standard error. This module must not know what programs look like.
"""

import click

from proxy.core.examples.programs import LANGUAGES, render
from proxy.core.examples.sample import ENDPOINTS, KEY_VARIABLE

BASE_URL = "http://127.0.0.1:8080"


@click.command()
@click.option("--endpoint", type=click.Choice(ENDPOINTS), default="chat", show_default=True)
@click.option("--language", type=click.Choice([*LANGUAGES]), default="curl", show_default=True)
@click.option("--model", required=True, metavar="NAME", help="As GET /v1/models names it.")
@click.option("--stream", is_flag=True, help="Read the answer as it comes (chat and messages).")
@click.option(
    "--base-url",
    default=BASE_URL,
    show_default=True,
    metavar="URL",
    help="Where clients reach the relay.",
)
def examples(endpoint: str, language: str, model: str, base_url: str, *, stream: bool) -> None:
    """Write a complete program that calls an endpoint for a model, in one of ten languages."""
    try:
        program = render(endpoint, language, base_url=base_url, model=model, stream=stream)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(program, nl=False)
    known = LANGUAGES[language]
    click.echo(
        f"Save it as {known.file_name}, set {KEY_VARIABLE} to your key, and run: {known.run}",
        err=True,
    )
