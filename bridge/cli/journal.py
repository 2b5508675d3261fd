"""The commands `openim-bridge journal`, also beside a receiver that writes."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from bridge import logs, mark, reading, republishing, set_aside
from bridge.broker import ConnectionLost
from bridge.cli.grammar import BODY, JSON, progress
from bridge.commands import FAILED, echo, fail, own_settings, run, show
from bridge.layout import NotAMessage
from bridge.logs import printable
from bridge.message import decode, ids_of
from bridge.reading import Slot, folders
from bridge.republishing import NotPublished
from bridge.segments import Damage, Record

FILES = click.argument(
    "files",
    nargs=-1,
    metavar="[FILE]...",
    type=click.Path(resolve_path=True, path_type=Path),
)
"""Where a file is tells what it is, so that a link to it would not do."""


@click.group("journal")
def group() -> None:
    """Look at what is on disk, and publish what was set aside; a receiver may run."""


@group.command()
@JSON
def status(*, as_json: bool) -> None:
    """Show each slot: who has it, what waits in it, how large it is.

    Example: openim-bridge journal status
    """
    for slot in _slots():
        about = {
            "folder": str(slot.folder),
            "in_use": slot.in_use,
            "waiting": slot.waiting,
            "bytes": slot.size,
            "confirmed": slot.confirmed,
            "last": slot.last,
            "damaged_bytes": sum(each.length for each in slot.damage),
            "set_aside": len(slot.set_aside),
            "damaged_files": len(slot.damaged_files),
        }
        owner = "in use" if slot.in_use else "nobody's"
        show(
            about,
            f"{slot.folder}: {owner}, {slot.waiting:,} callbacks wait,"
            f" {slot.size:,} bytes, {about['damaged_bytes']:,} of them damaged,"
            f" {len(slot.set_aside):,} messages set aside",
            as_json=as_json,
        )


@group.command()
@JSON
def verify(*, as_json: bool) -> None:
    """Read all that is there, and name each place that is damaged; exit with 1 if one is.

    The end of a write that was cut off is none: nothing in it was answered.

    Example: openim-bridge journal verify
    """
    found = _slots()
    damage = [each for slot in found for each in slot.damage]
    for each in damage:
        _show_damage(each, as_json=as_json)
    if damage:
        sys.exit(FAILED)
    if not as_json:
        echo(f"sound: {sum(slot.records for slot in found):,} records")


def _show_damage(damage: Damage, *, as_json: bool) -> None:
    segment, offset, length = str(damage.segment), damage.offset, damage.length
    show(
        {"segment": segment, "offset": offset, "bytes": length},
        f"{segment}: {length:,} bytes from {offset:,} are damaged",
        as_json=as_json,
    )


@group.command()
@FILES
@click.option("--waiting", is_flag=True, help="Only what is not confirmed.")
@BODY
@JSON
def dump(files: tuple[Path, ...], *, waiting: bool, body: bool, as_json: bool) -> None:
    """Show the callbacks in the journal, or in single files of it.

    FILE is a segment, also one whose name ends in .damaged, or a message that was set
    aside.

    Example: openim-bridge journal dump --waiting
    """
    damage: list[Damage] = []
    for number, payload in _records(files, damage, waiting=waiting):
        _show(number, payload, body=body, as_json=as_json)
    if damage:
        count = sum(each.length for each in damage)
        click.echo(f"warning: {count:,} bytes could not be read", err=True)


@group.command()
@FILES
@JSON
def publish(files: tuple[Path, ...], *, as_json: bool) -> None:
    """Publish what was set aside, and remove each file once RabbitMQ has the message.

    FILE is such a message; without one, all are published. What RabbitMQ still will not
    have stays where it is, and the exit code is 1.

    Example: openim-bridge journal publish
    """
    settings = own_settings()
    logs.set_up("text", "error")
    failed = False
    for path in files or [each for slot in folders(_folder()) for each in set_aside.kept(slot)]:
        try:
            if not set_aside.is_one(path):
                raise NotPublished("it is no message that was set aside")  # noqa: TRY301
            message = set_aside.read(path).payload
            run(republishing.publish(settings, message))
        except (ConnectionLost, NotAMessage, NotPublished, OSError) as error:
            click.echo(f"error: {printable(str(path))} was not published: {error}", err=True)
            failed = True
            continue
        _show_published(path, ids_of(message), as_json=as_json)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            click.echo(
                f"error: {printable(str(path))} was published, and cannot be removed:"
                f" {error.strerror}; published again it comes again",
                err=True,
            )
            failed = True
    if failed:
        sys.exit(FAILED)


def _show_published(path: Path, ids: dict[str, str], *, as_json: bool) -> None:
    line = f"{printable(str(path))}: published, {ids['message_id']}"
    show({"published": str(path)} | ids, line, as_json=as_json)


def _folder() -> Path:
    path = Path(own_settings().journal_path)
    if not path.is_dir():
        fail(f"there is no folder {path}: BRIDGE_JOURNAL_PATH says where the journal is")
    return path


def _slots() -> list[Slot]:
    path = _folder()
    with progress("reading bytes", reading.size(path)) as tell:
        return reading.slots(path, tell)


def _records(
    files: tuple[Path, ...], damage: list[Damage], *, waiting: bool
) -> Iterator[Record]:
    for path in files:
        if not path.is_file():
            fail(f"there is no file {path}")
        if set_aside.is_one(path):
            yield set_aside.read(path)
        else:
            yield from _of(path, damage, waiting=waiting)
    if not files:
        for path in reading.segments_in(_folder()):
            yield from _of(path, damage, waiting=waiting)


def _of(path: Path, damage: list[Damage], *, waiting: bool) -> Iterator[Record]:
    confirmed = mark.read(path.parent) if waiting else 0
    return (each for each in reading.records(path, damage) if each.number > confirmed)


def _show(number: int, payload: bytes, *, body: bool, as_json: bool) -> None:
    try:
        message = decode(payload)
    except NotAMessage:
        about: dict[str, object] = {"number": number, "unreadable_bytes": len(payload)}
    else:
        received = datetime.fromtimestamp(message.received_ms / 1000, UTC)
        about = {
            "number": number,
            "received": received.isoformat(timespec="milliseconds"),
            "message_id": message.id,
            "operation_id": message.operation_id,
            "command": message.command,
            "routing_key": message.routing_key,
            "ordering_key": message.ordering_key,
            "bytes": len(message.body),
        } | ({"body": message.body.decode(errors="replace")} if body else {})
    line = "  ".join(printable(str(value)) for value in about.values() if value != "")
    show(about, line, as_json=as_json)
