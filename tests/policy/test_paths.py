"""Where rules look."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import (
    BeforeCreateGroup,
    BeforeInviteJoinGroup,
    BeforeMembersJoinGroup,
    BeforeSendSingleMsg,
    BeforeUserRegister,
    Event,
)
from bridge.policy.checking import Mistake
from bridge.policy.paths import kind_of, reader

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | inner.map(json.dumps),
)


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("a", "x", ["x"]),
        ("a", 0, [0]),
        ("a", False, [False]),
        ("a", None, []),
        ("a", {"b": 1}, []),
        ("a", ["x", None, "y"], ["x", "y"]),
        ("a.b", [{"b": 1}, None, {"c": 2}, {"b": 3}], [1, 3]),
        ("a.b", '{"b":"x"}', ["x"]),
        ("a.b", '{"b":{"c":1}}', []),
        ("a.b.c", '{"b":{"c":1}}', [1]),
        ("a.b.c", '{"b":[{"c":1},{"c":2}]}', [1, 2]),
        ("a.b", "no JSON", []),
        ("a.b", '{"b":', []),
        ("a.b", '"b"', []),
        ("a.b", 7, []),
        ("a.*", "no JSON", ["no JSON"]),
        ("a.*", '{"b":', ['{"b":']),
        ("a.*", '"x"', ['"x"']),
        ("a.*", "7", ["7"]),
        ("a.*", '{"b":"x","c":[{"d":"y"},7,null]}', ["x", "y"]),
        ("a.*", '{"b":"{\\"c\\":\\"x\\"}"}', ["x"]),
        ("a.*", "\\u0063", ["\\u0063"]),
        ("a.*", '{"b":"\\u0063"}', ["c"]),
        ("a.*", None, []),
        ("a.*", 7, []),
    ],
)
def test_a_path_leads_to_what_stands_there(path: str, value: object, found: list[str]) -> None:
    read = reader(path)({"a": value})
    assert sorted(map(str, read)) == sorted(map(str, found))


@pytest.mark.parametrize("path", ["a", "a.b", "a.*"])
def test_where_nothing_is_there_nothing_is_found(path: str) -> None:
    assert list(reader(path)({})) == []


def test_nesting_has_no_depth_that_fails() -> None:
    deep = "[" * 900 + '"x"' + "]" * 900
    assert list(reader("a.*")({"a": deep})) == ["x"]
    assert list(reader("a.*")({"a": "[" * 100_000})) == ["[" * 100_000]


@given(ANYTHING, st.sampled_from(["a", "a.b", "a.b.c", "a.*"]))
def test_any_body_can_be_looked_into(value: object, path: str) -> None:
    assert all(isinstance(each, str | int | float) for each in reader(path)({"a": value}))


@pytest.mark.parametrize(
    ("event", "path", "kind"),
    [
        (BeforeSendSingleMsg, "sendID", str),
        (BeforeSendSingleMsg, "contentType", int),
        (BeforeSendSingleMsg, "atUserList", str),
        (BeforeSendSingleMsg, "content.*", str),
        (BeforeSendSingleMsg, "content.text", object),
        (BeforeSendSingleMsg, "content.a.b", object),
        (BeforeUserRegister, "users.userID", str),
        (BeforeUserRegister, "users.ex.*", str),
        (BeforeCreateGroup, "initMemberList.roleLevel", int),
        (BeforeCreateGroup, "groupName", str),
        (BeforeMembersJoinGroup, "memberList.ex", str),
        (BeforeInviteJoinGroup, "invitedUserIDs", str),
    ],
)
def test_a_path_has_the_type_of_what_stands_there(
    event: type[Event], path: str, kind: type
) -> None:
    assert kind_of(event, path) is kind


@pytest.mark.parametrize(
    ("event", "path", "why"),
    [
        (
            BeforeSendSingleMsg,
            "sendId",
            "sendId is not a field; did you mean sendID?",
        ),
        (BeforeSendSingleMsg, "contentType.x", "BeforeSendSingleMsg.contentType is no text"),
        (BeforeSendSingleMsg, "contentType.*", "BeforeSendSingleMsg.contentType is no text"),
        (BeforeUserRegister, "users", "users holds several values; name one, such as users.u"),
        (BeforeUserRegister, "users.id", "in BeforeUserRegister.users, id is not a field"),
        (BeforeUserRegister, "users.*", "in BeforeUserRegister.users, * is not a field"),
        (BeforeSendSingleMsg, "content.*.x", "nothing is inside of *, "),
        (BeforeSendSingleMsg, "content.", "has a blank name in it"),
        (BeforeSendSingleMsg, "", "has a blank name in it"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(event: type[Event], path: str, why: str) -> None:
    with pytest.raises(Mistake) as caught:
        kind_of(event, path)
    assert why in str(caught.value)
