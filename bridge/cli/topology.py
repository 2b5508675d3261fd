"""The commands `topology plan`, `apply`, `verify` and `export`, for either program."""

import sys
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import click
import orjson

from bridge import inspection, logs
from bridge.broker import connect
from bridge.commands import (
    FAILED,
    PARTLY,
    echo,
    fail,
    own_settings,
    problems_explained,
    run,
    show_json,
)
from bridge.inspection import Compared, Difference, definitions
from bridge.management import Management, NoManagement, management, virtual_host
from bridge.settings import Connected
from bridge.topology import Binding, Exchange, Passage, Queue, Topology

Part = TypeVar("Part")

_SIGNS = {"missing": "+", "different": "!", "extra": "-"}

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be compared with what."""

    settings: Connected
    wanted: Topology
    management_url: str = ""


def _own() -> Target:
    settings = own_settings()
    return Target(
        settings=settings,
        wanted=inspection.wanted(settings),
        management_url=settings.management_url,
    )


TargetOf: TypeAlias = Callable[[], Target]


@click.command()
@JSON
@click.pass_obj
def plan(target: TargetOf, *, as_json: bool) -> None:
    """Show what `apply` would create, and what it could not change."""
    found = _looked(target())
    _show(found, as_json=as_json)
    if not found.differences and not as_json:
        echo("nothing differs")


@click.command()
@JSON
@click.pass_obj
def verify(target: TargetOf, *, as_json: bool) -> None:
    """Name each difference; exit with 1 if there is one.

    Without the management API only what is missing is seen, and the exit code is 5 if
    nothing is.
    """
    found = _looked(target())
    _show(found, as_json=as_json)
    if found.differences:
        sys.exit(FAILED)
    if found.unseen:
        sys.exit(PARTLY)
    if not as_json:
        echo("all is as wanted")


@click.command()
@click.option("--unbind", is_flag=True, help="Remove bindings too that are not wanted.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--yes", is_flag=True, help="Do not ask before bindings are removed.")
@click.pass_obj
def apply(target: TargetOf, *, unbind: bool, dry_run: bool, yes: bool) -> None:
    """Create what is missing; may be called again.

    What is there otherwise stays, for RabbitMQ cannot change it and only you can say
    whether what it holds may go; the exit code is 5 then.
    """
    aim = target()
    found = _looked(aim)
    _show(found, as_json=False)
    if dry_run:
        return
    doomed = _extra(found) if unbind else ()
    if doomed and not yes:
        click.confirm(f"Remove {len(doomed):,} bindings?", abort=True)
    with problems_explained():
        run(_applied(aim, _missing(found, aim.wanted), doomed))
    echo(f"created {sum(each.kind == 'missing' for each in found.differences):,}")
    left = [each for each in found.differences if _stays(each, unbind=unbind)]
    if left:
        echo(f"{len(left):,} differ still")
        sys.exit(PARTLY)


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file; default: print it.",
)
@click.pass_obj
def export(target: TargetOf, *, output: Path | None) -> None:
    """Write what is wanted as definitions, which RabbitMQ imports at its start."""
    aim = target()
    made = definitions(aim.wanted, virtual_host(aim.settings.amqp_url))
    text = orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        echo(text.decode().rstrip())
        return
    with problems_explained():
        output.write_bytes(text)


def commands(program: str, target: TargetOf) -> click.Group:
    """Give the commands about what a program needs in RabbitMQ."""

    @click.group("topology")
    @click.pass_context
    def group(context: click.Context) -> None:
        """Compare exchanges, queues and bindings in RabbitMQ with those that are wanted."""
        context.obj = target

    for command in (plan, verify, apply, export):
        of_program = copy(command)
        of_program.epilog = f"Example: {program} topology {command.name}"
        group.add_command(of_program)
    return group


def _looked(target: Target) -> Compared:
    logs.set_up("text", "error")

    async def look() -> Compared:
        settings = target.settings
        url, timeout = settings.amqp_url, settings.connect_timeout
        async with (
            connect(url, name="topology", timeout=timeout) as broker,
            management(target.management_url, url, timeout) as api,
        ):
            return await inspection.compared(broker, api, target.wanted)

    with problems_explained():
        return run(look())


def _show(found: Compared, *, as_json: bool) -> None:
    for each in found.differences:
        if as_json:
            show_json({"kind": each.kind, "what": each.what, "how": each.how})
        else:
            echo(f"{_SIGNS[each.kind]} {each.what} {each.how}")
    if found.unseen:
        click.echo(f"warning: arguments and bindings were not seen: {found.unseen}", err=True)


def _extra(found: Compared) -> Sequence[Binding]:
    extra = [each.thing for each in found.differences if each.kind == "extra"]
    return _of(Binding, extra)


def _stays(difference: Difference, *, unbind: bool) -> bool:
    return difference.kind == "different" or (difference.kind == "extra" and not unbind)


def _missing(found: Compared, wanted: Topology) -> Topology:
    """Give what is to be created, in the order in which it can be."""
    things = [each.thing for each in found.differences if each.kind == "missing"]
    # Which bindings there are was perhaps not seen; made twice they are one.
    passages = wanted.passages if found.unseen else _of(Passage, things)
    bindings = wanted.bindings if found.unseen else _of(Binding, things)
    return Topology(
        exchanges=_of(Exchange, things),
        passages=passages,
        queues=_of(Queue, things),
        bindings=bindings,
    )


def _of(kind: type[Part], things: Iterable[object]) -> tuple[Part, ...]:
    return tuple(each for each in things if isinstance(each, kind))


async def _applied(target: Target, missing: Topology, doomed: Sequence[Binding]) -> None:
    url, timeout = target.settings.amqp_url, target.settings.connect_timeout
    async with (
        connect(url, name="topology", timeout=timeout) as broker,
        management(target.management_url, url, timeout) as api,
    ):
        await broker.declare(missing)
        await _unbind(api, doomed)


async def _unbind(api: Management, doomed: Sequence[Binding]) -> None:
    try:
        for binding in doomed:
            await api.unbind(binding)
    except NoManagement as error:
        fail(str(error))


COMMANDS: tuple[click.Command, ...] = (commands("openim-bridge", _own),)
