"""`sluice`: the command line.

Rules: a command talks to the running relay over its socket; while none runs it takes the data
directory's lock and does the same by itself. Tables on a terminal or a pipe, the bare result
with `--json`; errors go to standard error with a remedy. Exit status: 0 done, 1 refused or
failed, 2 wrong usage. This module must not know how a command is done.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

import proxy
from proxy.app import check as checking
from proxy.app import (
    cli_catalog,
    cli_examples,
    cli_keys,
    cli_models,
    cli_money,
    cli_people,
    cli_reports,
    cli_secrets,
    cli_storage,
    cli_tokens,
    selftest,
    show,
    toml,
)
from proxy.app.children import TASK
from proxy.app.control import CommandError
from proxy.app.directory import DirectoryError
from proxy.app.seed import NO_KEY, USUAL_MODELS, Upstream, address_of, base_url_of
from proxy.app.settings import SettingsError
from proxy.app.target import CONFIG_OPTION, DATA_OPTION, Target, targeted
from proxy.core.deployments import azure_deployment
from proxy.core.entities import Dialect
from proxy.core.money import format_usd
from proxy.core.sentences import split_remedy
from proxy.storage.secrets import SecretError
from proxy.storage.sqlite import StorageError
from proxy.storage.verify import verify

_REMEDIES: Final[Mapping[int, str]] = {
    errno.EADDRINUSE: "stop what listens there (ss -ltnp names it), or listen elsewhere: "
    "--listen, --operations, --console",
    errno.EADDRNOTAVAIL: "name an address of this machine",
    errno.ENOSPC: "make room on that disk",
}
"""What to do about a failure of the system, where that is always the same."""


class Main(click.Group):
    """Turns what commands raise into an error line with a remedy and exit status 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, or be the console that a relay wants beside it."""
        if TASK in os.environ:
            # First: an interrupt typed at a terminal is for the relay to hear. Not a session of
            # its own: where the kernel groups by session (autogroup, sched(7)) niceness means
            # nothing between two of them, and a report would weigh as much as all streams.
            os.setpgid(0, 0)
            from proxy.app import console_program  # noqa: PLC0415 - loads the whole console

            console_program.main(os.environ)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; see the class."""
        try:
            found: object = super().invoke(ctx)
        except (CommandError, SecretError, StorageError) as error:
            show.problem(error.message, error.remedy)
        except SettingsError as error:
            for problem in error.problems:
                where = "" if problem.line is None else f" line {problem.line}"
                show.problem(f"{error.source}{where}: {problem.reason}", problem.remedy)
        except DirectoryError as error:
            show.problem(*split_remedy(str(error)))
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "")
            show.problem(f"{error.filename or ''} {error.strerror or error}".strip(), remedy)
        else:
            return found
        return ctx.exit(1)


@click.group(cls=Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(proxy.__version__, prog_name="sluice")
def main() -> None:
    """Sluice: a streaming relay for LLM APIs with an exact prepaid ledger."""


@main.command()
@CONFIG_OPTION
@DATA_OPTION
@click.option("--listen", metavar="HOST:PORT", help="Where clients call.")
@click.option("--operations", metavar="HOST:PORT", help="Where /metrics and health answer.")
@click.option("--console", metavar="HOST:PORT", help='Where the console answers; "" for none.')
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Any other setting.")
@click.option("--demo", is_flag=True, help="Start a demo upstream that needs no key.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="DIALECT=URL",
    help="Serve this upstream: openai=URL, anthropic=URL, gemini=URL; may be repeated.",
)
@click.option(
    "--upstream-key",
    "keys",
    multiple=True,
    metavar="KEY|@FILE",
    help="Its key: one for all, or one for each in order.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A model the upstreams serve; else they are asked for their list.",
)
def serve(
    config: Path | None,
    data: str | None,
    listen: str | None,
    operations: str | None,
    console: str | None,
    sets: tuple[str, ...],
    demo: bool,
    upstreams: tuple[str, ...],
    keys: tuple[str, ...],
    models: tuple[str, ...],
) -> None:
    """Run the relay until SIGTERM; SIGHUP reloads the settings."""
    from proxy.app import serve as serving  # noqa: PLC0415 - loads the whole relay

    given = {
        "data_dir": data,
        "listen": listen,
        "operations_listen": operations,
        "console_listen": console,
    }
    flags: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    for text in sets:
        name, separator, value = text.partition("=")
        if not separator:
            raise click.UsageError(f"--set takes NAME=VALUE, not {text!r}")
        flags[name.strip()] = value.strip()
    if demo and config is None:
        # Who tries the relay out wants to see how somebody registers.
        flags = {"registration": "open", "starting_credit": "1.00"} | flags
    options = serving.Options(
        config=config,
        flags=flags,
        demo=demo,
        upstreams=read_upstreams(upstreams, keys, models),
        models=models,
    )
    sys.exit(serving.run(options))


@main.command()
@CONFIG_OPTION
@click.option("--catalog", type=click.Path(path_type=Path), help="Catalog file to check.")
def check(config: Path | None, catalog: Path | None) -> None:
    """Say what is wrong with a settings or catalog file, by line."""
    if config is None and catalog is None:
        raise click.UsageError("name a file with --config or --catalog")
    found = 0
    for path, judge in ((config, checking.check_settings), (catalog, checking.check_catalog)):
        if path is None:
            continue
        problems = judge(path)
        found += len(problems)
        for problem in problems:
            where = "" if problem.line is None else f":{problem.line}"
            show.problem(f"{path}{where}: {problem.reason}", problem.remedy)
        if not problems:
            click.echo(f"{path}: good")
    sys.exit(1 if found else 0)


@main.group()
def user() -> None:
    """Users and their wallets' owners."""


@user.command("add")
@targeted
@click.argument("name")
@click.option("--plan", help="Plan with the user's limits; the only one if there is only one.")
@click.option("--credit", metavar="USD", help="Starting credit.")
def user_add(target: Target, name: str, plan: str | None, credit: str | None) -> None:
    """Add a user."""
    target.show(target.do("user add", {"name": name, "plan": plan, "credit": credit}))


@user.command("list")
@targeted
def user_list(target: Target) -> None:
    """List users with their balances."""
    target.show(target.do("user list", {}))


@main.command("selftest")
@click.option("--base-url", required=True, metavar="URL", help="As a client would set it.")
@click.option("--key", required=True, metavar="KEY|@FILE", envvar=["SLUICE_API_KEY", "SLUICE_KEY"])
@click.option("--model", help="The model to test with; the first of the list if left out.")
@click.option(
    "--at-once",
    type=click.IntRange(1, selftest.CONCURRENCY_MAX),
    default=5,
    show_default=True,
    help="Streams to open at the same time.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
def selftest_command(
    base_url: str, key: str, model: str | None, at_once: int, as_json: bool
) -> None:
    """Check from outside whether a relay, this one or any other, does what SDKs need."""
    checks = asyncio.run(
        selftest.run(
            base_url,
            read_key(key),
            model=model,
            concurrency=at_once,
            told=None if as_json else show.check_line,
        )
    )
    if as_json:
        show.as_json([asdict(line) for line in checks], sys.stdout)
    failed = any(line.outcome is selftest.Outcome.FAILURE for line in checks)
    sys.exit(1 if failed else 0)


@main.group()
def channel() -> None:
    """Upstreams that serve models."""


@channel.command("add")
@targeted
@click.argument("name")
@click.option("--dialect", type=click.Choice([each.value for each in Dialect]), default="openai")
@click.option("--base-url", required=True, metavar="URL")
@click.option("--key", "keys", multiple=True, metavar="KEY|@FILE", help="May be repeated.")
@click.option("--group", "groups", multiple=True, default=("default",), show_default=True)
@click.option("--model", "models", multiple=True, required=True, metavar="NAME[=UPSTREAM_NAME]")
@click.option("--priority", type=int, default=0, show_default=True)
@click.option("--weight", type=int, default=1, show_default=True)
@click.option("--allow-private", is_flag=True, help="The address may be a private one.")
@click.option("--api-version", metavar="VERSION", help="Of Azure OpenAI: a date, v1 or preview.")
@click.option("--endpoint", "endpoints", multiple=True, help="If not those of its dialect.")
def channel_add(target: Target, **options: Any) -> None:
    """Add a channel, or change the one of that name."""
    deployment = azure_deployment(options["base_url"])
    options["models"] = _served(options["models"], deployment)
    options["keys"] = [read_key(text) for text in options["keys"]] or [NO_KEY]
    dialect = Dialect(options["dialect"])
    options |= address_of(options["base_url"], options.pop("api_version"), dialect)
    if deployment is not None and "api_version" not in options:
        raise CommandError(
            "the address is one of Azure's, but its `?api-version=` is missing",
            "add it: --api-version 2024-10-21, or the one your resource's page shows",
        )
    options["groups"] = list(options["groups"])
    options["endpoints"] = list(options["endpoints"])
    if not options["endpoints"]:
        del options["endpoints"]
    target.show_changes(target.do("channel add", {"table": options}))


def _served(texts: tuple[str, ...], deployment: str | None) -> dict[str, str]:
    """What each public model is called at the upstream. Raises CommandError.

    `deployment`: what an address of Azure's names, which the one model without a name is.
    """
    pairs = [text.partition("=") for text in texts]
    unnamed = [name for name, _, upstream in pairs if not upstream]
    if deployment is not None and len(unnamed) > 1:
        raise CommandError(
            f"the address names the deployment {deployment!r}, which cannot be "
            f"{' and '.join(unnamed)} at once",
            "say what each is called there: --model NAME=DEPLOYMENT",
        )
    return {name: upstream or deployment or name for name, _, upstream in pairs}


@channel.command("list")
@targeted
def channel_list(target: Target) -> None:
    """List channels, without their keys."""
    target.show(target.do("channel list", {}))


@channel.command("test")
@targeted
@click.argument("name")
@click.option("--model", help="Public name of the model to try; the first if left out.")
def channel_test(target: Target, name: str, model: str | None) -> None:
    """Make one tiny real call and report status and latency."""
    result = target.do("channel test", {"name": name, "model": model})
    target.show(result)
    sys.exit(0 if result["ok"] else 1)


@main.group()
def catalog() -> None:
    """Plans, groups, models, prices and channels as one TOML file."""


@catalog.command("apply")
@targeted
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Even if the catalog moved since the export.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def catalog_apply(target: Target, file: Path, force: bool, dry_run: bool, yes: bool) -> None:
    """Make the catalog equal to FILE, after showing the difference."""
    _, document = checking.read_catalog(file)
    arguments = {"document": document, "force": force}
    review = target.do("catalog apply", {**arguments, "dry_run": True})
    if dry_run or not review["changes"]:
        target.show(review if target.json else review["changes"] or show.UNCHANGED)
        return
    if not yes:
        show.as_table(review["changes"], sys.stderr)
        if not sys.stdin.isatty():
            raise CommandError("nobody is there to confirm", "add --yes or --dry-run")
        click.confirm("Apply?", abort=True, err=True)
    # What was reviewed is what is applied: not if the catalog moved meanwhile.
    document.setdefault("version", review["version"])
    result = target.do("catalog apply", arguments)
    target.show(result if target.json else result["changes"])


@catalog.command("export")
@targeted
@click.argument("file", type=click.Path(path_type=Path), required=False)
def catalog_export(target: Target, file: Path | None) -> None:
    """Write the catalog as TOML; upstream keys as placeholders that apply keeps."""
    document = target.do("catalog export", {})
    if target.json:
        target.show(document)
        return
    text = toml.dump(document)
    if file is None:
        click.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")


@main.command()
@targeted
@click.option("--user", help="Only this user's calls.")
@click.option("--rows", "rows_max", type=int, default=50, show_default=True)
@click.option("--before", metavar="REQUEST_ID", help="Older than this call: the next page.")
@click.option("--daily", type=int, metavar="DAYS", help="Sums per day instead, of so many days.")
def usage(target: Target, daily: int | None, **options: Any) -> None:
    """List ended calls, latest first, with what each cost."""
    if daily is None:
        target.show(target.do("usage", options))
    else:
        target.show(target.do("usage daily", {"user": options["user"], "days": daily}))


@main.group()
def ledger() -> None:
    """The books."""


@ledger.command("verify")
@targeted
def ledger_verify(target: Target) -> None:
    """Recompute the ledger's invariants from the database file alone."""
    if not target.directory.database.exists():
        raise CommandError(f"there is no database in {target.directory.root}", "see --data")
    target.catch_up()
    report = verify(target.directory.database)
    found = {
        "clean": report.clean,
        "calls": report.calls,
        "open_calls": report.open_calls,
        "transfers": report.transfers,
        "accounts": report.accounts,
        "wallets_usd": format_usd(report.wallets),
        "revenue_usd": format_usd(report.revenue),
    }
    target.show({**found, "problems": list(report.problems)} if target.json else found)
    if not report.clean:
        for problem in () if target.json else report.problems:
            show.problem(problem)
        sys.exit(1)


main.add_command(cli_storage.backup)
main.add_command(cli_storage.restore)
main.add_command(cli_models.models)
main.add_command(cli_catalog.group)
main.add_command(cli_catalog.price)
user.add_command(cli_catalog.user_set)
for command in cli_catalog.OF_CHANNELS:
    channel.add_command(command)
main.add_command(cli_keys.key)
main.add_command(cli_people.person)
main.add_command(cli_money.wallet)
main.add_command(cli_money.code)
main.add_command(cli_money.plan)
main.add_command(cli_money.payment)
main.add_command(cli_tokens.token)
main.add_command(cli_reports.report)
main.add_command(cli_reports.call)
main.add_command(cli_reports.audit)
main.add_command(cli_examples.examples)
main.add_command(cli_storage.doctor)
ledger.add_command(cli_storage.rollup)
main.add_command(cli_secrets.pepper)


def read_upstreams(
    texts: tuple[str, ...], keys: tuple[str, ...], models: tuple[str, ...]
) -> tuple[Upstream, ...]:
    """`DIALECT=URL` options with their keys. Raises click.UsageError."""
    if len(keys) not in {0, 1, len(texts)}:
        raise click.UsageError("give one --upstream-key for all, or one for each --upstream")
    found: list[Upstream] = []
    for number, text in enumerate(texts):
        dialect, _, url = text.partition("=")
        if dialect not in USUAL_MODELS or not url.startswith(("http://", "https://")):
            raise click.UsageError(
                f"--upstream takes openai=URL, anthropic=URL or gemini=URL, not {text!r}"
            )
        key = read_key(keys[number % len(keys)]) if keys else NO_KEY
        base_url = base_url_of(url, Dialect(dialect))
        earlier = sum(each.dialect == dialect for each in found)
        name = f"upstream-{dialect}" + (f"-{earlier + 1}" if earlier else "")
        found.append(Upstream(name, Dialect(dialect), base_url, key, models))
    return tuple(found)


def read_key(text: str) -> str:
    """A key given as itself or as `@FILE`. Raises CommandError."""
    if not text.startswith("@"):
        return text
    try:
        found = Path(text[1:]).read_text(encoding="ascii").strip()
    except OSError as error:
        raise CommandError(
            f"the key file {text[1:]} cannot be read: {error.strerror or error}",
            "write the key into it, or check path and permissions",
        ) from None
    except UnicodeDecodeError:
        raise CommandError(
            f"the key file {text[1:]} cannot be read: it is not plain text",
            "write the key alone into it",
        ) from None
    if not found:
        raise CommandError(f"the key file {text[1:]} is empty", "write the key into it")
    return found


if __name__ == "__main__":
    main()
