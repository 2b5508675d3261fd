"""What OpenIM makes of an answer."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, TypeAlias

_INT32 = range(-(2**31), 2**31)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """OpenIM goes on."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """OpenIM stops the operation and gives its caller this error."""

    code: int
    message: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Undecodable:
    """OpenIM cannot read the reply; a before callback's operation fails with 90007."""

    reason: str


Verdict: TypeAlias = Allowed | Refused | Undecodable


def judge(reply: bytes) -> Verdict:
    """Tell what OpenIM since v3.7 makes of a reply's body; it ignores the HTTP status.

    Only the five common fields are looked at, not those that some callbacks add.
    """
    try:
        numbers, texts = _common_fields(_document(reply))
    except (TypeError, ValueError, RecursionError) as error:
        return Undecodable(reason=str(error))
    # CommonCallbackResp.Parse, pkg/callbackstruct/common.go.
    if numbers["actioncode"] == 0 and numbers["nextcode"] == 1:
        return Refused(code=numbers["errcode"], message=texts["errmsg"], detail=texts["errdlt"])
    return Allowed()


def _document(reply: bytes) -> object:
    """Parse as Go's encoding/json: objects become tuples of pairs, integers Decimals."""
    return json.loads(
        reply.decode(errors="replace"),
        object_pairs_hook=tuple,
        parse_int=Decimal,
        parse_constant=_refuse_constant,
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _common_fields(document: object) -> tuple[dict[str, int], dict[str, str]]:
    """Fill CommonCallbackResp: letter case does not count, and the last of a name wins."""
    numbers = {"actioncode": 0, "errcode": 0, "nextcode": 0}
    texts = {"errmsg": "", "errdlt": ""}
    for key, value in _pairs(document):
        name = key.casefold()
        if name in numbers and value is not None:
            numbers[name] = _int32(key, value)
        elif name in texts and value is not None:
            texts[name] = _string(key, value)
    return numbers, texts


def _pairs(document: object) -> tuple[tuple[str, object], ...]:
    if document is None:
        return ()
    if not isinstance(document, tuple):
        raise TypeError("the reply is not a JSON object")
    return document


def _int32(key: str, value: object) -> int:
    if not isinstance(value, Decimal) or int(value) not in _INT32:
        raise ValueError(f"{key} is not an int32")
    return int(value)


def _string(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return _SURROGATE.sub("\ufffd", value)
