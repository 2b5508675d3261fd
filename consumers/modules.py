"""The modules that an App names: what they have in them for a worker."""

import importlib
from collections.abc import Iterable
from typing import NamedTuple

from consumers.decisions import Decisions
from consumers.registry import BadHandlers, Handlers


class Loaded(NamedTuple):
    """What was found."""

    handlers: list[Handlers]
    decisions: list[Decisions]


def load(modules: Iterable[str]) -> Loaded:
    """Import `modules` and collect the handlers and decisions in them.

    Raises:
        BadHandlers: a module cannot be imported, has none, or two of them clash.

    """
    handlers: dict[str, Handlers] = {}
    deciders: dict[str, Decisions] = {}
    for name in modules:
        found = _in_module(name)
        for each in found.handlers:
            if handlers.setdefault(each.subscription, each) is not each:
                raise BadHandlers(f"two subscriptions are called {each.subscription}")
        for decisions in found.decisions:
            for event in decisions.events:
                if deciders.setdefault(event.command, decisions) is not decisions:
                    raise BadHandlers(f"two functions decide about {event.__name__}")
    unique = {id(decisions): decisions for decisions in deciders.values()}
    return Loaded(list(handlers.values()), list(unique.values()))


def _in_module(name: str) -> Loaded:
    try:
        module = importlib.import_module(name)
    except BadHandlers:
        raise
    except (Exception, SystemExit) as error:  # whatever an App's code does
        expected = isinstance(error, ImportError | SyntaxError)
        why = f"{error}" if expected else f"{type(error).__name__}: {error}"
        raise BadHandlers(f"the handler module {name} cannot be imported: {why}") from error
    values = vars(module).values()
    found = Loaded(
        [value for value in values if isinstance(value, Handlers)],
        [value for value in values if isinstance(value, Decisions)],
    )
    if not found.handlers and not found.decisions:
        raise BadHandlers(f"the handler module {name} has no Handlers or Decisions in it")
    everything: list[Handlers | Decisions] = [*found.handlers, *found.decisions]
    for each in everything:
        if not each.events:
            raise BadHandlers(f"no function of {name} handles anything for {each.name}")
    return found
