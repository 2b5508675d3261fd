"""The grammar of both programs: options that several commands have, questions, and progress."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import pairwise
from math import isnan
from typing import Any, TextIO, TypeAlias

import click
from click.shell_completion import CompletionItem

from bridge.commands import INTERRUPTED, fail, problems_explained
from bridge.contract import EVENTS
from bridge.downstream import UnknownPattern, patterns

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
Tell: TypeAlias = Callable[[int], None]
"""Is told how many are done."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

PATIENCE, OFTEN = 2.0, 0.2
"""Seconds before somebody who waits is told how far it is, and between."""


class Program(click.Group):
    """A program, whose commands are imported when they are wanted: each needs much else.

    Whatever ends a command early ends it with a line and an exit code.

    Attributes:
        places: Of its commands, by name: module and attribute, as in an entry point.
        added: The group of entry points that name further ones; "" for none.

    """

    places: Mapping[str, str]
    added: str

    def list_commands(self, _context: click.Context) -> list[str]:
        """Name them all."""
        return sorted({*self.places, *self._further()})

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import one, if there is one of that name."""
        place = self.places.get(name) or self._further().get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def _further(self) -> dict[str, str]:
        if not self.added:
            return {}
        # It takes longer to import than most commands to run.
        metadata = import_module("importlib.metadata")
        return {each.name: each.value for each in metadata.entry_points(group=self.added)}

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Refuse words that nobody means.

        An empty one comes from a variable of the shell that is not set, and would mean
        everything to an option that narrows something down; what is no text cannot be
        looked for, or printed.
        """
        for before, word in [] if context.resilient_parsing else pairwise(["", *args]):
            if any("\ud800" <= letter <= "\udfff" for letter in word):
                raise click.UsageError(f"{word!a} is not UTF-8", context)
            if not word.strip(" ,") or re.fullmatch("--[a-z-]+=[ ,]*", word):
                where = f" after {before}" if re.fullmatch("--?[a-z-]+", before) else ""
                raise click.UsageError(f"{word!r}{where} is empty", context)
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> object:
        """Run the command that was named."""
        with problems_explained():
            return super().invoke(context)


def program(
    places: Mapping[str, str], added: str = ""
) -> Callable[[Callable[[], None]], Program]:
    """Make a program of a function whose docstring says what it is for."""
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 96}

    def made(main: Callable[[], None]) -> Program:
        versioned = click.version_option(package_name="openim-bridge")(main)
        group = click.group(cls=Program, context_settings=settings)(versioned)
        group.places, group.added = places, added
        return group

    return made


class Number(click.FloatRange):
    """A number within a range, which NaN is not, though no comparison says so."""

    def convert(
        self, value: float, parameter: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Read one."""
        number: float = super().convert(value, parameter, context)
        if isnan(number):
            self.fail("nan is not a valid float.", parameter, context)
        return number


def moment(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Read a moment, `7d` ago or a date and time in ISO 8601, in seconds since 1970."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    try:
        if age:
            ago = timedelta(**{_UNITS[age[2]]: float(age[1])})
            return (datetime.now(UTC) - ago).timestamp()
        named = datetime.fromisoformat(text)
        return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text} is neither an age such as 7d or 12h nor a date such as 2026-01-31"
        ) from error


def routing_patterns(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """Read callback commands and routing patterns, with commas between them."""
    try:
        return patterns(texts)
    except UnknownPattern as error:
        raise click.BadParameter(str(error)) from error


def callback_names(
    _context: click.Context, _parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    """Complete the name of a callback, in short or in full."""
    long = sorted(event.command for event in EVENTS)
    every = [name.removeprefix("callback").removesuffix("Command") for name in long] + long
    return [CompletionItem(name) for name in every if name.lower().startswith(begun.lower())]


JSON = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line, and nothing else."
)

DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")

BODY = click.option(
    "--body", is_flag=True, help="Show bodies: they are people's conversations."
)

URL = click.option(
    "--url", help="The receiver's, as in OpenIM's webhooks.yml; default: by its settings."
)


PASSWORD_FILE = click.option(
    "--password-file", type=click.File(), help="Where the user's password stands."
)


def yes(asks: str) -> Option:
    """Give the option that answers a question beforehand, and says when one is asked."""
    return click.option("--yes", is_flag=True, help=f"Do not ask. Without, it asks {asks}.")


def since(what: str) -> Option:
    """Give the option of a first moment."""
    says = f"{what} then or later, such as 2h or 2026-01-31."
    return click.option("--since", metavar="WHEN", callback=moment, help=says)


def until(what: str) -> Option:
    """Give the option of a last moment."""
    return click.option("--until", metavar="WHEN", callback=moment, help=f"{what} before.")


def count(
    most: int | None, default: int | None = None, says: str = "Show so many at most."
) -> Option:
    """Give the option that says how many."""
    return click.option(
        *("-n", "--count"),
        default=default,
        show_default=default is not None,
        type=click.IntRange(1, most),
        help=says,
    )


def rate(default: float | None) -> Option:
    """Give the option that says how fast."""
    return click.option(
        "--rate",
        default=default,
        show_default=default is not None,
        type=Number(0, 100_000, min_open=True),
        help="So many a second, at most.",
    )


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody says so, by `--yes` or at a terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say it with --yes.")
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        fail("interrupted; nothing was changed", INTERRUPTED)
    if not agreed:
        fail("nothing was changed")


def secret_of(file: TextIO | None) -> str:
    """Read a password from a file; without one, ask for it twice at a terminal."""
    if file is not None:
        found = file.read().strip()
        if not found:
            raise click.BadParameter(f"{file.name} holds no password")
        return found
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked here: name a file with --password-file.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@contextmanager
def progress(label: str, whole: int | None = None) -> Iterator[Tell]:
    """Show people at a terminal how far something is, once it has taken two seconds.

    Not where the command was given `--json` or `--quiet`.

    Args:
        label: What goes on.
        whole: How many there are, if that is known.

    """
    given = click.get_current_context().params
    shown = sys.stderr.isatty() and not (given.get("as_json") or given.get("quiet"))
    due = time.monotonic() + PATIENCE
    bars: list[Any] = []

    def tell(done: int) -> None:
        nonlocal due
        if not shown or time.monotonic() < due:
            return
        due = time.monotonic() + OFTEN
        bar = bars[0] if bars else drawn()
        bar.update(done - bar.pos)

    def drawn() -> Any:  # noqa: ANN401  # click does not name its class
        # What has no length hint has no end that could be shown.
        endless = None if whole else (0 for _ in ())
        made = click.progressbar(
            endless, whole, label, file=sys.stderr, show_pos=True, width=24
        )
        bars.append(stack.enter_context(made))
        return bars[0]

    with ExitStack() as stack:
        yield tell
