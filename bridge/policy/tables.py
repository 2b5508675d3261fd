"""What may stand in a policy file: its tables, and what each key means.

Bounds and sentences are in the types, as those of settings are.
"""

from typing import Annotated, Any, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Table: TypeAlias = dict[str, Any]


def _is_true(value: object) -> bool:
    return value is True


class Verdict(Struct, kw_only=True):
    """What is answered: one of these."""

    allow: Annotated[
        bool | UnsetType,
        Meta(title="true", description="OpenIM goes on.", extra={"check": _is_true}),
    ] = UNSET
    refuse: Annotated[
        Table | UnsetType,
        Meta(
            title='a table such as {code = 20001, message = "…"}',
            description="OpenIM stops, and gives its caller `code`, `message` and `detail`.",
        ),
    ] = UNSET
    change: Annotated[
        Table | UnsetType,
        Meta(
            title="a table such as {needVerification = 1}",
            description="OpenIM goes on with these fields instead of those it asked about.",
        ),
    ] = UNSET


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


class File(Struct, kw_only=True):
    """A policy file."""

    commands: Annotated[
        Table,
        Meta(
            title="tables such as [commands.BeforeAddFriend]",
            description="What a callback is answered. Those that are not here are allowed.",
        ),
    ] = {}
