"""The command `openim-bridge`."""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bridge import logs, openim, server, tail
from bridge.broker import BrokerError
from bridge.contract import Allowed, Refused, Verdict
from bridge.journal import JournalBroken
from bridge.settings import BadSettings, Receiver, SettingsT, load

FAILED, BAD_SETTINGS, UNREACHABLE = 1, 3, 4
"""Exit codes; 2 is click's, for a command line that cannot be read."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(package_name="openim-bridge")
def main() -> None:
    """Take OpenIM's callbacks, keep them on disk and publish them to RabbitMQ.

    Settings come from BRIDGE_… variables and from the file that BRIDGE_CONFIG names;
    docs/reference.md lists them.
    """


@main.command()
def receive() -> None:
    """Run the receiver until SIGTERM or Ctrl-C."""
    settings = settings_or_exit(Receiver)
    logs.set_up(settings.log_format, settings.log_level)
    with problems_explained():
        run(server.serve(settings))


@main.command()
@click.argument("what", nargs=-1, metavar="[COMMAND|FILE]...")
@click.option("--all", "everything", is_flag=True, help="Send every recorded callback.")
@click.option("--list", "listing", is_flag=True, help="List the commands, and send nothing.")
@click.option("--url", help="As in OpenIM's webhooks.yml; default: where the receiver listens.")
@click.option("--times", default=1, show_default=True, type=click.IntRange(1, 1_000_000))
def send(
    what: tuple[str, ...], url: str | None, times: int, *, everything: bool, listing: bool
) -> None:
    """Send recorded callbacks as OpenIM does, and judge the replies as it does.

    COMMAND is a callback command such as callbackAfterAddFriendAgreeCommand, or short:
    AfterAddFriendAgree. FILE is a body to send, named after its command.

    Exits with 1 if OpenIM would have taken a reply for an error or a refusal.
    """
    if listing:
        click.echo("\n".join(openim.commands()))
        return
    names = openim.commands() if everything else list(what)
    if not names:
        raise click.UsageError("name a callback command or a file, or use --all or --list")
    callbacks = [_callback(name) for name in names] * times
    run(_send(url or _own_url(), callbacks))


def _callback(name: str) -> openim.Callback:
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        try:
            return path.stem, path.read_bytes()
        except OSError as error:
            raise click.UsageError(f"{name} cannot be read: {error.strerror}") from error
    try:
        return openim.sample(name)
    except openim.UnknownSample as error:
        raise click.UsageError(str(error)) from error


def _own_url() -> str:
    settings = settings_or_exit(Receiver)
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host  # noqa: S104
    return f"http://{host}:{settings.port}{settings.path}"


async def _send(url: str, callbacks: list[openim.Callback]) -> None:
    bad = 0
    async with openim.process(url) as process:
        async for answer in process.post_all(callbacks):
            ok = isinstance(answer.verdict, Allowed)
            bad += not ok
            click.echo(
                f"{'ok ' if ok else 'BAD'} {answer.milliseconds:8.2f} ms  {answer.status:3}"
                f"  {answer.command}  {_in_words(answer.verdict)}  {_shown(answer.reply)}"
            )
    if bad:
        click.echo(f"{bad} of {len(callbacks)} failed", err=True)
        sys.exit(FAILED)


def _in_words(verdict: Verdict) -> str:
    if isinstance(verdict, Allowed):
        return "taken"
    if isinstance(verdict, Refused):
        return f"refused with {verdict.code}: {verdict.message}"
    return f"an error to OpenIM: {verdict.reason}"


def _shown(reply: bytes, most: int = 200) -> str:
    text = reply.decode(errors="replace")[:most]
    return text if text.isprintable() else ascii(text)


@main.command("tail")
@click.argument("pattern", default="#")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--body", is_flag=True, help="Show bodies: they are people's conversations.")
@click.option("-n", "--count", type=click.IntRange(1), help="Stop after so many.")
def tail_(pattern: str, count: int | None, *, as_json: bool, body: bool) -> None:
    """Watch callbacks as they pass through RabbitMQ; nobody else misses any.

    PATTERN is a binding pattern such as 'friend.#' or '*.after.#'; all by default.
    """
    settings = settings_or_exit(Receiver)
    logs.set_up("text", "warning")
    show = tail.as_json if as_json else tail.as_text
    with problems_explained():
        run(
            tail.watch(
                settings.amqp_url,
                pattern,
                lambda delivery: click.echo(show(delivery, with_body=body)),
                count,
                settings.connect_timeout,
            )
        )


def settings_or_exit(kind: type[SettingsT]) -> SettingsT:
    """Read the settings of a process, or say all that is wrong with them and exit."""
    try:
        return load(kind, os.environ)
    except BadSettings as error:
        for problem in error.problems:
            click.echo(f"bad setting: {problem}", err=True)
        sys.exit(BAD_SETTINGS)


@contextmanager
def problems_explained() -> Iterator[None]:
    """Turn what a person can mend into a sentence and an exit code."""
    try:
        yield
    except JournalBroken as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_SETTINGS)
    except BrokerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(UNREACHABLE)
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, on uvloop where it is installed."""
    if importlib.util.find_spec("uvloop"):
        importlib.import_module("uvloop").run(work)
    else:
        asyncio.run(work)
