"""`openim-bridge decide`: what a policy makes of a callback, tried from the command line."""

import json
import subprocess
from pathlib import Path

import pytest

from bridge import openim
from tests.commands import BRIDGE
from tests.policies import commands, rules, written

REFUSAL = {"code": 20001, "message": "no"}
POLICY = commands(
    BeforeAddFriend={"ask": {"within": 1.5, "refuse": REFUSAL}},
    BeforeCreateGroup={"change": {"needVerification": 1}},
) + rules(
    {
        "name": "house rule",
        "commands": ["BeforeSendSingleMsg"],
        "where": [{"field": "content.*", "op": "contains", "value": "casino"}],
        "refuse": REFUSAL,
    }
)


def decide(
    folder: Path, *words: str, body: bytes = b"", text: str = POLICY
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(  # noqa: S603
        [*BRIDGE, "decide", *words, "--policy", written(folder, text)],
        input=body,
        capture_output=True,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def test_it_says_which_rule_decides(tmp_path: Path) -> None:
    _, body = openim.sample("BeforeSendSingleMsg")
    fields = json.loads(body) | {"content": json.dumps({"content": "visit my CASINO"})}
    done = decide(tmp_path, "BeforeSendSingleMsg", body=json.dumps(fields).encode())
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["verdict: refuse", "source: rule:house rule"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("BeforeSendSingleMsg", {"verdict": "allow", "source": "default"}),
        ("callbackBeforeCreateGroupCommand", {"verdict": "change", "source": "policy"}),
        (
            "BeforeAddFriend",
            {"verdict": "ask", "source": "policy", "within": 1.5, "otherwise": "refuse"},
        ),
    ],
)
def test_without_a_body_the_recorded_one_is_taken(
    tmp_path: Path, name: str, found: dict[str, object]
) -> None:
    done = decide(tmp_path, name, "--json")
    assert found.items() <= json.loads(done.stdout).items()


def test_the_reply_is_that_which_openim_would_get(tmp_path: Path) -> None:
    found = json.loads(decide(tmp_path, "BeforeCreateGroup", "--json").stdout)
    assert (found["reply"]["actionCode"], found["reply"]["needVerification"]) == (0, 1)


@pytest.mark.parametrize(
    ("name", "body", "code", "says"),
    [
        ("BeforeNothing", b"", 2, "no callback is called BeforeNothing"),
        ("AfterAddFriend", b"", 1, "only reports: there is nothing to decide"),
        ("BeforeAddFriend", b"[", 1, "error: "),
        ("BeforeAddFriend", b'{"callbackCommand": "x"}', 1, "name different commands"),
    ],
)
def test_what_cannot_be_decided_about_is_a_plain_sentence(
    tmp_path: Path, name: str, body: bytes, code: int, says: str
) -> None:
    done = decide(tmp_path, name, body=body)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_policy_with_mistakes_is_no_use(tmp_path: Path) -> None:
    done = decide(
        tmp_path, "BeforeAddFriend", text="[commands.BeforeAddFriend]\nask = {within = 99}"
    )
    assert done.returncode == 3
    assert "within=99 is not allowed: a number above 0 and at most 14" in done.stderr
