"""The stack: its containers, and what is done to them."""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"

HEALTHY = 180.0
"""Seconds that a container may need until it is well again."""


class DockerFailed(Exception):
    """A call of Docker failed; the message says how."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container of a service."""

    id: str
    name: str
    service: str


async def docker(*words: str) -> str:
    """Call Docker; give what it says.

    Raises:
        DockerFailed: it did not do it.

    """
    return await call("docker", *words)


async def call(*words: str) -> str:
    """Run a program to its end; give what it says."""
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise DockerFailed(f"{' '.join(words)}: {err.decode(errors='replace')[-2000:]}")
    return out.decode()


async def containers() -> list[Container]:
    """Give all that run, as Compose knows them."""
    lines = (await docker("compose", "ps", "--format", "json")).splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [
        Container(id=each["ID"], name=each["Name"], service=each["Service"]) for each in found
    ]


async def kill(container: Container) -> None:
    """End a container as a crash does; return when it is well again.

    It is Docker's to start it again, but only if it was not Docker that ended it; and to end
    its first process ourselves we have to be root.
    """
    begun = await _inspected(container, "{{.State.StartedAt}}")
    if os.geteuid() == 0:
        os.kill(int(await _inspected(container, "{{.State.Pid}}")), signal.SIGKILL)
    else:
        await docker("kill", container.id)
        await docker("start", container.id)
    async with asyncio.timeout(HEALTHY):
        while await _inspected(container, "{{.State.StartedAt}}") == begun:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await _well(container)


async def cut(container: Container, seconds: float) -> None:
    """Take a container off its networks for so long; return when it is well again.

    Nobody is told, as when a machine is unplugged: heartbeats have to find out.
    """
    networks = await _networks(container)
    for name in networks:
        await docker("network", "disconnect", name, container.id)
    try:
        await asyncio.sleep(seconds)
    finally:
        # Whoever loses patience gets the stack back as it was.
        for name, each in networks.items():
            aliases = [word for alias in each["Aliases"] for word in ("--alias", alias)]
            await docker("network", "connect", *aliases, name, container.id)
    async with asyncio.timeout(HEALTHY):
        await _well(container)


async def _well(container: Container) -> None:
    while await _inspected(container, "{{.State.Health.Status}}") != "healthy":  # noqa: ASYNC110
        await asyncio.sleep(0.5)


async def _networks(container: Container) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(
        await _inspected(container, "{{json .NetworkSettings.Networks}}")
    )
    return found


async def _inspected(container: Container, what: str) -> str:
    return (await docker("inspect", "--format", what, container.id)).strip()


async def roll(service: str) -> None:
    """Replace the containers of a service that may be scaled, one at a time."""
    await call(sys.executable, str(DEPLOY / "roll.py"), service)


async def replace(service: str) -> None:
    """Stop the container of a service in good order, and make another."""
    await docker("compose", "up", "--detach", "--wait", "--force-recreate", service)


async def published(service: str, port: int) -> str:
    """Give where a port of a service is reached from here."""
    return (await docker("compose", "port", service, str(port))).strip()


async def address(service: str) -> str:
    """Give the IP address of a service, which is reached from the machine that it runs on."""
    for container in await containers():
        if container.service == service:
            with suppress(DockerFailed):
                networks = await _networks(container)
                # One that is being made or removed has none.
                if found := [ip for each in networks.values() if (ip := each["IPAddress"])]:
                    return str(found[0])
    raise DockerFailed(f"{service} does not run")


async def operator(*words: str) -> str:
    """Run a command of ours as the operator does."""
    return await docker("compose", "run", "--rm", "-T", "operator", *words)
