"""The secrets of the Compose stack: made once, each for who needs it, and yours before ours."""

import json
from pathlib import Path

import make_secrets
import pytest
from yarl import URL

from bridge.loading import load
from bridge.rights import USERS, definitions
from bridge.settings import Receiver
from consumers.settings import Console, FriendsApi, Worker

SERVICES = (
    "rabbitmq",
    "postgres",
    "receiver",
    "consumers",
    "api",
    "console",
    "operator",
    "grafana",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is mounted where secrets are made, empty."""
    for service in SERVICES:
        (tmp_path / "for" / service).mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    (tmp_path / "given").mkdir()
    return tmp_path


def made(folder: Path) -> dict[str, str]:
    """Make secrets; give them by service and name."""
    make_secrets.main(folder)
    found = [path for path in (folder / "for").rglob("*") if path.is_file()]
    return {str(path.relative_to(folder / "for")): path.read_text() for path in found}


def test_every_process_starts_with_what_it_is_given(folder: Path) -> None:
    made(folder)
    mine = {name: str(folder / "for" / name) for name in SERVICES}
    receiver = load(
        Receiver,
        {
            "BRIDGE_AMQP_URL_FILE": f"{mine['receiver']}/amqp-url",
            "BRIDGE_PATH_FILE": f"{mine['receiver']}/path",
            "BRIDGE_SECRETS_FILE": f"{mine['receiver']}/secrets",
        },
    )
    worker = load(
        Worker,
        {
            "CONSUMERS_AMQP_URL_FILE": f"{mine['consumers']}/amqp-url",
            "CONSUMERS_DATABASE_URL_FILE": f"{mine['consumers']}/database-url",
        },
    )
    api = load(
        FriendsApi,
        {
            "FRIENDS_API_TOKEN_FILE": f"{mine['api']}/token",
            "FRIENDS_API_DATABASE_URL_FILE": f"{mine['api']}/database-url",
        },
    )
    console = load(
        Console,
        {
            "CONSOLE_PASSWORD_FILE": f"{mine['console']}/password",
            "CONSOLE_CALLBACK_URL_FILE": f"{mine['console']}/callback-url",
            "CONSOLE_AMQP_URL_FILE": f"{mine['console']}/amqp-url",
            "CONSOLE_DATABASE_URL_FILE": f"{mine['console']}/database-url",
        },
    )
    assert URL(console.amqp_url).user == URL(console.database_url).user == "console"
    assert URL(console.callback_url).path == receiver.path
    assert receiver.path == Receiver().path
    assert URL(receiver.amqp_url).user == "receiver"
    assert URL(worker.amqp_url).user == URL(worker.database_url).user == "consumers"
    assert URL(api.database_url).user == "api"


def test_who_owns_no_tables_is_a_user_of_the_database_for_itself(folder: Path) -> None:
    files = made(folder)
    others = ("api", "console", "operator")
    urls = [URL(files[f"{name}/database-url"]) for name in others]
    known = [(name, files[f"postgres/{name}-password"]) for name in others]
    assert [(url.user, url.password) for url in urls] == known


def test_rabbitmq_knows_the_passwords_that_processes_have(folder: Path) -> None:
    files = made(folder)
    passwords = {
        name: URL(files.get(f"{name}/amqp-url", "")).password
        or (folder / "kept" / f"broker-{name}").read_text()
        for name in USERS
    }
    assert json.loads(files["rabbitmq/definitions.json"]) == definitions(passwords)
    assert len(set(passwords.values())) == len(USERS)


def test_made_again_they_are_the_same(folder: Path) -> None:
    assert made(folder) == made(folder)


def test_made_elsewhere_they_are_others(folder: Path) -> None:
    before = made(folder)
    kept = list((folder / "kept").iterdir())
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)
    for path in kept:
        path.unlink()
    same = {name for name, text in made(folder).items() if before[name] == text}
    assert same == {"receiver/path", "receiver/secrets", "console/callback-url"}


def test_what_you_give_is_taken(folder: Path) -> None:
    given = folder / "given" / "receiver" / "path"
    given.parent.mkdir()
    given.write_text("/callback/4f1c\n")
    assert made(folder)["receiver/path"] == "/callback/4f1c"
    given.unlink()
    assert made(folder)["receiver/path"] == "/callbackExample"


def test_who_runs_as_another_user_can_read_them(folder: Path) -> None:
    made(folder)
    modes = {path.stat().st_mode & 0o777 for path in (folder / "for").glob("*/*")}
    assert modes == {0o444}
