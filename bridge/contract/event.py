"""What every callback has in common: its names, and how its fields are spelled."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, TypeAlias

from msgspec import Meta, Struct

from bridge.contract.ordering import Rule

Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Uint32: TypeAlias = Annotated[int, Meta(ge=0, le=2**32 - 1)]

JsonText: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"contentMediaType": "application/json"})
]
"""A string that holds a JSON document of its own."""

_ACRONYMS = {"id": "ID", "ids": "IDs", "url": "URL"}


def wire_name(attribute: str) -> str:
    """Give a field's usual spelling in JSON: `server_msg_id` is `serverMsgID`."""
    first, *rest = attribute.split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Event(Struct, frozen=True, kw_only=True, rename=wire_name):
    """Something OpenIM reported or asked.

    The ids an event is about are required. Every other field has Go's zero value, or
    None where OpenIM sends null or leaves it out, so that other releases are read too.
    """

    command: ClassVar[str] = ""
    """The callback command; blank for a base class, which is never sent."""

    old_commands: ClassVar[tuple[str, ...]] = ()
    """The callback commands of releases before v3.7."""

    since: ClassVar[str] = ""
    """The first release that sends it, where not all since v3.7 do."""

    config_key: ClassVar[str] = ""
    """What it is called in OpenIM's `config/webhooks.yml`."""

    subject: ClassVar[str] = ""
    """First word of the routing key: message, presence, push, friend, …"""

    phase: ClassVar[str] = ""
    """Second word of the routing key: before or after."""

    name: ClassVar[str] = ""
    """Third word of the routing key: the class's name without its phase."""

    routing_key: ClassVar[str] = ""
    """`<subject>.<phase>.<name>`, e.g. `friend.after.add_friend_agree`."""

    ordering: ClassVar[Rule]
    """How the ordering key is read from a body."""

    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Other spellings of fields that are understood, and the spelling each stands for."""

    echoed: ClassVar[tuple[str, ...]] = ()
    """Fields that OpenIM overwrites with the reply's, so that an allow must return them."""

    def __init_subclass__(cls) -> None:
        """Write down what follows from the name of a callback's class."""
        super().__init_subclass__()
        title = cls.__name__.removeprefix(cls.phase.capitalize())
        command: str = vars(cls).get("command", f"callback{cls.__name__}Command")
        if command and title not in {"", cls.__name__}:
            cls.command = command
            cls.config_key = vars(cls).get("config_key", cls.phase + title)
            cls.name = "_".join(re.findall(r"[A-Z]+[a-z]*", title)).lower()
            cls.routing_key = f"{cls.subject}.{cls.phase}.{cls.name}"

    @classmethod
    def in_wire_names(cls, fields: Mapping[str, object]) -> Mapping[str, object]:
        """Give the fields with what stands under an alias also under its wire name."""
        if fields.keys().isdisjoint(cls.aliases):
            return fields
        spelled = {
            name: fields[alias] for alias, name in cls.aliases.items() if alias in fields
        }
        return {**spelled, **fields}

    @classmethod
    def ordering_key(cls, fields: Mapping[str, object]) -> str:
        """Give what must be handled in order with this event, or "" if nothing must.

        Args:
            fields: The JSON fields of the body, which need not decode.

        """
        return cls.ordering.key(cls.in_wire_names(fields))


class Before(Event, frozen=True, kw_only=True):
    """OpenIM asks, and holds the operation until our reply.

    By the time a consumer sees the event, the operation has gone ahead or was refused.
    """

    phase = "before"


class After(Event, frozen=True, kw_only=True):
    """Something has happened; OpenIM makes nothing of our reply."""

    phase = "after"
