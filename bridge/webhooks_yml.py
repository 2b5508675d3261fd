"""OpenIM's `config/webhooks.yml`: what is wrong in it, and what it ought to say.

What OpenIM makes of each key was read from its sources (pkg/common/config/config.go and
pkg/common/webhook of v3.8): it says nothing about keys that it does not know, nor about
settings without effect.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from yarl import URL

from bridge.callers import USER
from bridge.contract import EVENTS, Before, Event
from bridge.loading import unknown

EVENTS_BY_KEY: Mapping[str, type[Event]] = {event.config_key: event for event in EVENTS}

UNUSED = "afterGroupMsgRevoke"
"""A key that stands in OpenIM's own file, and that nothing in OpenIM reads."""

TIMEOUT = 5
"""Seconds that OpenIM waits for a reply, by its own file."""

LONGEST = 15
"""Seconds after which OpenIM gives up, whatever its file says."""

_FIELDS = ("enable", "timeout", "failedContinue", "attentionIds", "deniedTypes")

Block: TypeAlias = Mapping[str, Any]


class Unreadable(Exception):
    """The file is no webhooks.yml; the message says why, and on which line."""


@dataclass(frozen=True)
class Finding:
    """Something that is to be known about a file."""

    key: str
    """Where, such as `afterAddFriend.timeout`."""
    text: str
    is_problem: bool = True
    """Whether callbacks or answers are lost over it; else it is good to know."""
    line: int = 0
    """Counted from 1."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a file ought to say.

    Attributes:
        path: The receiver's path, which `url` has to end in.
        patience: Seconds after which the receiver itself gives up waiting for its disk.
        secrets: Those of which `url` has to have one, if there are any.

    """

    path: str
    patience: float
    secrets: Sequence[str] = ()


def read(text: str) -> CommentedMap:
    """Read a file; comments and the order of its keys are kept.

    Raises:
        Unreadable: it is no YAML, or not a map.

    """
    try:
        file = _yaml().load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise Unreadable(f"line {line}: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise Unreadable(str(error)) from error
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error
    if file is None:
        return CommentedMap()
    if not isinstance(file, CommentedMap):
        raise Unreadable("line 1: the file must be a map, like that of OpenIM's config folder")
    return file


def written(file: CommentedMap) -> str:
    """Give the text of a file."""
    text = StringIO()
    _yaml().dump(file, text)
    return text.getvalue()


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml


def enable(file: CommentedMap, events: Container[type[Event]]) -> None:
    """Have OpenIM send the callbacks in `events`, and no others; what else it says stays."""
    seen: set[int] = set()
    for key, event in EVENTS_BY_KEY.items():
        block = file.get(key)
        if not isinstance(block, dict):
            block = file[key] = CommentedMap()
        elif id(block) in seen:
            # An alias of YAML: what is said of one key would be said of the other.
            block = file[key] = CommentedMap(block)
        seen.add(id(block))
        block["enable"] = event in events
        block.setdefault("timeout", TIMEOUT)


def enabled(file: CommentedMap) -> set[type[Event]]:
    """Give the callbacks that OpenIM sends."""
    return {event for key, event in EVENTS_BY_KEY.items() if _is_on(file.get(key))}


def unclear(file: CommentedMap) -> list[str]:
    """Name the callbacks of which nobody can tell whether they were meant to be enabled."""
    return [
        key
        for key, block in file.items()
        if key in EVENTS_BY_KEY
        and block is not None
        and not (isinstance(block, dict) and isinstance(block.get("enable", False), bool))
    ]


def respelt(file: CommentedMap) -> dict[str, str]:
    """Give the keys that OpenIM takes whatever their case, and how its own file has them."""
    found = _respelt(file, ("url", UNUSED, *EVENTS_BY_KEY))
    for key, block in file.items():
        if isinstance(block, dict):
            fields = _respelt(block, _FIELDS)
            found |= {f"{key}.{name}": own for name, own in fields.items()}
    return found


def _respelt(block: Block, names: Iterable[str]) -> dict[str, str]:
    own = {name.lower(): name for name in names}
    taken = {key: own.get(str(key).lower(), key) for key in block}
    return {key: name for key, name in taken.items() if key != name}


def check(file: CommentedMap, wanted: Wanted) -> list[Finding]:
    """Say what is wrong in a file, and what has no effect, line by line.

    Of a file with keys in another case only these are named: the rest goes by names.
    """
    found = [
        Finding(key, f"must be written {own}: OpenIM takes it for that, and no other tool does")
        for key, own in respelt(file).items()
    ] or _content(file, wanted)
    placed = [replace(each, line=_line(file, each.key)) for each in found]
    return sorted(placed, key=lambda each: each.line)


def url_problems(url: object, wanted: Wanted) -> list[Finding]:
    """Say why OpenIM does not reach the receiver under a `url`."""
    return [found for found in _url(url, wanted) if found.is_problem]


def leads_to(url: object, path: str) -> bool:
    """Say whether a `url` has the receiver's path already, with a secret in it or without."""
    try:
        place = URL(str(url or ""), encoded=True)
    except ValueError:
        return False
    at = place.raw_path.rstrip("/")
    return bool(place.host) and (at == path or at.startswith(f"{path}/"))


def moved(url: str, to: str) -> str:
    """Give a URL with scheme, host and port of another."""
    other = URL(to)
    place = URL(url).with_scheme(other.scheme).with_host(other.host or "")
    return str(place.with_port(other.port))


def _is_on(block: object) -> bool:
    return isinstance(block, dict) and block.get("enable") is True


def _line(file: CommentedMap, key: str) -> int:
    """Find the line of a key, or of what it would stand under."""
    line = 0
    block: object = file
    for name in key.split("."):
        if not isinstance(block, CommentedMap) or name not in block:
            break
        line = block.lc.key(name)[0]
        block = block[name]
    return int(line) + 1


def _content(file: CommentedMap, wanted: Wanted) -> Iterator[Finding]:
    yield from _url(file.get("url"), wanted)
    if not enabled(file):
        yield Finding("url", "no callback is enabled, so OpenIM sends nothing")
    for key, block in file.items():
        if key in EVENTS_BY_KEY:
            yield from _block(key, block, wanted)
        elif key == UNUSED and _is_on(block):
            yield Finding(key, "OpenIM never calls it; enable afterRevokeMsg", is_problem=False)
        elif key not in {"url", UNUSED}:
            yield Finding(str(key), unknown(str(key), "callback of OpenIM", [*EVENTS_BY_KEY]))


def _url(text: object, wanted: Wanted) -> Iterator[Finding]:
    if not text or not isinstance(text, str):
        yield Finding("url", "is missing, so OpenIM sends nothing")
        return
    try:
        url = URL(text, encoded=True)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        yield Finding("url", "must be like http://127.0.0.1:10006/callbackExample")
    elif "?" in text or "#" in text:
        yield Finding(
            "url", "must end with the path: OpenIM puts each callback's name after it"
        )
    elif kept_out := _kept_out(url, wanted):
        yield Finding("url", f"{kept_out}, so callbacks are not taken")
    elif url.scheme == "https":
        yield Finding(
            "url", "OpenIM trusts only certificates that its system knows", is_problem=False
        )


def _kept_out(url: URL, wanted: Wanted) -> str:
    """Say why the receiver does not let in what comes by a URL, quoting neither's secrets."""
    place = url.raw_path.rstrip("/")
    if place in {f"{wanted.path}/{secret}" for secret in wanted.secrets}:
        return ""
    if place != wanted.path:
        return "has another path than BRIDGE_PATH"
    if wanted.secrets and (url.user != USER or url.password not in wanted.secrets):
        return "has none of BRIDGE_SECRETS"
    return ""


def _block(key: str, block: object, wanted: Wanted) -> Iterator[Finding]:
    if not isinstance(block, dict):
        yield Finding(key, "must have enable and timeout under it")
        return
    if not isinstance(block.get("enable"), bool):
        yield Finding(f"{key}.enable", "must be true or false")
    where, timeout = f"{key}.timeout", block.get("timeout", 0)
    if not _is_seconds(timeout):
        yield Finding(where, f"must be a whole number of seconds, such as {TIMEOUT}")
    elif _is_on(block):
        yield from _patience(where, timeout, wanted)
    if _is_on(block):
        yield from _without_effect(key, block)


def _is_seconds(timeout: object) -> bool:
    return isinstance(timeout, int) and not isinstance(timeout, bool) and timeout >= 0


def _patience(where: str, timeout: int, wanted: Wanted) -> Iterator[Finding]:
    if timeout == 0 or timeout > LONGEST:
        text = f"OpenIM gives up after {LONGEST} s all the same"
        yield Finding(where, text, is_problem=False)
    elif timeout <= wanted.patience:
        yield Finding(
            where,
            "OpenIM gives up before the receiver does over a slow disk, which is after"
            f" {wanted.patience:g} s; give more, or lower BRIDGE_REPLY_TIMEOUT",
        )


def _without_effect(key: str, block: Block) -> Iterator[Finding]:
    if block.get("failedContinue") and issubclass(EVENTS_BY_KEY[key], Before):
        yield Finding(
            f"{key}.failedContinue",
            "has had no effect since v3.7: without an answer the user's operation fails",
            is_problem=False,
        )
    if block.get("attentionIds") and key == "afterSendGroupMsg":
        yield Finding(
            f"{key}.attentionIds",
            "with any id here nothing is sent: it is compared with a receiving user,"
            " and a group message has none",
        )
    if key == "afterUserKickOff":
        yield Finding(key, "OpenIM v3.8 never calls it", is_problem=False)
