"""What `docs/reference.md` takes from the code: `python -m tests.reference` writes it anew."""

import asyncio
import inspect
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast, get_args, get_type_hints

import click
from msgspec import Struct

from bridge import downstream
from bridge.asking import OUTCOMES
from bridge.cli import main as bridge_cli
from bridge.cli.subscribe import MOST_BYTES, MOST_MESSAGES
from bridge.contract import (
    CHANGES,
    EVENTS,
    AfterAddFriend,
    Allow,
    Before,
    BeforeAddFriend,
    ordering,
)
from bridge.contract.ordering import Rule
from bridge.documents.envelope import HEADERS, PROPERTIES, Part
from bridge.documents.openapi import REJECTIONS
from bridge.loading import allowed, description, is_secret, types_of
from bridge.metrics import Metrics
from bridge.outcomes import KINDS, Attempt
from bridge.outcomes import topology as outcomes_topology
from bridge.policy import ALLOWED, SOURCES, Case, tables
from bridge.policy.operators import OPERATORS
from bridge.rights import USERS
from bridge.settings import Receiver, Settings
from bridge.slots import opened
from bridge.topology import (
    ARCHIVED,
    BRIDGE,
    SUBSCRIPTIONS,
    Arguments,
    Topology,
    archive,
    subscription,
)
from consumers.cli import main as consumers_cli
from consumers.console.front import Front
from consumers.friends.answering import Api
from consumers.friends.feed import Feed
from consumers.lanes import Job, Source
from consumers.metrics import Metrics as WorkersMetrics
from consumers.metrics import Watched
from consumers.outcome import Handled, Tried
from consumers.pauses import PausedBy
from consumers.settings import Console, FriendsApi, Worker
from consumers.testing import delivery_of, recorded
from consumers.work import State

if TYPE_CHECKING:
    from consumers.database import Database

REFERENCE = Path(__file__).parents[1] / "docs" / "reference.md"


def table(*heads: str, rows: Iterable[Iterable[object]]) -> str:
    """Give a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _code(value: object) -> str:
    if value == "":
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def settings(kind: type[Settings]) -> str:
    """Give the settings of a process."""
    defaults = kind()
    return table(
        *("variable", "default", "allowed", "meaning"),
        rows=[
            (
                f"`{kind.table.upper()}_{name.upper()}`"
                + " 🔒" * is_secret(type_)
                + " ↻" * (name in kind.reloaded),
                _code(getattr(defaults, name)),
                allowed(type_),
                description(type_),
            )
            for name, type_ in types_of(kind).items()
        ],
    )


def commands(name: str, group: click.Group) -> str:
    """Give the commands of a program."""
    return "\n\n".join(_command(name, each) for name, each in all_commands(name, group))


def all_commands(name: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Give the commands of a program with what stands before each, those in groups too."""
    context = click.Context(group)
    found = [group.get_command(context, each) for each in group.list_commands(context)]
    for each in filter(None, found):
        yield name, each
        if isinstance(each, click.Group):
            yield from all_commands(f"{name} {each.name}", each)


def _command(program: str, command: click.Command) -> str:
    context = click.Context(command)
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    options = [each for each in command.params if isinstance(each, click.Option)]
    call = " ".join([program, str(command.name), *(a.make_metavar(context) for a in arguments)])
    paragraphs = [
        f"### {program} {command.name}",
        f"    {call}",
        inspect.cleandoc(command.help or ""),
        *([command.epilog] if command.epilog else []),
    ]
    if options:
        rows = [_option(each, context) for each in options]
        paragraphs.append(table("option", "meaning", rows=rows))
    return "\n\n".join(paragraphs)


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    names, sentence = option.get_help_record(context) or ("", "")
    return _code(names), re.sub(r"\s+", " ", sentence)


def callbacks() -> str:
    """Give all callbacks."""
    return table(
        *("callback", "in `webhooks.yml`", "routing key", "ordering key", "when"),
        rows=[
            (
                _code(event.command),
                _code(event.config_key),
                _code(f"{event.routing_key}.p<nn>"),
                ordering_words(event.ordering),
                (event.__doc__ or "").splitlines()[0],
            )
            for event in EVENTS
        ],
    )


def ordering_words(rule: Rule) -> str:  # noqa: PLR0911  # one for each class of rule
    """Say how a rule finds its key."""
    match rule:
        case ordering.Field(name, prefix):
            return f"`{prefix}` + `{name}`" if prefix else f"`{name}`"
        case ordering.Pair(one, other):
            return f"`{one}`, `{other}`, sorted"
        case ordering.Dialogue():
            return "`si_` + `sendID` and `recvID`, sorted"
        case ordering.Receivers():
            return "`sendID`, then `userIDList`, sorted"
        case ordering.Entry(entries, name, None):
            return f"first `{name}` in `{entries}`"
        case ordering.Entry(entries, name, role_level):
            return f"`{name}` in `{entries}` with `roleLevel` {role_level}"
        case ordering.Either(first, second):
            return f"{ordering_words(first)}; else {ordering_words(second)}"
        case _:
            raise TypeError(rule)


def policy_keys(*kinds: type[Struct]) -> str:
    """Give what may stand in tables of a policy file."""
    return table(
        *("key", "allowed", "meaning"),
        rows=[
            (_code(name), allowed(type_), description(type_))
            for kind in kinds
            for name, type_ in types_of(kind).items()
        ],
    )


def operators() -> str:
    """Give how conditions compare."""
    return table(
        *("op", "it holds where"),
        rows=[(_code(name), each.sentence) for name, each in OPERATORS.items()],
    )


def sources() -> str:
    """Give where a verdict may come from."""
    rows = [(_code(name), sentence) for name, sentence in SOURCES.items()]
    return table("source", "meaning", rows=rows)


def outcomes() -> str:
    """Give what may come of a question."""
    rows = [(_code(name), sentence) for name, sentence in OUTCOMES.items()]
    return table("outcome", "meaning", rows=rows)


def changes() -> str:
    """Give what of each before callback can be changed."""
    return table(
        *("callback", "class", "fields"),
        rows=[
            (
                _code(event.command),
                _code(CHANGES[event].__name__) if event in CHANGES else "",
                ", ".join(map(_code, CHANGES[event].__struct_encode_fields__))
                if event in CHANGES
                else "",
            )
            for event in EVENTS
            if issubclass(event, Before)
        ],
    )


def parts(kind: str, every: Iterable[Part]) -> str:
    """Give what a message says beside its body."""
    return table(kind, "value", rows=[(_code(each.name), each.text) for each in every])


def rejections() -> str:
    """Give what a request may get instead of being taken."""
    return table(
        *("status", "reason", "when", "kept"),
        rows=[
            (each.status, _code(each.reason), each.when, "yes" if each.kept else "")
            for each in REJECTIONS
        ],
    )


def old_names() -> str:
    """Give the names of callbacks before OpenIM 3.7."""
    return table(
        *("before 3.7", "is read as"),
        rows=[
            (_code(old), _code(each.command)) for each in EVENTS for old in each.old_commands
        ],
    )


def topology() -> str:
    """Give exchanges, queues and bindings."""
    archived = Topology(queues=(archive(604_800, 4 * 2**30),), bindings=ARCHIVED.bindings)
    others = Topology(
        queues=downstream.queues("<name>", partitions=0, length=MOST_MESSAGES, size=MOST_BYTES),
        bindings=downstream.bindings("<name>", ("<pattern>",), partitions=0),
    )
    kept = outcomes_topology(7.0, 2 * 2**30)
    own = subscription("<subscription>", ("<pattern>",))
    parts = [BRIDGE, archived, SUBSCRIPTIONS, own, kept, others]
    return "\n\n".join(
        (
            table(
                *("exchange", "type", "arguments"),
                rows=[
                    (_code(each.name), each.kind, _arguments(each.arguments))
                    for part in parts
                    for each in part.exchanges
                ],
            ),
            table(
                *("queue", "arguments"),
                rows=[
                    (_code(each.name), _arguments(each.arguments))
                    for part in parts
                    for each in part.queues
                ],
            ),
            table(
                *("from", "routing key", "to"),
                rows=[
                    *(
                        (_code(each.source), _code(each.routing_key), _code(each.target))
                        for part in parts
                        for each in part.passages
                    ),
                    *(
                        (
                            _code(each.exchange),
                            _code(each.routing_key or " "),
                            _code(each.queue),
                        )
                        for part in parts
                        for each in part.bindings
                    ),
                ],
            ),
        )
    )


def _arguments(arguments: Arguments) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in arguments.items())


def attempts() -> str:
    """Give the fields of a record in the stream of outcomes."""
    source = inspect.getsource(Attempt)
    sentences = dict(re.findall(r'^    (\w+): .*\n    """(.*)"""$', source, re.MULTILINE))
    words = {"str": "text", "int": "whole number", "float": "number", "NoneType": "null"}
    return table(
        *("field", "type", "meaning"),
        rows=[
            (
                _code(name),
                " or ".join(words[each.__name__] for each in get_args(type_) or (type_,)),
                sentences[name],
            )
            for name, type_ in get_type_hints(Attempt).items()
        ],
    )


def attempt_outcomes() -> str:
    """Give what may come of an attempt."""
    return table(
        *("outcome", "meaning"),
        rows=[(_code(name), sentence) for name, sentence in KINDS.items()],
    )


async def _rendered() -> str:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder), 2**26) as journal:
        counted = Metrics(journal)
        counted.watch(lambda: True)
        counted.count("callbackAfterAddFriendCommand")
        counted.rejected.labels("size")
        asked = Case(BeforeAddFriend, {})
        counted.decided(BeforeAddFriend.command, asked.decided(ALLOWED, Allow()))
        counted.watch_questions(lambda: 0, lambda: 0)
        counted.watch_certificate(lambda: 0)
        counted.questions.labels(BeforeAddFriend.command, "answered")
        return counted.render().decode()


def _metrics_of(text: str) -> str:
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    return table(
        *("metric", "type", "labels", "meaning"),
        rows=[
            (_code(name), types[name], _labels(name, text), sentence)
            for name, sentence in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE)
        ],
    )


def receivers_metrics() -> str:
    """Give the receiver's metrics, each with a series."""
    return asyncio.run(_rendered())


def workers_metrics() -> str:
    """Give a worker's metrics, each with a series."""
    return asyncio.run(_worker_rendered())


async def _worker_rendered() -> str:
    paused = PausedBy(who="w", at=0.0, reason="r")
    state = State(in_hand=0, oldest=0.0, paused="", paused_by=paused, partitions=[])
    working = SimpleNamespace(handlers=SimpleNamespace(subscription="s"), state=state)
    records = SimpleNamespace(dropped=0)
    worker = SimpleNamespace(works=[working], reason="", records=records, spans=None)
    counted = WorkersMetrics(cast("Watched", worker))
    job = Job(delivery_of(recorded(AfterAddFriend), "0190"), Source(""), "", 1, 1)
    counted.of("s")(job, Handled(), Tried("s.handler", 0.0, 0.0))
    counted.decided("s.handler", "allow", 0.0)
    return counted.render().decode()


def apis_metrics() -> str:
    """Give the friends API's metrics, each with a series."""
    database = cast("Database", None)
    counted = Api(FriendsApi(token="t" * 20), database, Feed(database)).metrics
    counted.answered("live", 200, 0.0)
    return counted.render().decode()


def consoles_metrics() -> str:
    """Give the console's metrics, each with a series."""
    counted = Front(Console(password="p" * 20), {}).metrics
    counted.answered("overview", 200, 0.0)
    return counted.render().decode()


def _labels(name: str, text: str) -> str:
    found = re.search(rf"^{name}(?:_bucket)?{{(.*)}} ", text, re.MULTILINE)
    labels = re.findall(r'(\w+)="', found[1]) if found else []
    return ", ".join(_code(label) for label in labels if label != "le")


def users() -> str:
    """Give the users of RabbitMQ."""
    return table(
        *("user", "may declare", "may write to", "may read", "tags"),
        rows=[
            (
                _code(name),
                *(
                    ", ".join(map(_code, sorted(names)))
                    for names in (rights.declare, rights.write, rights.read)
                ),
                ", ".join(map(_code, rights.tags)),
            )
            for name, rights in USERS.items()
        ],
    )


SECTIONS: dict[str, Callable[[], str]] = {
    "settings of the receiver": lambda: settings(Receiver),
    "settings of the consumers": lambda: settings(Worker),
    "settings of the friends API": lambda: settings(FriendsApi),
    "settings of the console": lambda: settings(Console),
    "commands of the receiver": lambda: commands("openim-bridge", bridge_cli.main),
    "commands of the consumers": lambda: commands("openim-consumers", consumers_cli.main),
    "properties": lambda: parts("property", PROPERTIES),
    "headers": lambda: parts("header", HEADERS),
    "rejections": rejections,
    "metrics": lambda: _metrics_of(receivers_metrics()),
    "metrics of the consumers": lambda: _metrics_of(workers_metrics()),
    "metrics of the friends API": lambda: _metrics_of(apis_metrics()),
    "metrics of the console": lambda: _metrics_of(consoles_metrics()),
    "callbacks": callbacks,
    "changes": changes,
    "sources": sources,
    "outcomes": outcomes,
    "verdicts": lambda: policy_keys(tables.Verdict),
    "asks": lambda: policy_keys(tables.Ask),
    "refusals": lambda: policy_keys(tables.Refusal),
    "policy": lambda: policy_keys(tables.File),
    "rules": lambda: policy_keys(tables.Rule),
    "conditions": lambda: policy_keys(tables.Condition),
    "operators": operators,
    "limits": lambda: policy_keys(tables.Limit),
    "lists": lambda: policy_keys(tables.Entries),
    "old names": old_names,
    "topology": topology,
    "attempts": attempts,
    "attempt outcomes": attempt_outcomes,
    "users": users,
}


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Give the parts of the reference that are taken from the code, by name."""
    yield from re.findall(r"<!-- code: ([\w ]+) -->\n\n(.*?)\n\n<!-- end -->", text, re.DOTALL)


def written_anew(text: str) -> str:
    """Give the reference as it should be."""
    for name, section in sections(text):
        frame = f"<!-- code: {name} -->\n\n{{}}\n\n<!-- end -->"
        text = text.replace(frame.format(section), frame.format(SECTIONS[name]()))
    return text


if __name__ == "__main__":
    REFERENCE.write_text(written_anew(REFERENCE.read_text()))
