"""The command `openim-bridge decide`."""

import sys

import click
import orjson

from bridge import contract, openim, policy
from bridge.cli.grammar import JSON, callback_names
from bridge.commands import fail, own_settings, show
from bridge.contract import Allow, Before, Event
from bridge.policy import Case, Decided
from bridge.request import Rejected, fields_in


@click.command()
@click.argument("name", metavar="COMMAND", shell_complete=callback_names)
@click.option("--policy", "path", help="A policy file; default: that of BRIDGE_POLICY.")
@JSON
def decide(*, name: str, path: str | None, as_json: bool) -> None:
    """Say what the policy makes of a callback, and which rule decides.

    Its body comes from standard input; from a terminal, or without any, the recorded one is
    taken. Nobody is asked, and nothing is counted by limits.

    Example: openim-bridge decide BeforeAddFriend < body.json
    """
    try:
        command, body = openim.sample(name)
    except openim.UnknownSample as error:
        raise click.UsageError(str(error)) from error
    if not sys.stdin.isatty():
        body = sys.stdin.buffer.read() or body
    rules = policy.read(own_settings().policy if path is None else path)
    try:
        fields = fields_in(command, body)
    except Rejected as error:
        fail(str(error))
    event = contract.event_type(command, fields)
    if event is None or not issubclass(event, Before):
        fail(f"{command} only reports: there is nothing to decide")
    found = _in_words(event, fields, rules)
    show(found, "\n".join(_lines(found)), as_json=as_json)


def _in_words(
    event: type[Event], fields: dict[str, object], rules: policy.Policy
) -> dict[str, object]:
    case = Case(event, fields)
    verdict = rules.decide(case)
    if isinstance(verdict, Decided):
        found: dict[str, object] = {
            "verdict": verdict.decision.verdict,
            "source": verdict.decision.origin,
            "reply": orjson.loads(verdict.body),
            "milliseconds": round(verdict.seconds * 1000, 3),
        }
        return found | ({"problem": verdict.problem} if verdict.problem else {})
    otherwise = "allow" if isinstance(verdict.otherwise, Allow) else "refuse"
    body = case.undecided(verdict.otherwise, "").body
    return {
        "verdict": "ask",
        "source": verdict.origin,
        "within": verdict.within,
        "otherwise": otherwise,
        "reply": orjson.loads(body),
    }


def _lines(found: dict[str, object]) -> list[str]:
    reply = orjson.dumps(found["reply"]).decode()
    return [f"{name}: {value}" for name, value in {**found, "reply": reply}.items()]
