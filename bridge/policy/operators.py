"""How a condition compares what it found with what it was given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bridge.policy.paths import Found
from bridge.policy.words import Words

Values: TypeAlias = Sequence[Any]
Test: TypeAlias = Callable[[Found], bool]

NUMBERS = (int, float)


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A way to compare."""

    sentence: str
    """When it holds."""
    make: Callable[[Values], Test]
    takes: tuple[type, ...] = (str, int, float, bool)
    """Types of the values to compare with."""
    finds: tuple[type, ...] = (str, int, float, bool)
    """Types of what can be compared."""
    same: bool = False
    """Whether a value of another type than what is compared can never be the one."""
    several: bool = True
    """Whether it may be given several values, or a list."""


def _is(values: Values) -> Test:
    wanted = frozenset(values)
    return lambda found: not wanted.isdisjoint(found)


def _is_not(values: Values) -> Test:
    return frozenset(values).isdisjoint


def _contains(values: Values) -> Test:
    return Words(values).anywhere_in


def _has_word(values: Values) -> Test:
    return Words(values).as_words_in


def _above(values: Values) -> Test:
    (bound,) = values
    return lambda found: any(each > bound for each in found if type(each) in NUMBERS)


def _below(values: Values) -> Test:
    (bound,) = values
    return lambda found: any(each < bound for each in found if type(each) in NUMBERS)


def _longer(values: Values) -> Test:
    (bound,) = values
    return lambda found: any(len(each) > bound for each in found if type(each) is str)


def _more(values: Values) -> Test:
    (bound,) = values
    return lambda found: len(found) > bound


OPERATORS: Mapping[str, Operator] = {
    "is": Operator(sentence="it is the value", make=_is, same=True),
    "is_not": Operator(sentence="it is not the value, or missing", make=_is_not, same=True),
    "contains": Operator(
        sentence="the text is in it, also inside of a word; letter case, full width and"
        " invisible signs do not count",
        make=_contains,
        takes=(str,),
        finds=(str,),
    ),
    "has_word": Operator(
        sentence="the text is in it and no part of a longer word; otherwise as `contains`",
        make=_has_word,
        takes=(str,),
        finds=(str,),
    ),
    "above": Operator(
        sentence="the number is larger",
        make=_above,
        takes=NUMBERS,
        finds=NUMBERS,
        several=False,
    ),
    "below": Operator(
        sentence="the number is smaller",
        make=_below,
        takes=NUMBERS,
        finds=NUMBERS,
        several=False,
    ),
    "longer": Operator(
        sentence="the text has more characters",
        make=_longer,
        takes=(int,),
        finds=(str,),
        several=False,
    ),
    "more": Operator(
        sentence="the list has more entries", make=_more, takes=(int,), several=False
    ),
}
"""By their names in a policy file."""
