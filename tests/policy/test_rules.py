"""Rules: when they apply, and what is said about mistakes in them."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.contract import (
    Allow,
    BeforeAddFriendAgree,
    BeforeCreateGroup,
    BeforeInviteJoinGroup,
    BeforeSendGroupMsg,
    BeforeSendSingleMsg,
    ChangeCreateGroup,
    Event,
    Refuse,
    fields_of,
)
from bridge.policy import Policy
from bridge.policy.tables import MOST_ENTRIES
from tests.contract.recorded import sample
from tests.policies import decide, policy_of, problems, rules

SINGLE, GROUP = "BeforeSendSingleMsg", "BeforeSendGroupMsg"
NO = {"code": 20001, "message": "no"}
REFUSED, ALLOWED = "rule:r", "default"
ALWAYS = [{"field": "sendID", "op": "is_not", "value": "nobody"}]


def rule(**keys: Any) -> dict[str, Any]:  # noqa: ANN401  # any key
    """Give a rule that refuses messages to one user, unless it says something else."""
    values = {"name": "r", "commands": [SINGLE], "refuse": NO} | keys
    return {name: value for name, value in values.items() if value is not None}


def where(field: str, op: str, value: object) -> dict[str, Any]:
    """Give a rule with one condition."""
    return rule(where=[{"field": field, "op": op, "value": value}])


def origin(
    policy: Policy,
    event: type[Event] = BeforeSendSingleMsg,
    /,
    **fields: object,
) -> str:
    """Say what decides about a recorded callback with some fields replaced."""
    body = fields_of(sample(event.command)) | fields
    return decide(policy, event, body).decision.origin


@pytest.mark.parametrize(
    ("condition", "matching", "others"),
    [
        (("sendID", "is", "user_x"), ["user_x"], ["user_y", "User_X", "user_xx", "", None, 7]),
        (("sendID", "is", ["user_x", "user_y"]), ["user_x", "user_y"], ["user_z"]),
        (("contentType", "is", 101), [101], [102, "101", None]),
        (("contentType", "is_not", [101, 106]), [102, None, "101"], [101, 106]),
        (("sendID", "contains", "bot_"), ["bot_1", "a_BOT_"], ["robot", None, 7]),
        (("senderNickname", "has_word", ["admin"]), ["The Admin!"], ["administrator", ""]),
        (
            ("content.*", "contains", ["casino"]),
            ['{"a":{"b":"CASINO"}}'],
            ['{"casino":1}', "{}"],
        ),
        (("content.text", "is", "x"), ['{"text":"x"}'], ['{"text":"y"}', '"x"', "x"]),
        (
            ("content.size", "above", 10),
            ['{"size":11}', '{"size":10.5}'],
            ['{"size":"11"}', "{}"],
        ),
        (("content.on", "is", True), ['{"on":true}'], ['{"on":false}', '{"on":"true"}']),
        (("contentType", "above", 1000), [1001], [1000, True, "1001", None]),
        (("contentType", "below", 1000.5), [1000], [1001, None]),
        (("senderNickname", "longer", 3), ["abcd"], ["abc", "", None]),
        (("atUserList", "more", 1), [["a", "b"]], [["a"], [], None]),
        (("atUserList", "is", "all"), [["a", "all"]], [["a"], [], None]),
    ],
)
def test_a_rule_applies_where_its_condition_holds(
    tmp_path: Path,
    condition: tuple[str, str, object],
    matching: list[object],
    others: list[object],
) -> None:
    policy = policy_of(tmp_path, rules(where(*condition)))
    name = condition[0].partition(".")[0]
    assert {origin(policy, **{name: each}) for each in matching} == {REFUSED}
    assert {origin(policy, **{name: each}) for each in others} == {ALLOWED}


def test_all_conditions_must_hold(tmp_path: Path) -> None:
    conditions = [
        {"field": "sendID", "op": "is", "value": "user_x"},
        {"field": "contentType", "op": "is", "value": 101},
    ]
    policy = policy_of(tmp_path, rules(rule(where=conditions)))
    assert origin(policy, sendID="user_x", contentType=101) == REFUSED
    assert origin(policy, sendID="user_x", contentType=102) == ALLOWED
    assert origin(policy, sendID="user_y", contentType=101) == ALLOWED


def test_the_first_rule_that_applies_decides(tmp_path: Path) -> None:
    exempt = [{"field": "sendID", "op": "is", "value": "user_x"}]
    text = rules(
        rule(name="staff", where=exempt, allow=True, refuse=None),
        where("content.*", "contains", "casino"),
    )
    policy = policy_of(
        tmp_path, f'{text}[commands.{SINGLE}]\nrefuse = {{code=20009,message="n"}}'
    )
    assert origin(policy, sendID="user_x", content="casino") == "rule:staff"
    assert origin(policy, content="casino") == REFUSED
    assert origin(policy) == "policy"


def test_a_rule_is_about_its_callbacks_only(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, rules(where("sendID", "is_not", "nobody")))
    assert origin(policy, BeforeSendGroupMsg) == ALLOWED


def test_a_rule_may_change(tmp_path: Path) -> None:
    large = [{"field": "initMemberList.userID", "op": "more", "value": 2}]
    change = {"needVerification": 1}
    text = rules(rule(commands=["BeforeCreateGroup"], where=large, change=change, refuse=None))
    decided = decide(
        policy_of(tmp_path, text),
        BeforeCreateGroup,
        fields_of(sample(BeforeCreateGroup.command)),
    )
    assert decided.decision.reply == ChangeCreateGroup(need_verification=1)
    assert orjson.loads(decided.body)["needVerification"] == 1


def test_a_field_may_come_under_another_spelling(tmp_path: Path) -> None:
    accepts = [{"field": "blackUserID", "op": "is", "value": "user_x"}]
    text = rules(rule(commands=["BeforeAddFriendAgree"], where=accepts))
    policy = policy_of(tmp_path, text)
    decided = decide(policy, BeforeAddFriendAgree, {"fromUserID": "a", "toUserID": "user_x"})
    assert decided.decision.reply == Refuse(20001, "no")


def test_a_rule_may_compare_with_a_list(tmp_path: Path) -> None:
    (tmp_path / "banned.txt").write_text(
        "\ufeffuser_x\n\n# once\n  user_y \r\n", encoding="utf-8"
    )
    text = """
        [lists.banned]
        file = "banned.txt"
        [lists.unwelcome]
        entries = ["casino"]
    """
    by_id = rule(name="r", where=[{"field": "sendID", "op": "is", "list": "banned"}])
    by_word = rule(
        name="w", where=[{"field": "content.*", "op": "contains", "list": "unwelcome"}]
    )
    policy = policy_of(tmp_path, rules(by_id, by_word) + text)
    assert [origin(policy, sendID=f"user_{each}") for each in "xyz"] == [
        REFUSED,
        REFUSED,
        ALLOWED,
    ]
    assert origin(policy, content='{"content":"my casino"}') == "rule:w"


def test_a_limit_counts_each_user_over_all_callbacks_of_its_rule(tmp_path: Path) -> None:
    limit = {"per": "sendID", "most": 2, "seconds": 3600}
    policy = policy_of(tmp_path, rules(rule(commands=[SINGLE, GROUP], limit=limit)))
    assert origin(policy) == ALLOWED
    assert origin(policy, BeforeSendGroupMsg) == ALLOWED
    assert origin(policy) == origin(policy, BeforeSendGroupMsg) == REFUSED
    assert origin(policy, sendID="user_other") == ALLOWED


def test_a_limit_counts_only_where_the_conditions_hold(tmp_path: Path) -> None:
    limit = {"per": "sendID", "most": 1, "seconds": 3600}
    pictures = [{"field": "contentType", "op": "is", "value": 102}]
    policy = policy_of(tmp_path, rules(rule(where=pictures, limit=limit)))
    assert {origin(policy, contentType=101) for _ in range(5)} == {ALLOWED}
    assert [origin(policy, contentType=102) for _ in range(2)] == [ALLOWED, REFUSED]


def test_who_cannot_be_told_is_not_limited(tmp_path: Path) -> None:
    limit = {"per": "sendID", "most": 1, "seconds": 3600}
    policy = policy_of(tmp_path, rules(rule(limit=limit)))
    assert {origin(policy, sendID=None) for _ in range(3)} == {ALLOWED}


def test_a_limit_of_invitations_is_by_group(tmp_path: Path) -> None:
    limit = {"per": "groupID", "most": 1, "seconds": 3600}
    policy = policy_of(tmp_path, rules(rule(commands=["BeforeInviteJoinGroup"], limit=limit)))
    assert [origin(policy, BeforeInviteJoinGroup) for _ in range(2)] == [ALLOWED, REFUSED]


def condition(**keys: object) -> str:
    """Give a policy whose one rule has this condition."""
    return rules(rule(where=[keys]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("rules = 1", "rules=1 is not allowed: at most 200 tables [[rules]]"),
        ("[[rules]]", "[[rules]] 1: name is missing: at most 60 letters, digits, spaces"),
        (
            rules(rule(name="a:b", limit=None)),
            "[[rules]] a:b: name='a:b' is not allowed: at",
        ),
        (
            rules(rule(commands=[])),
            "[[rules]] r: commands=[] is not allowed: callbacks such",
        ),
        (
            rules(rule(commands=["BeforeSendSinglMsg"], where=ALWAYS)),
            "[[rules]] r: BeforeSendSinglMsg is not a callback; did you mean BeforeSendS",
        ),
        (
            rules(rule(commands=["AfterSendSingleMsg"], where=ALWAYS)),
            "[[rules]] r: AfterSendSingleMsg only reports: there is nothing to decide",
        ),
        (rules(rule(where=[])), "[[rules]] r: where=[] is not allowed: 1 to 20 conditions su"),
        (rules(rule()), "[[rules]] r: has neither where nor limit, so it would always apply"),
        (rules(rule(were=[])), "[[rules]] r: were is not a key; did you mean where?"),
        (
            rules(rule(refuse=None, limit={"per": "sendID", "most": 1, "seconds": 1})),
            "[[rules]] r: must have one of allow, refuse, change",
        ),
        (
            condition(field="sendId", op="is", value="x"),
            "[[rules]] r: where 1: in BeforeSendSingleMsg, sendId is not a field; did you",
        ),
        (
            condition(field="sendID", op="equals", value="x"),
            "[[rules]] r: where 1: op='equals' is not allowed: one of is, is_not, contains,",
        ),
        (
            condition(field="sendID", op="above", value=7),
            "[[rules]] r: where 1: sendID is text, not a number",
        ),
        (
            condition(field="contentType", op="contains", value="x"),
            "[[rules]] r: where 1: contentType is a number, not text",
        ),
        (
            condition(field="sendID", op="contains", value=7),
            "[[rules]] r: where 1: contains compares with text, not 7",
        ),
        (
            condition(field="contentType", op="above", value="7"),
            "[[rules]] r: where 1: above compares with a number, not '7'",
        ),
        (
            condition(field="contentType", op="is", value="101"),
            "[[rules]] r: where 1: contentType is a number, and never '101'",
        ),
        (
            condition(field="contentType", op="above", value=[7, 8]),
            "[[rules]] r: where 1: above compares with one value",
        ),
        (
            condition(field="contentType", op="is"),
            "[[rules]] r: where 1: value or list is missing: what to compare with",
        ),
        (
            '[lists.staff]\nentries = ["7"]\n' + condition(field="seq", op="is", list="staff"),
            "[[rules]] r: where 1: seq is a number, and never '7'",
        ),
        (
            "[lists.a]\nentries = []\n"
            + condition(field="sendID", op="is", list="a", value="x"),
            "[[rules]] r: where 1: value and list are both there; keep one of them",
        ),
        (
            condition(field="sendID", op="is", list="staff"),
            "[[rules]] r: where 1: staff is not a list; there is none",
        ),
        (
            '[lists.staff]\nentries = ["7"]\n'
            + condition(field="seq", op="above", list="staff"),
            "[[rules]] r: where 1: above compares with a number, not with a list",
        ),
        (
            rules(rule(limit={"per": "sendID", "most": 0, "seconds": 1})),
            "[[rules]] r: limit: most=0 is not allowed: a whole number at least 1 and at most",
        ),
        (
            rules(rule(limit={"per": "contentType", "most": 1, "seconds": 1})),
            "[[rules]] r: limit: per: contentType is a number, not text",
        ),
        (
            rules(rule(limit={"per": "sendID", "most": 1})),
            "[[rules]] r: limit: seconds is missing: a number above 0 and at most 86,400",
        ),
        (
            rules(where("sendID", "is", "x"), where("sendID", "is", "y")),
            "[[rules]] r: there is another rule of this name",
        ),
        ("[lists.a]", "[lists.a] must have either entries or file"),
        (
            "[lists.a]\nentries = [1]",
            "[lists.a] entries=[1] is not allowed: at most 100,000 text",
        ),
        (
            "[lists.a]\nfile = 'no'",
            "[lists.a] file='no' cannot be read: No such file or",
        ),
        (
            "[lists.a]\nfile = 'long.txt'",
            "[lists.a] file has 100,001 entries, more than 100,000",
        ),
        ("[lists.a]\nfile = 'latin.txt'", "[lists.a] file='latin.txt' cannot be read: 'utf"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "long.txt").write_text("x\n" * (MOST_ENTRIES + 1), encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    assert problems(tmp_path, text)[0].startswith(problem)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    text = rules(
        where("sendId", "is", "x"),
        rule(name="s", where=[{"field": "x", "op": "y"}], limit={"per": "sendId"}),
    )
    assert len(problems(tmp_path, text)) >= 4


def test_an_empty_list_matches_nothing(tmp_path: Path) -> None:
    text = "[lists.none]\nentries = []\n"
    text += rules(rule(where=[{"field": "sendID", "op": "is", "list": "none"}]))
    assert decide(policy_of(tmp_path, text), BeforeSendSingleMsg, {}).decision.reply == Allow()
