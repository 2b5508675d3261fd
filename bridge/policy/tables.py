"""What may stand in a policy file: its tables, and what each key means.

Bounds and sentences are in the types, as those of settings are. A key that has a default may be
left out.
"""

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from bridge.policy.operators import OPERATORS

Table: TypeAlias = dict[str, Any]
Scalar: TypeAlias = str | int | float | bool

MOST_ENTRIES = 100_000
"""Entries of a list: building it takes a tenth of a second, in which nobody is answered."""


def _is_true(value: object) -> bool:
    return value is True


class Verdict(Struct, kw_only=True):
    """What is answered, or that decision handlers are asked: one of these."""

    allow: Annotated[
        bool,
        Meta(title="true", description="OpenIM goes on.", extra={"check": _is_true}),
    ] = False
    refuse: Annotated[
        Table,
        Meta(
            title='a table such as {code = 20001, message = "…"}',
            description="OpenIM stops, and gives its caller `code`, `message` and `detail`.",
        ),
    ] = {}
    change: Annotated[
        Table,
        Meta(
            title="a table such as {needVerification = 1}",
            description="OpenIM goes on with these fields instead of those it asked about.",
        ),
    ] = {}
    ask: Annotated[
        Table,
        Meta(
            title="a table such as {within = 2.0}, or {}",
            description="A decision handler is asked, and OpenIM waits for it.",
        ),
    ] = {}


class Ask(Struct, kw_only=True):
    """How decision handlers are asked."""

    within: Annotated[
        float,
        Meta(
            gt=0,
            le=14,
            description="Seconds until OpenIM is answered in any case. Less than the `timeout`"
            " of the callback in its `webhooks.yml`.",
        ),
    ] = 2.0
    refuse: Annotated[
        Table,
        Meta(
            title='a table such as {code = 20001, message = "…"}',
            description="What is answered when nobody has decided in time. Without it, OpenIM"
            " goes on.",
        ),
    ] = {}


class Refusal(Struct, kw_only=True):
    """What a caller of OpenIM is told."""

    code: Annotated[
        int, Meta(ge=20001, le=29999, description="The error's number, for the App.")
    ]
    message: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=1000,
            title="a text of at most 1,000 characters, not empty",
            description="For the user.",
        ),
    ]
    detail: Annotated[
        str,
        Meta(
            max_length=1000,
            title="a text of at most 1,000 characters",
            description="For whoever debugs the App.",
        ),
    ] = ""


class Rule(Verdict, kw_only=True):
    """A verdict for some callbacks only."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,59}\Z",
            title="at most 60 letters, digits, spaces and `-_.`",
            description="What tells it from others, for subscribers and `decide`.",
        ),
    ]
    commands: Annotated[
        list[str],
        Meta(
            min_length=1,
            title='callbacks such as ["BeforeSendSingleMsg", "BeforeSendGroupMsg"]',
            description="Which callbacks it is about.",
        ),
    ]
    where: Annotated[
        list[Table],
        Meta(
            min_length=1,
            max_length=20,
            title='1 to 20 conditions such as {field = "contentType", op = "is", value = 101}',
            description="It applies where all of these hold.",
        ),
    ] = []
    limit: Annotated[
        Table,
        Meta(
            title='a table such as {per = "sendID", most = 20, seconds = 60}',
            description="It applies to whoever does this more often.",
        ),
    ] = {}


class Condition(Struct, kw_only=True):
    """Something that a callback says, or does not."""

    field: Annotated[
        str,
        Meta(
            min_length=1,
            title="a field such as sendID, users.userID or content.*",
            description="Where to look. Of a list, one entry is enough.",
        ),
    ]
    op: Annotated[
        str,
        Meta(
            title="one of " + ", ".join(OPERATORS),
            description="How to compare.",
            extra={"check": OPERATORS.__contains__},
        ),
    ]
    value: Annotated[
        Scalar | list[Scalar],
        Meta(
            title="a text, a number, true, false, or several of them in brackets",
            description="What to compare with; of several, one is enough.",
        ),
    ] = ""
    list: Annotated[
        str,
        Meta(title="the name of a list", description="A list to compare with instead."),
    ] = ""


class Limit(Struct, frozen=True, kw_only=True):
    """How often somebody may do something."""

    per: Annotated[
        str,
        Meta(
            min_length=1,
            title="a field such as sendID",
            description="Whose doings are counted together.",
        ),
    ]
    most: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="How often at once. One comes back every `seconds` / `most`.",
        ),
    ]
    seconds: Annotated[float, Meta(gt=0, le=86_400, description="Until all have come back.")]


class Entries(Struct, kw_only=True):
    """Texts or ids that rules share: one of these."""

    entries: Annotated[
        list[str],
        Meta(
            max_length=MOST_ENTRIES,
            title=f"at most {MOST_ENTRIES:,} texts",
            description="The list itself.",
        ),
    ] = []
    file: Annotated[
        str,
        Meta(
            min_length=1,
            title=f"a file in UTF-8 with at most {MOST_ENTRIES:,} lines",
            description="A file with one entry a line, beside the policy's. Blank lines and"
            " those that begin with # do not count.",
        ),
    ] = ""


class File(Struct, kw_only=True):
    """A policy file."""

    commands: Annotated[
        Table,
        Meta(
            title="tables such as [commands.BeforeAddFriend]",
            description="What a callback is answered if no rule applies. Those that are not"
            " here are allowed.",
        ),
    ] = {}
    rules: Annotated[
        list[Table],
        Meta(
            max_length=200,
            title="at most 200 tables [[rules]]",
            description="Looked at in their order; the first that applies decides.",
        ),
    ] = []
    lists: Annotated[
        Table,
        Meta(
            max_length=100,
            title="at most 100 tables such as [lists.moderators]",
            description="What rules compare with.",
        ),
    ] = {}
