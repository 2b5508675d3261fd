"""SIGHUP: settings and policy are read again, and used from the next callback on."""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from msgspec import structs

from bridge import logs, policy
from bridge.loading import BadSettings
from bridge.receiver import Receiver
from bridge.settings import Receiver as Settings
from bridge.tls import trouble

log = logging.getLogger(__name__)

ReadAgain: TypeAlias = Callable[[], Settings]
"""Reads the settings from where they came; raises `BadSettings`."""


class Merged(NamedTuple):
    """What is to be used of settings that were read again."""

    settings: Settings
    changed: list[str]
    """Names of what is used from now on."""
    waiting: list[str]
    """Names of what has changed too, and is used after a restart only."""


def merged(now: Settings, read: Settings) -> Merged:
    """Take from `read` what can change while a receiver runs.

    Raises:
        BadSettings: it has no secrets any more, by mistake or not.

    """
    if now.secrets.strip() and not read.secrets.strip():
        raise BadSettings(["BRIDGE_SECRETS is empty now: only a start lets everybody call"])
    old, new = structs.asdict(now), structs.asdict(read)
    differ = [name for name in new if new[name] != old[name]]
    changed = [name for name in differ if name in Settings.reloaded]
    waiting = [name for name in differ if name not in Settings.reloaded]
    return Merged(structs.replace(now, **{n: new[n] for n in changed}), changed, waiting)


async def keep_up(
    receiver: Receiver, read_again: ReadAgain | None, hung_up: asyncio.Event
) -> None:
    """Read settings and policy again whenever it is asked for; mistakes change nothing."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            merged, decisions = await asyncio.to_thread(_read, receiver, read_again)
        except BadSettings as error:
            receiver.metrics.reloads.labels("refused").inc()
            log.error(  # noqa: TRY400  # it says all
                "settings kept as they were", extra={"problems": error.problems}
            )
        else:
            _use(receiver, merged, decisions)


def _read(receiver: Receiver, read_again: ReadAgain | None) -> tuple[Merged, policy.Policy]:
    found = merged(receiver.settings, read_again() if read_again else receiver.settings)
    decisions = policy.read(found.settings.policy, receiver.policy)
    if receiver.certificate and (why := trouble(receiver.certificate.read)):
        raise BadSettings([f"BRIDGE_TLS_CERTIFICATE or BRIDGE_TLS_KEY cannot be used: {why}"])
    return found, decisions


def _use(receiver: Receiver, merged: Merged, decisions: policy.Policy) -> None:
    settings, changed, waiting = merged
    receiver.use(settings, decisions)
    receiver.metrics.reloads.labels("taken").inc()
    if {"log_format", "log_level"} & set(changed):
        logs.set_up(settings.log_format, settings.log_level)
    facts = {
        "changed": changed,
        "restart_needed": waiting,
        "callbacks": len(decisions.rulings),
        "secrets": receiver.callers.secrets,
    }
    log.info("settings read", extra=facts)
