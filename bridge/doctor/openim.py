"""The receiver as OpenIM sees it, and OpenIM's webhooks.yml."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from bridge import webhooks_yml
from bridge.deliveries import Seconds
from bridge.doctor.checks import NotTried, Wrong

LOST = "OpenIM's callbacks are lost, and operations that wait for an answer fail"

PATIENCE: Seconds = 5
"""Seconds that a receiver may take to answer."""


async def receiver(url: URL | None) -> str:
    """Look whether the receiver answers.

    Args:
        url: Where it should; None if that is not known.

    """
    if url is None:
        raise NotTried("BRIDGE_PORT=0 lets the system choose its port")
    where = f"{url.host}:{url.port}"
    about = await _asked(url, "/readyz?verbose")
    if about is None:
        raise Wrong(
            f"no receiver answers at {where}",
            means=LOST,
            remedy="start `openim-bridge receive`; if it runs, run this with its settings and"
            " where it runs",
        )
    if not about["ready"]:
        raise Wrong(
            f"the receiver at {where} is stopping",
            means=f"soon {LOST}",
            remedy="wait for the next",
        )
    journal, broker = about.get("journal", {}), about.get("broker", {})
    if journal.get("full"):
        raise Wrong(
            "the receiver has no room for callbacks on disk",
            means="each waits for RabbitMQ's confirm instead, and is lost without",
            remedy="bring RabbitMQ back, raise BRIDGE_JOURNAL_QUOTA or make room on disk",
        )
    if not broker.get("connected"):
        raise Wrong(
            f"the receiver at {where} is not connected to RabbitMQ: {broker.get('reason')}",
            means="callbacks are answered and kept on disk as long as there is room,"
            f" {journal.get('depth')} by now",
            remedy="mend what else is said here about RabbitMQ; it connects by itself",
            warning=True,
        )
    return f"answers at {where}"


async def _asked(url: URL, path: str) -> dict[str, Any] | None:
    """Ask a receiver; None if none answers."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            # Its certificate is for the name by which OpenIM knows it.
            session.get(url.origin().join(URL(path)), ssl=False) as answer,
        ):
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return None
    return found if isinstance(found, dict) and "ready" in found else None


async def file(path: Path | None, wanted: webhooks_yml.Wanted) -> str:
    """Look whether OpenIM sends to the receiver.

    Args:
        path: Where webhooks.yml lies, if that was said.
        wanted: What it ought to say.

    """
    if path is None:
        raise NotTried("say where OpenIM's file is by --webhooks-yml")
    try:
        read = webhooks_yml.read(await asyncio.to_thread(path.read_text, encoding="utf-8"))
    except (OSError, ValueError, webhooks_yml.Unreadable) as error:
        raise Wrong(
            f"{path} cannot be read: {error}",
            means="nobody knows what OpenIM sends",
            remedy="name OpenIM's config/webhooks.yml",
        ) from error
    problems = [each for each in webhooks_yml.check(read, wanted) if each.is_problem]
    if problems:
        first = problems[0]
        more = f"; and {len(problems) - 1} more" if problems[1:] else ""
        raise Wrong(
            f"line {first.line}: {first.key} {first.text}{more}",
            means="OpenIM does not send all callbacks that it should, or not to the receiver",
            remedy="`openim-bridge webhooks-yml write` mends it; then restart OpenIM",
        )
    await _reached(URL(str(read["url"])))
    return f"sends {len(webhooks_yml.enabled(read))} kinds of callbacks to the receiver"


async def _reached(url: URL) -> None:
    if await _asked(url, "/readyz") is None:
        raise Wrong(
            f"its url leads to {url.host}:{url.port}, where from here no receiver answers",
            means=LOST + ", unless OpenIM's machine knows another way",
            remedy="correct host and port: `openim-bridge webhooks-yml write --url`, and then"
            " restart OpenIM; on its machine, `curl` the url's /livez",
        )
