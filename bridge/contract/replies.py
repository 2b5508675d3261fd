"""What we answer OpenIM: a before callback is allowed, refused, or allowed with changes.

OpenIM fails a user's operation over a reply that it cannot decode, and some replies that it
can decode make it panic or blank what it stores. None of these can be built here.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Generic, TypeAlias, TypeVar, get_args

import msgspec
import orjson
from msgspec import Meta, Struct

from bridge.contract.event import Before, Event, wire_name

EventT = TypeVar("EventT", bound=Before)

LARGEST_REPLY = 2**20
"""Bytes; OpenIM reads a reply whole, whatever its size (tools: utils/httputil)."""

RefusalCode: TypeAlias = Annotated[int, Meta(ge=20001, le=29999)]
"""What OpenIM documents for refusals; some other codes reach its caller as success."""

Words: TypeAlias = Annotated[str, Meta(max_length=1000)]


class BadReply(ValueError):
    """OpenIM could not decode this reply, or would do damage on it; the message says why."""


class Checked(Struct, frozen=True, forbid_unknown_fields=True):
    """A value whose fields are what their types say, also where nobody runs mypy."""

    def __post_init__(self) -> None:
        """Refuse what OpenIM could not decode.

        Raises:
            BadReply: a field is of another type, out of bounds, or text that is no Unicode.

        """
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            if value is not msgspec.UNSET:
                self._check(field, value)

    def _check(self, field: msgspec.structs.FieldInfo, value: object) -> None:
        try:
            read = msgspec.json.decode(msgspec.json.encode(value), type=field.type)
            if read != value:
                raise TypeError(f"got `{type(value).__name__}`")  # noqa: TRY301
        # A value that is no JSON at all is a TypeError, half a surrogate pair a UnicodeError.
        except (TypeError, ValueError, RecursionError) as error:
            name = f"{type(self).__name__}.{field.name}"
            raise BadReply(f"{name} is not allowed: {error}") from error


class Allow(Struct, frozen=True):
    """OpenIM goes on as it was asked to."""


class Refuse(Checked, frozen=True):
    """OpenIM stops the operation, and gives its caller code, message and detail."""

    code: RefusalCode
    message: Words
    """For the user."""
    detail: Words = ""
    """For whoever debugs the App."""


class Change(Checked, Generic[EventT], frozen=True, kw_only=True, rename=wire_name):
    """OpenIM goes on with these fields instead of those it asked about.

    Those that are not given stay as they are. There are no others: what OpenIM reads from a
    reply and then ignores, or panics over, has no field.
    """

    answers: ClassVar[type[Before]] = Before
    """The callback that is answered."""

    def __init_subclass__(cls) -> None:
        """Note which callback is answered, which the base class names."""
        super().__init_subclass__()
        for base in vars(cls).get("__orig_bases__", ()):
            cls.answers = get_args(base)[0]

    def check_against(self, fields: Mapping[str, object]) -> None:
        """Refuse what OpenIM would panic over in view of what it asked.

        Args:
            fields: The JSON fields of the callback's body.

        Raises:
            BadReply: there is such a field.

        """


Reply: TypeAlias = Allow | Refuse | Change[Any]


def _common(
    action: int = 0, code: int = 0, message: str = "", detail: str = "", following: int = 0
) -> dict[str, object]:
    return {
        "actionCode": action,
        "errCode": code,
        "errMsg": message,
        "errDlt": detail,
        "nextCode": following,
    }


ALLOW = orjson.dumps(_common())
"""Lets OpenIM go on, in every release."""


def answer(reply: Reply, event: type[Event] | None, fields: Mapping[str, object]) -> bytes:
    """Give the body that says `reply` to OpenIM.

    Args:
        reply: What to say.
        event: What the request is; None for an unknown command.
        fields: The JSON fields of its body.

    Raises:
        BadReply: this callback cannot be answered so.

    """
    if isinstance(reply, Refuse):
        return orjson.dumps(_common(0, reply.code, reply.message, reply.detail, 1))
    if isinstance(reply, Change):
        return _changing(reply, event, fields)
    if event is None or not event.echoed:
        return ALLOW
    return orjson.dumps(_common() | _echo(event, fields))


def _changing(
    change: Change[Any], event: type[Event] | None, fields: Mapping[str, object]
) -> bytes:
    if event is not change.answers:
        asked = event.__name__ if event else "an unknown callback"
        raise BadReply(f"{type(change).__name__} is no answer to {asked}")
    change.check_against(fields)
    changed: dict[str, object] = msgspec.to_builtins(change)
    body = orjson.dumps(_common() | _echo(event, fields) | changed)
    if len(body) > LARGEST_REPLY:
        raise BadReply(f"a reply may have {LARGEST_REPLY:,} bytes, not {len(body):,}")
    return body


def problem(code: int, message: str, detail: str = "") -> bytes:
    """Give the reply that reports a failure of ours without stopping the operation.

    Args:
        code: What to call the failure, an int32.
        message: What failed.
        detail: For whoever debugs it.

    """
    # Since v3.7 an action code other than 0 lets OpenIM carry on.
    return orjson.dumps(_common(1, code, message, detail))


def _echo(event: type[Event], fields: Mapping[str, object]) -> dict[str, object]:
    """Give the fields that OpenIM takes from every reply, as the request has them."""
    types = _types(event)
    return {
        name: fields[name]
        for name in event.echoed
        if name in fields and _is_a(types[name], fields[name])
    }


@cache
def _types(event: type[Event]) -> dict[str, object]:
    """Give the fields' types; those of echoed fields are the same in OpenIM's reply."""
    return {field.encode_name: field.type for field in msgspec.structs.fields(event)}


def _is_a(kind: object, value: object) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
