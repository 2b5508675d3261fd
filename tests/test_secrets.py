"""`openim-bridge secrets`: a secret is changed for another while callbacks go on."""

import asyncio
import os
import re
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from yarl import URL

from bridge.secrets_file import CannotChange, read, with_another, without, write
from tests.commands import BRIDGE, Command, ran
from tests.running import NOWHERE, until
from tests.test_kill import Process, receiver
from tests.test_reloading import load, status

OLD = "o" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with one secret."""
    path = tmp_path / "secrets"
    path.write_text(f"old:{OLD}\n", encoding="utf-8")
    return path


@pytest.fixture
async def running(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Process]:
    monkeypatch.setenv("BRIDGE_SECRETS_FILE", str(file))
    async with receiver(tmp_path, NOWHERE) as process:
        await process.url()
        yield process


async def secrets(folder: Path, *words: str, **variables: str) -> tuple[int | None, Command]:
    command = await ran(BRIDGE, "secrets", *words, folder=folder, **variables)
    return command.process.returncode, command


async def reload(process: Process) -> None:
    before = process.log.count("settings read")
    process.process.send_signal(signal.SIGHUP)
    await until(lambda: process.log.count("settings read") == before + 1)


async def test_a_secret_is_changed_while_callbacks_go_on(
    tmp_path: Path, file: Path, running: Process
) -> None:
    where = {"BRIDGE_SECRETS_FILE": str(file)}
    url = await running.url()
    here = f"--url={URL(url).origin()}"
    async with load(url, OLD) as sending:
        await sending.more()
        _, rotated = await secrets(tmp_path, "rotate", "--name", "new", **where)
        (new,) = re.findall(r"http://openim:(\S+)@127.0.0.1:10006/callbackExample", rotated.out)
        await reload(running)
        await sending.more()
        still = await secrets(tmp_path, "drop", "old", here, "--watch=0.5", "--yes", **where)
        sending.secret = new
        await sending.more()
        dropped = await _dropped(tmp_path, here, where)
        await reload(running)
        await sending.more()
    _, shown = await secrets(tmp_path, "show", here, **where)
    assert (still[0], "still used" in still[1].err) == (1, True)
    assert (dropped, list(read(file))) == (0, ["new"])
    assert {answer.status for answer in sending.answers} == {200}
    assert (await status(url, OLD), await status(url, new)) == (401, 200)
    assert re.fullmatch(r"new  used [\d,]+ times since the receiver started\n", shown.out)
    said = shown.out + shown.err + running.log + still[1].err
    assert not [secret for secret in (OLD, new) if secret in said]


async def test_none_is_dropped_that_the_receiver_cannot_speak_of(
    tmp_path: Path, file: Path, running: Process
) -> None:
    here = f"--url={URL(await running.url()).origin()}"
    words = "drop", "old", f"--file={file}", here, "--watch=0", "--dry-run"
    await secrets(tmp_path, "rotate", f"--file={file}", "--name=new")
    early = await secrets(tmp_path, *words)
    await reload(running)
    later = await secrets(tmp_path, *words)
    assert (early[0], "does not know new: send it SIGHUP" in early[1].err) == (1, True)
    assert later[0] == 0


async def test_a_receiver_without_secrets_lets_none_be_dropped(tmp_path: Path) -> None:
    write(tmp_path / "two", {"old": OLD, "new": "n" * 43})
    async with receiver(tmp_path, NOWHERE) as process:
        here = f"--url={URL(await process.url()).origin()}"
        code, command = await secrets(
            tmp_path, "drop", "old", "--file=two", here, "--watch=0", "--yes"
        )
    assert (code, "does not know old and new" in command.err) == (1, True)
    assert list(read(tmp_path / "two")) == ["old", "new"]


async def test_a_secret_is_for_the_url_that_is_given(tmp_path: Path, file: Path) -> None:
    where = "--url=https://receiver.prod:443"
    _, command = await secrets(tmp_path, "rotate", f"--file={file}", "--name=new", where)
    new = read(file)["new"]
    assert f"https://openim:{new}@receiver.prod/callbackExample" in command.out


@pytest.mark.parametrize("setting", ["BRIDGE_PORT", "BRIDGE_PORTT"])
async def test_without_settings_no_secret_is_made(
    tmp_path: Path, file: Path, setting: str
) -> None:
    code, command = await secrets(tmp_path, "rotate", f"--file={file}", **{setting: "0"})
    assert (code, command.out, list(read(file))) == (
        2 if setting == "BRIDGE_PORT" else 3,
        "",
        ["old"],
    )


async def test_of_several_who_change_it_at_once_none_undoes_what_another_did(
    tmp_path: Path,
) -> None:
    made = await asyncio.gather(
        *(secrets(tmp_path, "rotate", "--file=new", f"--name=n{number}") for number in range(4))
    )
    done = {f"n{number}" for number, (code, _) in enumerate(made) if code == 0}
    assert (len(done), set(read(tmp_path / "new"))) == (2, done)


async def test_callbacks_are_not_for_everybody_as_a_file_was_emptied(
    file: Path, running: Process
) -> None:
    write(file, {})
    running.process.send_signal(signal.SIGHUP)
    await until(lambda: "settings kept as they were" in running.log)
    assert "BRIDGE_SECRETS is empty now" in running.log
    assert await status(await running.url(), "x" * 43) == 401


async def _dropped(folder: Path, here: str, where: dict[str, str]) -> int | None:
    """Drop it; what was under way with the old secret may count once more."""
    code, _ = await secrets(folder, "drop", "old", here, "--watch=0.5", "--yes", **where)
    if code == 0:
        return code
    return (await secrets(folder, "drop", "old", here, "--watch=0.5", "--yes", **where))[0]


async def test_the_first_secret_is_for_openim_first(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    code, command = await secrets(tmp_path, "rotate", f"--file={file}")
    first, second = command.out.index("webhooks.yml"), command.out.index("BRIDGE_SECRETS_FILE")
    assert (code, first < second) == (0, True)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600  # noqa: PTH116  # pathlib may not block


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show"], 2, "name the file with --file"),
        (["rotate", "--file=secrets", "--name=no name"], 1, "up to 32 letters"),
        (["rotate", "--file=secrets", "--name=old"], 1, "is called old already"),
        (["rotate", "--file=nowhere/secrets"], 1, "No such file"),
        (["rotate", "--file=zebra"], 1, "something else than name:secret"),
        (["rotate", "--file=secrets", "--url=receiver"], 2, "must be like"),
        (["show", "--file=latin"], 1, "something else than name:secret"),
        (["drop", "old", "--file=secrets"], 1, "only secret"),
        (["drop", "older", "--file=secrets"], 1, "no secret is called older"),
        (["drop", "old", "--file=two", "--url=http://127.0.0.1:1"], 4, "does not answer"),
        (["drop", "old", "--file=two", "--url=ftp://127.0.0.1"], 2, "must be like"),
    ],
)
async def test_what_cannot_be_done_is_said_and_changes_nothing(
    tmp_path: Path, file: Path, words: list[str], code: int, says: str
) -> None:
    write(tmp_path / "two", {"old": OLD, "new": "n" * 43})
    (tmp_path / "zebra").write_text("zebra\n", encoding="utf-8")
    (tmp_path / "latin").write_text("é:x\n", encoding="latin-1")
    got, command = await secrets(tmp_path, *words)
    assert (got, says in command.err) == (code, True)
    assert (list(read(file)), list(read(tmp_path / "two"))) == (["old"], ["old", "new"])
    assert "zebra\n" not in command.out + command.err
    assert OLD not in command.out + command.err


async def test_one_may_be_dropped_unseen(tmp_path: Path) -> None:
    write(tmp_path / "two", {"old": OLD, "new": "n" * 43})
    code, _ = await secrets(tmp_path, "drop", "old", "--file=two", "--unseen", "--yes")
    assert (code, list(read(tmp_path / "two"))) == (0, ["new"])


async def test_a_receiver_that_is_away_is_no_reason_not_to_show(tmp_path: Path) -> None:
    write(tmp_path / "two", {"old": OLD})
    _, command = await secrets(tmp_path, "show", "--file=two", "--url=http://127.0.0.1:1")
    assert command.out == "old  the receiver does not answer\n"


def test_a_third_secret_has_no_room() -> None:
    with pytest.raises(CannotChange, match="a and b are active already"):
        with_another({"a": "x", "b": "y"}, "c")


def test_a_secret_is_named_after_the_day() -> None:
    (name,) = with_another({}, "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", name)


def test_new_secrets_differ_and_are_long() -> None:
    made = {with_another({}, "a")["a"] for _ in range(100)}
    assert len(made) == 100
    assert min(map(len, made)) >= 43


def test_the_last_secret_stays() -> None:
    with pytest.raises(CannotChange):
        without({"a": "x"}, "a")


def test_a_file_keeps_its_rights(file: Path) -> None:
    file.chmod(0o640)
    write(file, {"a": "x"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == [file.name]
