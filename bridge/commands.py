"""What all commands share: settings, exit codes, and sentences about what went wrong."""

import asyncio
import importlib.util
import json
import os
import pwd
import socket
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click
import orjson

from bridge.callers import USER
from bridge.deliveries import BrokerError
from bridge.journal import JournalBroken
from bridge.lists import named_secrets
from bridge.loading import BadSettings, SettingsT, load
from bridge.settings import Receiver

FAILED, BAD_SETTINGS, UNREACHABLE, PARTLY, INTERRUPTED = 1, 3, 4, 5, 130
"""Exit codes; 2 is click's, for a command line that cannot be read."""

Result = TypeVar("Result")


def own_settings() -> Receiver:
    """Read the settings of the receiver from the environment, or say what is wrong and exit."""
    return settings_or_exit(Receiver, os.environ)


def settings_again() -> Receiver:
    """Read them again, as files may have changed.

    Raises:
        BadSettings: with what is wrong.

    """
    return load(Receiver, os.environ)


def own_url() -> str:
    """Give the URL of a receiver with our settings, with the newest secret if it has any."""
    settings = own_settings()
    return url_of(settings, next(reversed(named_secrets(settings.secrets).values()), ""))


def url_of(settings: Receiver, secret: str) -> str:
    """Give the URL of a receiver on this machine, as OpenIM calls it with a secret, or none."""
    if settings.port == 0:
        raise click.UsageError("the port is chosen by the system; name it with --url")
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    host = everywhere.get(settings.host, settings.host)
    scheme = "https" if settings.tls_certificate else "http"
    login = f"{USER}:{secret}@" if secret else ""
    place = f"{f'[{host}]' if ':' in host else host}:{settings.port}{settings.path}"
    return f"{scheme}://{login}{place}"


def show_json(found: object) -> None:
    """Print an object of ours as one line of JSON."""
    try:
        line = orjson.dumps(found, default=str).decode()
    except TypeError:
        # A path, or a variable's name, that is not UTF-8: escaped, as orjson does not.
        line = json.dumps(found, default=str)
    echo(line)


def show(found: object, text: str, *, as_json: bool) -> None:
    """Print what was found: as one line of JSON, or as text for people."""
    if as_json:
        show_json(found)
    else:
        echo(text)


def settings_or_exit(kind: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Read the settings of a process, or say all that is wrong with them and exit."""
    with problems_explained():
        return load(kind, environment)


@contextmanager
def problems_explained() -> Iterator[None]:
    """Turn what a person can mend into a sentence and an exit code."""
    try:
        yield
    except BadSettings as error:
        for problem in error.problems:
            click.echo(f"bad setting: {problem}", err=True)
        sys.exit(BAD_SETTINGS)
    except JournalBroken as error:
        fail(str(error), BAD_SETTINGS)
    except BrokerError as error:
        fail(str(error), UNREACHABLE)
    except KeyboardInterrupt:
        # By whoever is in front of it, so no error, and all that there is to say.
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        raise  # nobody reads any more: click ends quietly
    except OSError as error:
        fail(str(error))


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """End the process with a sentence about what is wrong."""
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)


def echo(line: str) -> None:
    """Print a line; end quietly if nobody reads any more, as `head` does."""
    try:
        click.echo(line)
    except BrokenPipeError:
        # What Python still holds would fail again at the end, and aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine, on uvloop where it is installed."""
    if importlib.util.find_spec("uvloop"):
        done: Result = importlib.import_module("uvloop").run(work)
        return done
    return asyncio.run(work)


def who() -> str:
    """Name the user whom the system knows, which no variable can change, and the host."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
