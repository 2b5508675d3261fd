"""Replaces the containers of Compose services one at a time, each by one that is healthy.

    python3 deploy/roll.py receiver consumers

Compose itself stops all containers of a service at once. Here a new one is there before an
old one goes, so that somebody always answers. Give the services that may be scaled; for all
others, `docker compose up --detach --wait` is the way.
"""

# ruff: noqa: INP001, T201, S603, S607 (a program, which calls Docker)

import subprocess
import sys

SCALED = ("receiver", "consumers")
"""The services that may have one container more for a while."""


def main(services: list[str]) -> None:
    """Replace all containers of these services."""
    unknown = [name for name in services if name not in SCALED]
    if unknown or not services:
        sys.exit(f"Name one or both of {', '.join(SCALED)}")
    for service in services:
        roll(service)


def roll(service: str) -> None:
    """Replace all containers of a service, the oldest first."""
    old = running(service)
    for container in old:
        another(service, len(old) + 1)
        # With the time that it was given to stop in good order.
        docker("stop", container)
        docker("rm", container)
        print(f"{service}: {container[:12]} is replaced", flush=True)


def another(service: str, count: int) -> None:
    """Have `count` containers of a service; take away again what does not become healthy."""
    before = docker("compose", "ps", "--all", "--quiet", service).split()
    try:
        docker(
            *("compose", "up", "--detach", "--wait", "--no-recreate"),
            *("--scale", f"{service}={count}", service),
        )
    except SystemExit:
        for new in docker("compose", "ps", "--all", "--quiet", service).split():
            if new not in before:
                print(docker("logs", "--tail", "20", new), file=sys.stderr)
                docker("rm", "--force", new)
        raise


def running(service: str) -> list[str]:
    """Give the containers of a service, the oldest first."""
    found = docker("compose", "ps", "--quiet", service).split()
    return sorted(found, key=lambda each: docker("inspect", "--format", "{{.Created}}", each))


def docker(*words: str) -> str:
    """Call Docker; give what it says, or end with that if it fails."""
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"docker {' '.join(words)} failed:\n{done.stderr}")
    return done.stdout + (done.stderr if words[0] == "logs" else "")


if __name__ == "__main__":
    main(sys.argv[1:])
