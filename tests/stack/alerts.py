"""What Prometheus tells of a container that was killed."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp

Alert: TypeAlias = tuple[str, str, str]
"""Name, job and instance."""

WATCHED = 120.0
"""Seconds until Prometheus has found and looked at all."""

FIRING = 180.0
"""Seconds until an alert says that something has happened."""

CLEARED = 1200.0
"""Seconds until none does, once nothing happens any more: the rules look ten minutes back."""

_DATABASE = "postgres"
"""Seen with the eyes of the API."""

_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class Prometheus:
    """The stack's own, with the rules of deploy/prometheus."""

    address: str

    async def watches(self, services: Counter[str]) -> set[str]:
        """Wait until every container is looked at; give the services of which one is not."""
        wanted = Counter(_job(each) for each in services.elements())
        del wanted[_DATABASE]
        deadline = time.monotonic() + WATCHED
        while (left := wanted - await self._up()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(1)
        return set(left)

    async def firing(self) -> set[Alert]:
        """Give each alert that fires."""
        alerts = await self._asked("alerts")
        # It is killed as well.
        if alerts is None:
            return {("PrometheusAway", "", "")}
        firing = (each["labels"] for each in alerts if each["state"] == "firing")
        return {
            (labels["alertname"], labels.get("job", ""), labels.get("instance", ""))
            for labels in firing
        }

    async def told(self, service: str, before: set[Alert]) -> float | None:
        """Wait until an alert tells that a container has ended; give the seconds.

        Args:
            service: Of the container.
            before: What fired when it was killed.

        """
        wanted = ("ProcessStartedAgain", _job(service))
        if service == _DATABASE:
            wanted = ("DatabaseWasAway", "api")
        began = time.monotonic()
        while (took := time.monotonic() - began) < FIRING:
            if any(each[:2] == wanted for each in await self.firing() - before):
                return took
            await asyncio.sleep(1)
        return None

    async def cleared(self) -> set[Alert]:
        """Wait until no alert fires; give those that still do."""
        deadline = time.monotonic() + CLEARED
        while (left := await self.firing()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(1)
        return left

    async def _up(self) -> Counter[str]:
        targets = await self._asked("targets") or []
        return Counter(each["labels"]["job"] for each in targets if each["health"] == "up")

    async def _asked(self, what: str) -> list[dict[str, Any]] | None:
        key = {"alerts": "alerts", "targets": "activeTargets"}[what]
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(f"http://{self.address}/api/v1/{what}") as response,
            ):
                found: list[dict[str, Any]] = (await response.json())["data"][key]
                return found
        except (aiohttp.ClientError, TimeoutError):
            return None


def _job(service: str) -> str:
    return "rabbitmq" if service.startswith("rabbitmq") else service
