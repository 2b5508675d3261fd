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
from bridge.cli.grammar import DRY_RUN, JSON, confirm, yes
from bridge.commands import FAILED, PARTLY, echo, own_settings, run, show
from bridge.inspection import Compared, Difference, definitions
from bridge.management import management, virtual_host
from bridge.settings import Connected
from bridge.topology import Binding, Exchange, Passage, Queue, Topology

Part = TypeVar("Part")

_SIGNS = {"missing": "+", "different": "!", "extra": "-"}


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
@DRY_RUN
@yes("before bindings are removed")
@JSON
@click.pass_obj
def apply(target: TargetOf, *, unbind: bool, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Create what is missing; may be called again.

    What is there otherwise stays, for RabbitMQ cannot change it and only you can say
    whether what it holds may go; the exit code is 5 then, and with --unbind where no bindings
    were seen, for want of the management API.
    """
    aim = target()
    found = _looked(aim)
    _show(found, as_json=as_json)
    if dry_run:
        return
    doomed = _extra(found) if unbind else ()
    if doomed:
        confirm(f"Remove {len(doomed):,} bindings?", yes=yes)
    run(_applied(aim, _missing(found, aim.wanted), doomed))
    created = sum(each.kind == "missing" for each in found.differences)
    left = sum(_stays(each, unbind=unbind) for each in found.differences)
    about = {
        "created": created,
        "removed": len(doomed),
        "left": left,
        "unseen": found.unseen,
    }
    still = f"\n{left:,} differ still" if left else ""
    show(about, f"created {created:,}{still}", as_json=as_json)
    if left or (unbind and found.unseen):
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
    made = definitions(aim.wanted, virtual_host(aim.settings.broker_url))
    text = orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    if output is None:
        echo(text.decode().rstrip())
        return
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
        url, timeout = settings.broker_url, settings.connect_timeout
        async with (
            connect(url, name="topology", timeout=timeout) as broker,
            management(target.management_url, url, timeout) as api,
        ):
            return await inspection.compared(broker, api, target.wanted)

    return run(look())


def _show(found: Compared, *, as_json: bool) -> None:
    for each in found.differences:
        about = {"kind": each.kind, "what": each.what, "how": each.how}
        show(about, f"{_SIGNS[each.kind]} {each.what} {each.how}", as_json=as_json)
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
    url, timeout = target.settings.broker_url, target.settings.connect_timeout
    async with (
        connect(url, name="topology", timeout=timeout) as broker,
        management(target.management_url, url, timeout) as api,
    ):
        await broker.declare(missing)
        for binding in doomed:
            await api.unbind(binding)


group = commands("openim-bridge", _own)
