"""Makes the secrets of the Compose stack, or of Kubernetes, and gives each service its own.

    kept/               what was made up before, so that it stays the same
    given/              yours: given/receiver/path is taken instead of what would be made
    for/<service>/      what that service finds in /run/secrets

Called with the folder that holds these three; Compose runs it before everything else, always.
"""

# ruff: noqa: INP001 (a program)

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

from bridge.rights import USERS, definitions

DATABASE_USERS = ("postgres", "consumers", "api", "console", "operator")

OPENIMS_PATH = "/callbackExample"
"""OpenIM's own default, which only this machine can reach as long as nobody opens the port."""


def main(folder: Path, broker: str = "broker", database: str = "postgres") -> None:
    """Write all files that are not there, or that have changed.

    Args:
        folder: That holds all of them.
        broker: Host of RabbitMQ.
        database: Host of PostgreSQL.

    """
    path = given(folder, "receiver", "path", OPENIMS_PATH)
    for service, files in wanted(folder / "kept", path, broker, database).items():
        for name, made in files.items():
            write(folder / "for" / service / name, given(folder, service, name, made))


def given(folder: Path, service: str, name: str, made: str) -> str:
    """Give a secret of yours if there is one, and otherwise what we made."""
    yours = folder / "given" / service / name
    try:
        return yours.read_text(encoding="utf-8").strip() if yours.exists() else made
    except PermissionError:
        sys.exit(
            f"deploy/secrets/{service}/{name} cannot be read by user {os.getuid()}: make it"
            " that user's, with mode 0400"
        )


def wanted(
    kept: Path, path: str, broker_host: str, database_host: str
) -> dict[str, dict[str, str]]:
    """Give the files of each service, by name; `path` is where callbacks are taken."""
    broker = {name: remembered(kept / f"broker-{name}") for name in USERS}
    database = {name: remembered(kept / f"database-{name}") for name in DATABASE_USERS}

    def amqp_url(user: str) -> str:
        return f"amqp://{user}:{broker[user]}@{broker_host}/"

    def database_url(user: str) -> str:
        return f"postgresql://{user}:{database[user]}@{database_host}/bridge"

    return {
        "rabbitmq": {
            "definitions.json": json.dumps(definitions(broker), indent=1),
            "erlang-cookie": remembered(kept / "erlang-cookie"),
        },
        "postgres": {f"{name}-password": password for name, password in database.items()},
        "receiver": {
            "amqp-url": amqp_url("receiver"),
            "path": path,
            "secrets": "",
        },
        "consumers": {
            "amqp-url": amqp_url("consumers"),
            "database-url": database_url("consumers"),
        },
        "api": {
            "database-url": database_url("api"),
            "token": remembered(kept / "api-token"),
        },
        "console": {
            "amqp-url": amqp_url("console"),
            "database-url": database_url("console"),
            "password": remembered(kept / "console-password"),
            "callback-url": f"http://receiver:10006{path}",
        },
        "operator": {
            "amqp-url": amqp_url("operator"),
            "database-url": database_url("operator"),
        },
        "grafana": {"admin-password": remembered(kept / "grafana-admin")},
    }


def remembered(path: Path) -> str:
    """Give what was made up before, or make it up now."""
    if not path.exists():
        write(path, secrets.token_urlsafe(32), mode=0o400)
    return path.read_text(encoding="utf-8")


def write(path: Path, text: str, mode: int = 0o444) -> None:
    """Write a file, whole or not at all.

    Args:
        path: Where.
        text: What.
        mode: Who may read it. Services run as users of their own, so a file is for all who
            see the folder, and that is one service.

    """
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    new.chmod(mode)
    new.rename(path)


def asked() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="that holds kept, given and for")
    parser.add_argument("--broker", default="broker", help="host of RabbitMQ")
    parser.add_argument("--database", default="postgres", help="host of PostgreSQL")
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(asked()))
