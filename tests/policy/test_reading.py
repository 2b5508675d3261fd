"""Policy files: what may stand in them, and what is said about mistakes."""

from pathlib import Path

import pytest

from bridge import policy
from bridge.contract import (
    Allow,
    BeforeAddFriend,
    BeforeMsgModify,
    BeforeSetGroupInfoEx,
    ChangeSetGroupInfoEx,
    Refuse,
)
from bridge.loading import BadSettings
from tests.commands import BRIDGE, ran
from tests.policies import commands, decide, policy_of, problems, written


def test_without_a_file_everything_is_allowed() -> None:
    decided = decide(policy.read(""), BeforeAddFriend, {})
    assert (decided.decision.reply, decided.decision.source) == (Allow(), "default")


def test_an_empty_file_allows_everything(tmp_path: Path) -> None:
    decided = decide(policy_of(tmp_path, ""), BeforeAddFriend, {})
    assert (decided.decision.reply, decided.decision.source) == (Allow(), "default")


def test_each_callback_is_answered_as_the_file_says(tmp_path: Path) -> None:
    text = """
        [commands.BeforeAddFriend]
        refuse = {code = 20007, message = "Friends are closed", detail = "moving"}
        [commands.callbackBeforeSetGroupInfoExCommand]
        change = {needVerification = 2, groupName = "Hikers"}
        [commands.BeforeMsgModify]
        allow = true
    """
    read = policy_of(tmp_path, text)
    kinds = (BeforeAddFriend, BeforeSetGroupInfoEx, BeforeMsgModify)
    assert [decide(read, kind, {}).decision.reply for kind in kinds] == [
        Refuse(20007, "Friends are closed", "moving"),
        ChangeSetGroupInfoEx(need_verification=2, group_name="Hikers"),
        Allow(),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[command.BeforeAddFriend]", "command is not a key; did you mean commands?"),
        (
            "commands = 1",
            "commands=1 is not allowed: tables such as [commands.BeforeAddFriend]",
        ),
        ("commands = {BeforeAddFriend = 1}", "[commands.BeforeAddFriend] must be a table"),
        ("[commands", "cannot be read: "),
        ('[commands.BeforeAddFriend]\nallow = "\xff', "cannot be read: "),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(
    tmp_path: Path, text: str, problem: str
) -> None:
    (found,) = problems(tmp_path, text)
    assert found.startswith(problem)


CODES = "a whole number at least 20,001 and at most 29,999"


@pytest.mark.parametrize(
    ("command", "text", "problem"),
    [
        (
            *("BeforeAddFreind", "allow = true"),
            "BeforeAddFreind is not a callback; did you mean BeforeAddFriend?",
        ),
        (
            *("callbackBeforeMsgModfyCommand", "allow = true"),
            "BeforeMsgModfy is not a callback; did you mean BeforeMsgModify?",
        ),
        (
            "AfterAddFriend",
            "allow = true",
            "AfterAddFriend only reports: there is nothing to decide",
        ),
        ("BeforeAddFriend", "alow = true", "alow is not a key; did you mean allow?"),
        ("BeforeAddFriend", "allow = false", "allow=False is not allowed: true"),
        ("BeforeAddFriend", "", "must have one of allow, refuse, change"),
        (
            *("BeforeAddFriend", 'allow = true\nrefuse = {code = 20001, message = "no"}'),
            "must have one of allow, refuse, change, ask, not allow and refuse",
        ),
        (
            *("BeforeAddFriend", 'refuse = {code = 42, message = "no"}'),
            f"refuse: code=42 is not allowed: {CODES}",
        ),
        (
            *("BeforeAddFriend", 'refuse = {code = "20001", message = "no"}'),
            f"refuse: code='20001' is not allowed: {CODES}",
        ),
        (
            *("BeforeAddFriend", "refuse = {code = 20001}"),
            "refuse: message is missing: a text of at most 1,000 characters, not empty",
        ),
        (
            *("BeforeAddFriend", 'refuse = {code = 20001, message = "no", text = "x"}'),
            "refuse: text is not a key; known are code, message, detail",
        ),
        (
            *("BeforeAddFriend", "change = {ex = 'x'}"),
            "change: OpenIM lets nothing be changed at BeforeAddFriend",
        ),
        (
            *("BeforeMsgModify", "change = {contnet = '{}'}"),
            "change: contnet is not a field; did you mean content?",
        ),
        (
            *("BeforeMsgModify", "change = {status = '1'}"),
            "change: Expected `int`, got `str` - at `$.status`",
        ),
        (
            *("BeforeMsgModify", "change = {content = 'hello'}"),
            "change: ChangeMsgModify.content is not JSON",
        ),
        ("BeforeMsgModify", "change = {}", "change: names no field"),
    ],
)
def test_a_mistake_about_a_callback_is_named_with_its_place(
    tmp_path: Path, command: str, text: str, problem: str
) -> None:
    (found,) = problems(tmp_path, f"[commands.{command}]\n{text}")
    assert found.startswith(f"[commands.{command}] {problem}")


def test_a_callback_is_named_once(tmp_path: Path) -> None:
    text = commands(BeforeMsgModify={"allow": True}, callbackMsgModifyCommand={"allow": True})
    (found,) = problems(tmp_path, text)
    assert found.startswith("[commands.callbackMsgModifyCommand] is there twice")


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = """
        [commands.BeforeAddFriend]
        refuse = {code = 1, message = ""}
        [commands.BeforeAddBlack]
        alow = true
    """
    assert len(problems(tmp_path, text)) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none.toml")
    with pytest.raises(BadSettings, match=r"none\.toml: cannot be read: No such file"):
        policy.read(path)


@pytest.mark.parametrize("workers", ["1", "3"])
async def test_a_bad_policy_stops_the_start(tmp_path: Path, workers: str) -> None:
    path = written(tmp_path, "[commands.BeforeAddFreind]\nallow = true")
    command = await ran(
        *(BRIDGE, "receive"),
        folder=tmp_path,
        BRIDGE_POLICY=path,
        BRIDGE_WORKERS=workers,
        BRIDGE_PORT="0",
    )
    assert command.process.returncode == 3
    (line,) = command.err.splitlines()
    assert line.startswith(f"bad setting: {path}: [commands.BeforeAddFreind] ")
