"""`openim-bridge webhooks-yml`: OpenIM's own file, what may be wrong in it, and edits of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.contract import EVENTS, Before
from bridge.webhooks_yml import UNUSED, Finding, Wanted, check, read
from tests.commands import BRIDGE, Command, ran

OWN = "url: http://127.0.0.1:10006/callbackExample\n" + "".join(
    f"{key}:\n  enable: false\n  timeout: 5\n{more}"
    for key, more in (
        (UNUSED, ""),
        *(
            (event.config_key, "  failedContinue: true\n" * issubclass(event, Before))
            for event in EVENTS
        ),
    )
)
"""The file as OpenIM brings it: its keys, and nothing enabled."""

WANTED = Wanted(path="/callbackExample", patience=3.0)
AGREE = "afterAddFriendAgree:\n  enable: false"


def edited(*edits: tuple[str, str]) -> str:
    """Give OpenIM's own file with friend agreements enabled, and further edits."""
    text = OWN.replace(AGREE, AGREE.replace("false", "true"))
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return text


def findings(text: str) -> list[Finding]:
    return check(read(text), WANTED)


def test_openims_own_file_enables_nothing() -> None:
    assert [(each.key, each.line) for each in findings(OWN)] == [("url", 1)]


def test_a_file_with_something_enabled_is_well() -> None:
    assert findings(edited()) == []


AGREE_AT = edited().splitlines().index("afterAddFriendAgree:") + 1


@pytest.mark.parametrize(
    ("edit", "key", "says"),
    [
        (("url: http://127.0.0.1:10006/callbackExample", ""), "url", "is missing"),
        (("127.0.0.1:10006/callbackExample", ""), "url", "must be like"),
        (("http://127", "ftp://127"), "url", "must be like"),
        (("callbackExample", "callbackExample?token=a"), "url", "must end with the path"),
        (("callbackExample", "elsewhere"), "url", "another path"),
        (("timeout: 5", "timeout: 2"), "afterAddFriendAgree.timeout", "gives up before"),
        (("timeout: 5", "timeout: soon"), "afterAddFriendAgree.timeout", "whole number"),
        (("timeout: 5", "timeout: true"), "afterAddFriendAgree.timeout", "whole number"),
        (("enable: true", 'enable: "true"'), "afterAddFriendAgree.enable", "true or false"),
        (("afterQuitGroup", "afterQuitGruop"), "afterQuitGruop", "did you mean afterQuitGroup"),
        (("afterQuitGroup", "AFTERQuitGroup"), "AFTERQuitGroup", "be written afterQuitGroup"),
        (
            (
                f"{AGREE.replace('false', 'true')}\n  timeout: 5\n",
                "afterAddFriendAgree: true\n",
            ),
            "afterAddFriendAgree",
            "must have enable",
        ),
        (
            (
                "afterSendGroupMsg:\n  enable: false",
                "afterSendGroupMsg:\n  attentionIds: [u]\n  enable: true",
            ),
            "afterSendGroupMsg.attentionIds",
            "nothing is sent",
        ),
    ],
)
def test_what_loses_callbacks_is_a_problem(edit: tuple[str, str], key: str, says: str) -> None:
    found = {each.key: each for each in findings(edited(edit))}
    assert says in found[key].text
    assert found[key].is_problem


def test_all_that_is_said_of_keys_in_another_case_is_how_to_write_them() -> None:
    enabled = AGREE.replace("false", "true")
    text = edited(("url:", "URL:"), (enabled, enabled.replace("enable", "Enable")))
    found = {each.key: each.text for each in findings(text)}
    assert found.keys() == {"URL", "afterAddFriendAgree.Enable"}
    assert "must be written url:" in found["URL"]
    assert "must be written enable:" in found["afterAddFriendAgree.Enable"]


@pytest.mark.parametrize("timeout", ["5s", "-1", "5.5", "'5'"])
def test_openim_reads_what_is_not_enabled_too(timeout: str) -> None:
    disabled = "afterQuitGroup:\n  enable: false\n  timeout: "
    (found,) = findings(edited((f"{disabled}5", f"{disabled}{timeout}")))
    assert (found.key, found.is_problem) == ("afterQuitGroup.timeout", True)


@pytest.mark.parametrize(
    ("edit", "key", "says"),
    [
        (("http://", "https://"), "url", "certificates"),
        (("timeout: 5", "timeout: 60"), "afterAddFriendAgree.timeout", "15 s"),
        (("timeout: 5", "timeout: 0"), "afterAddFriendAgree.timeout", "15 s"),
        (
            (f"{UNUSED}:\n  enable: false", f"{UNUSED}:\n  enable: true"),
            UNUSED,
            "afterRevokeMsg",
        ),
        (
            ("beforeAddFriend:\n  enable: false", "beforeAddFriend:\n  enable: true"),
            "beforeAddFriend.failedContinue",
            "no effect",
        ),
        (
            ("afterUserKickOff:\n  enable: false", "afterUserKickOff:\n  enable: true"),
            "afterUserKickOff",
            "never calls it",
        ),
    ],
)
def test_what_has_no_effect_is_a_note(edit: tuple[str, str], key: str, says: str) -> None:
    (found,) = findings(edited(edit))
    assert (found.key, found.is_problem) == (key, False)
    assert says in found.text


SECRET = "s" * 40
URL_LINE = "http://127.0.0.1:10006/callbackExample"


@pytest.mark.parametrize(
    "url",
    [
        f"http://openim:{SECRET}@127.0.0.1:10006/callbackExample",
        f"http://127.0.0.1:10006/callbackExample/{SECRET}/",
    ],
)
def test_a_url_with_a_secret_is_well(url: str) -> None:
    wanted = replace(WANTED, secrets=("o" * 40, SECRET))
    assert check(read(edited((URL_LINE, url))), wanted) == []


@pytest.mark.parametrize(
    "url",
    [
        URL_LINE,
        f"http://bridge:{SECRET}@127.0.0.1:10006/callbackExample",
        f"http://openim:{SECRET}x@127.0.0.1:10006/callbackExample",
        f"{URL_LINE}/{SECRET}x",
    ],
)
def test_a_url_without_a_secret_is_a_problem_that_names_none(url: str) -> None:
    wanted = replace(WANTED, secrets=("o" * 40, SECRET))
    (found,) = check(read(edited((URL_LINE, url))), wanted)
    assert (found.key, found.is_problem) == ("url", True)
    assert SECRET not in found.text


def test_a_finding_names_its_line() -> None:
    (found,) = findings(edited(("timeout: 5", "timeout: 60")))
    assert found.line == AGREE_AT + 2


async def checked(folder: Path, text: str, *words: str, **settings: str) -> Command:
    (folder / "webhooks.yml").write_text(text)
    return await ran(
        BRIDGE, "webhooks-yml", "check", "webhooks.yml", *words, folder=folder, **settings
    )


async def test_check_says_each_finding_with_its_place(tmp_path: Path) -> None:
    command = await checked(tmp_path, edited(("timeout: 5", "timeout: 1")))
    assert command.process.returncode == 1
    assert command.out.startswith(
        f"webhooks.yml:{AGREE_AT + 2}: error: afterAddFriendAgree.timeout: "
    )
    assert "enabled: 1 after, 0 before" in command.out


async def test_check_goes_by_the_receivers_settings_and_tells_no_path(tmp_path: Path) -> None:
    command = await checked(tmp_path, edited(), BRIDGE_PATH="/hunter2")
    assert command.process.returncode == 1
    assert "BRIDGE_PATH" in command.out
    assert "hunter2" not in command.out + command.err
    assert "callbackExample" not in command.out + command.err


async def test_check_speaks_json(tmp_path: Path) -> None:
    command = await checked(tmp_path, edited(("timeout: 5", "timeout: 60")), "--json")
    (found,) = map(json.loads, command.out.splitlines())
    assert (command.process.returncode, found["key"]) == (0, "afterAddFriendAgree.timeout")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("url: [", "webhooks.yml: line 1: "),
        ("- url", "webhooks.yml: line 1: the file must be a map"),
        ("a: 1\na: 2\n", "webhooks.yml: line 2: "),
        ("url: \x00", "webhooks.yml: "),
        ("[" * 3000, "webhooks.yml: it is nested too deep"),
    ],
)
async def test_what_is_no_webhooks_yml_is_a_plain_sentence(
    tmp_path: Path, text: str, says: str
) -> None:
    command = await checked(tmp_path, text)
    assert (command.process.returncode, command.out) == (1, "")
    assert command.err.startswith(f"error: {says}")
    assert "Traceback" not in command.err


async def write(folder: Path, *words: str, **settings: str) -> Command:
    return await ran(
        BRIDGE, "webhooks-yml", "write", "webhooks.yml", *words, folder=folder, **settings
    )


def enabled(folder: Path) -> Mapping[str, bool]:
    file = read((folder / "webhooks.yml").read_text())
    return {key: block["enable"] for key, block in file.items() if key != "url"}


async def test_write_makes_a_file_that_openim_can_use(tmp_path: Path) -> None:
    command = await write(tmp_path, "--enable", "friend.after.*,AfterSendSingleMsg")
    assert command.process.returncode == 0
    on = {key for key, enable in enabled(tmp_path).items() if enable}
    assert {"afterAddFriendAgree", "afterSendSingleMsg"} < on
    assert not any(key.startswith("before") for key in on)
    assert set(enabled(tmp_path)) == {event.config_key for event in EVENTS}
    assert findings((tmp_path / "webhooks.yml").read_text()) == []


async def test_write_changes_only_what_it_is_asked_for(tmp_path: Path) -> None:
    text = "# ours\n" + edited().replace("url: http", "url: 'http").replace(
        "callbackExample\n", "callbackExample' # the bridge\n"
    )
    (tmp_path / "webhooks.yml").write_text(text)
    command = await write(
        tmp_path, "--enable", "beforeAddFriend", "--disable", "friend.after.*", "--yes"
    )
    assert command.out.splitlines()[:-1] == [
        "beforeAddFriend: enabled",
        "afterAddFriendAgree: disabled",
    ]
    now = (tmp_path / "webhooks.yml").read_text().splitlines()
    changed = [pair for pair in zip(text.splitlines(), now, strict=True) if pair[0] != pair[1]]
    assert changed == [
        ("  enable: false", "  enable: true"),
        ("  enable: true", "  enable: false"),
    ]


async def test_write_leaves_a_url_that_fits(tmp_path: Path) -> None:
    text = edited(("127.0.0.1:10006", "bridge.internal:80"))
    (tmp_path / "webhooks.yml").write_text(text)
    command = await write(tmp_path)
    assert command.out.splitlines()[:-1] == []
    assert (tmp_path / "webhooks.yml").read_text() == text


async def test_write_puts_a_secret_into_a_url_and_leaves_its_host(tmp_path: Path) -> None:
    text = edited(("http://127.0.0.1:10006", "https://bridge.internal"))
    (tmp_path / "webhooks.yml").write_text(text)
    secret = 43 * "s"
    command = await write(tmp_path, "--yes", BRIDGE_SECRETS=f"a:{secret}")
    url = f"https://openim:{secret}@bridge.internal/callbackExample"
    assert command.process.returncode == 0
    assert read((tmp_path / "webhooks.yml").read_text())["url"] == url
    assert secret not in command.out + command.err
    asked = await write(tmp_path, BRIDGE_SECRETS=f"b:{43 * 't'}")
    assert "Have OpenIM call bridge.internal:443, and" in asked.err


async def test_write_takes_no_url_that_loses_callbacks(tmp_path: Path) -> None:
    command = await write(tmp_path, "--url", "http://bridge/callbackExample?token=hunter2")
    assert command.process.returncode == 2
    assert "must end with the path" in command.err
    assert not (tmp_path / "webhooks.yml").exists()


async def test_write_does_not_tell_the_path(tmp_path: Path) -> None:
    command = await write(tmp_path, BRIDGE_PATH="/hunter2")
    assert command.out.splitlines()[0] == "url: set"
    assert "hunter2" not in command.out + command.err
    assert "/hunter2" in (tmp_path / "webhooks.yml").read_text()


@pytest.mark.parametrize("unclear", ['enable: "true"', "enable: yes", "enable: 1"])
async def test_write_decides_for_nobody_what_was_meant(tmp_path: Path, unclear: str) -> None:
    join = "afterJoinGroup:\n  "
    text = edited((f"{join}enable: false", f"{join}{unclear}"))
    (tmp_path / "webhooks.yml").write_text(text)
    refused = await write(tmp_path, "--enable", "afterAddFriend")
    assert refused.process.returncode == 1
    assert "enable must be true or false under afterJoinGroup: " in refused.err
    assert (tmp_path / "webhooks.yml").read_text() == text
    said = await write(tmp_path, "--enable", "afterAddFriend,afterJoinGroup")
    assert said.process.returncode == 0
    assert enabled(tmp_path)["afterJoinGroup"]


async def test_write_puts_no_key_beside_one_in_another_case(tmp_path: Path) -> None:
    text = edited(("afterAddFriend:", "AfterAddFriend:"))
    (tmp_path / "webhooks.yml").write_text(text)
    refused = await write(tmp_path, "--enable", "friend.*", "--yes")
    assert refused.process.returncode == 1
    assert "write afterAddFriend for AfterAddFriend, or" in refused.err
    assert (tmp_path / "webhooks.yml").read_text() == text


async def test_write_enables_no_alias_along_with_its_anchor(tmp_path: Path) -> None:
    block = "  enable: false\n  timeout: 3\n"
    (tmp_path / "webhooks.yml").write_text(
        f"usual: &usual\n{block}afterUserOnline: &off\n{block}"
        "afterUserOffline: *off\nafterAddFriend: *usual\nafterJoinGroup:\n  <<: *usual\n"
    )
    await write(tmp_path, "--enable", "afterUserOnline,afterAddFriend,afterJoinGroup", "--yes")
    on = {key for key, enable in enabled(tmp_path).items() if enable}
    assert {"afterUserOnline", "afterAddFriend", "afterJoinGroup"} == on - {"usual"}
    timeouts = read((tmp_path / "webhooks.yml").read_text())
    assert {timeouts[key]["timeout"] for key in (*on, "afterUserOffline")} == {3}


async def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    command = await write(tmp_path, "--enable", "friend.#", "--dry-run")
    assert "afterAddFriend: enabled" in command.out
    assert not (tmp_path / "webhooks.yml").exists()
