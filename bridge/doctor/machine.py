"""This machine: its software, its clock, its disk and the journal on it."""

import asyncio
import importlib.metadata
import os
import re
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import http_parser

from bridge import reading
from bridge.deliveries import Seconds
from bridge.doctor.checks import Wrong
from bridge.journal import SEGMENT_SIZE, JournalBroken
from bridge.settings import Receiver as Settings

PACKAGE = "openim-bridge"

BEGINNING = datetime(2025, 1, 1, tzinfo=UTC)
"""No clock that is right shows less."""

APART: Seconds = 5
"""By how much two clocks may differ."""

SYNCS, SYNCING = 50, 2.0
"""How often the disk is tried, and for how many seconds at most."""

SLOW: Seconds = 0.02
"""A sync that takes longer is slow: each process of OpenIM hands over two callbacks in that
time, and blocks its users when there are more."""

VERY_SLOW: Seconds = 0.5
"""A single sync that takes so long is one, however fast the others were."""


FEW_FILES = 16
"""A journal is some files of its own, and one more for every 16 MiB that wait."""


async def software() -> str:
    """Look whether the libraries are those that have no known hole."""
    old = [each for line in importlib.metadata.requires(PACKAGE) or () if (each := _old(line))]
    if old:
        raise Wrong(
            f"too old: {', '.join(old)}",
            means="they have known holes, or lack what the bridge relies on",
            remedy="install what requirements/run.lock names",
        )
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise Wrong(
            "aiohttp runs without its parser in C",
            means="most ways to smuggle a request past it are in the other one",
            remedy="unset AIOHTTP_NO_EXTENSIONS, and install aiohttp as a wheel",
        )
    return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, aiohttp with its parser in C"


def _old(requirement: str) -> str:
    """Give what is installed of a requirement, if it is older than that allows."""
    found = re.match(r"([\w.-]+)(?:\[.*?\])?.*?>=([\d.]+)", requirement)
    if not found or "extra ==" in requirement:
        return ""
    installed = importlib.metadata.version(found[1])
    is_old = _numbers(installed) < _numbers(found[2])
    return f"{found[1]} {installed}, needed {found[2]}" if is_old else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


async def clock(journal: Path) -> str:
    """Look whether the time may be right."""
    now = datetime.now(UTC)
    latest = await asyncio.to_thread(_last_written, journal)
    if now < BEGINNING or latest > now.timestamp() + APART:
        shown = datetime.fromtimestamp(latest, UTC)
        since = "" if now < BEGINNING else f", and the journal was written at {shown:%F %T}"
        raise Wrong(
            f"it shows {now:%F %T} UTC{since}",
            means="callbacks carry the wrong time of receipt, and a replay by time misses them",
            remedy="set it, and have it kept by chrony or systemd-timesyncd",
            warning=True,
        )
    return f"{now:%F %T} UTC"


def _last_written(journal: Path) -> float:
    files = [path for path in journal.glob("*/*") if path.is_file()]
    return max((path.stat().st_mtime for path in files), default=0.0)


async def disk(settings: Settings) -> str:
    """Look whether the journal has room."""
    folder = _existing(Path(settings.journal_path))
    free, used = shutil.disk_usage(folder).free, reading.size(Path(settings.journal_path))
    wanted = settings.journal_quota - used
    if free < SEGMENT_SIZE:
        raise Wrong(
            f"the disk of {folder} is full: {_bytes(free)} are free",
            means="once the segment that is being written is full, each callback waits for"
            " RabbitMQ's confirm instead, and is lost without",
            remedy="make room, or name a folder on another disk by BRIDGE_JOURNAL_PATH",
        )
    if lacks_files(files := os.statvfs(folder)):
        raise Wrong(
            f"the disk of {folder} has room for {files.f_favail} more files only, however"
            " many bytes are free",
            means="once it has none, a receiver does not start there; for one that runs, each"
            " callback waits for RabbitMQ's confirm instead, and is lost without",
            remedy="remove files, or name a folder on another disk by BRIDGE_JOURNAL_PATH;"
            " `df --inodes` counts them",
        )
    if free < wanted:
        raise Wrong(
            f"{_bytes(free)} are free in {folder}, and the journal may need {_bytes(wanted)}",
            means="while RabbitMQ is away, the disk fills up before the quota does",
            remedy="make room, or lower BRIDGE_JOURNAL_QUOTA",
            warning=True,
        )
    return f"{_bytes(free)} free in {folder}"


def lacks_files(disk: os.statvfs_result) -> bool:
    """Say whether a disk has no room for more files; some, such as btrfs, count none."""
    return disk.f_files > 0 and disk.f_favail < FEW_FILES


async def sync(settings: Settings) -> str:
    """Measure how long the disk takes until something is on it."""
    folder = _existing(Path(settings.journal_path))
    try:
        times = await asyncio.to_thread(_sync_times, folder)
    except OSError as error:
        raise Wrong(
            f"{folder} cannot be written to: {error.strerror}",
            means="the receiver does not start, or ends, and OpenIM's callbacks are lost",
            remedy="replace the disk if it is that; else make room, or name a folder by"
            " BRIDGE_JOURNAL_PATH that this user may write to",
        ) from error
    usual, longest = statistics.median(times), max(times)
    shown = f"a sync takes {_milliseconds(usual)}, at most {_milliseconds(longest)}"
    if longest >= settings.reply_timeout:
        raise Wrong(
            shown,
            means=f"callbacks that wait longer than {settings.reply_timeout:g} s are refused",
            remedy="use a local SSD by BRIDGE_JOURNAL_PATH, and look who else uses the disk",
        )
    if usual > SLOW or longest > VERY_SLOW:
        raise Wrong(
            shown,
            means=f"each process of OpenIM hands over at most {2 / usual:,.0f} callbacks a"
            " second, and slows its users down above",
            remedy="use a local SSD by BRIDGE_JOURNAL_PATH, and look who else uses the disk",
            warning=True,
        )
    return shown


def _sync_times(folder: Path) -> list[float]:
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"\0" * 4096 * SYNCS)
        os.fsync(file.fileno())
        end = time.monotonic() + SYNCING
        for number in range(SYNCS):
            begun = time.monotonic()
            os.pwrite(file.fileno(), b"?" * 4096, number * 4096)
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begun)
            if time.monotonic() > end:
                break
    return times


async def journal(settings: Settings) -> str:
    """Look whether all that the journal holds can be read."""
    folder = Path(settings.journal_path)
    try:
        slots = await asyncio.to_thread(reading.slots, folder)
    except OSError as error:
        raise Wrong(
            f"it cannot be read: {error}",
            means="a receiver of this user ends at its start, and what waits goes to nobody",
            remedy="give the folder and its files to the receiver's user (10001 in containers),"
            " or run this as that user; replace the disk if it is that",
        ) from error
    except JournalBroken as error:
        raise Wrong(
            str(error),
            means="a receiver that takes this slot ends at its start",
            remedy="move the file away, or start the version that wrote it",
        ) from error
    damaged = [each for slot in slots for each in slot.damage]
    kept = [path for slot in slots for path in (*slot.damaged_files, *slot.set_aside)]
    if damaged:
        raise Wrong(
            f"{sum(each.length for each in damaged):,} bytes of {damaged[0].segment} and"
            f" {len(damaged) - 1} other places are damaged",
            means="the callbacks in them are lost, all others are not",
            remedy="replace the disk; `openim-bridge journal verify` names each place",
        )
    if kept:
        raise Wrong(
            f"{len(kept)} files were set aside, such as {kept[0]}",
            means="RabbitMQ would not have what is in them, or the disk has damaged it",
            remedy="look with `openim-bridge journal dump FILE`; what was set aside goes on by"
            " `openim-bridge journal publish`; delete what is left",
            warning=True,
        )
    if not slots:
        return f"no receiver has made one in {folder} yet; has it the same BRIDGE_JOURNAL_PATH?"
    waiting = sum(slot.waiting for slot in slots)
    return f"sound, {waiting:,} callbacks wait in it"


def _existing(folder: Path) -> Path:
    """Give a folder, or the nearest place above it that exists, even if that is a file."""
    return next(
        each for each in (folder.absolute(), *folder.absolute().parents) if each.exists()
    )


def _bytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _milliseconds(seconds: Seconds) -> str:
    return f"{seconds * 1000:,.1f} ms"
