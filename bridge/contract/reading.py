"""From the bytes of a body to its fields, or to an event."""

import msgspec
import orjson

from bridge.contract.catalogue import COMMANDS, EVENTS, event_type
from bridge.contract.event import Event


class UnreadableCallback(Exception):
    """A request is no callback that is known here.

    MalformedCallback   the body is not what its command promises: keep it for people
    UnknownCommand      a newer OpenIM, perhaps: keep it for who understands it
    """


class MalformedCallback(UnreadableCallback):
    """The body is not a JSON object, or lacks or mistypes a field of its command."""


class UnknownCommand(UnreadableCallback):
    """No callback has this command."""


# Where spelling and content do not matter, the bytes become an event in one pass.
_DECODERS = {event: msgspec.json.Decoder(event) for event in EVENTS if not event.aliases}


def fields_of(body: bytes) -> dict[str, object]:
    """Read the JSON fields of a body, whatever they are.

    Raises:
        MalformedCallback: `body` is not a JSON object. The message quotes nothing of it.

    """
    _refuse_blank(body)
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedCallback(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise MalformedCallback("the body is not a JSON object")
    return fields


def decode(command: str, body: bytes) -> Event:
    """Read a callback.

    Args:
        command: The last part of the request's path; what the body says does not count.
        body: As OpenIM sent it.

    Raises:
        MalformedCallback: `body` is not a JSON object, or a field is missing or of another
            type. The message says which, as a JSON path.
        UnknownCommand: No callback has this command.

    """
    event = COMMANDS.get(command)
    if event is None:
        raise UnknownCommand(f"no callback has the command {command!r}")
    if event in _DECODERS:
        return _decode_bytes(_DECODERS[event], body)
    fields = fields_of(body)
    return _convert(fields, event_type(command, fields) or event)


def _decode_bytes(decoder: msgspec.json.Decoder[Event], body: bytes) -> Event:
    _refuse_blank(body)
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise MalformedCallback(str(error)) from error
    # These two escape msgspec unwrapped, and the first would quote the body.
    except UnicodeDecodeError as error:
        raise MalformedCallback("the body is not UTF-8") from error
    except RecursionError as error:
        raise MalformedCallback("the body is nested too deep") from error


def _convert(fields: dict[str, object], event: type[Event]) -> Event:
    try:
        return msgspec.convert(event.in_wire_names(fields), event)
    except msgspec.ValidationError as error:
        raise MalformedCallback(str(error)) from error


def _refuse_blank(body: bytes) -> None:
    if not body or body.isspace():
        raise MalformedCallback("the body is empty")
