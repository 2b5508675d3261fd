"""Why an event did, or did not, reach the handlers of each subscription, in sentences."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from bridge.topology import UNROUTED
from consumers.console.health import Level, lasting, moment
from consumers.console.index import Row
from consumers.console.rabbitmq import State, Subscription

TRIED = {
    "handled": (Level.WELL, "handled"),
    "duplicate": (Level.WELL, "handled before"),
    "waits": (Level.WARNING, "failed, waits"),
    "dead_letter": (Level.ERROR, "dead letter"),
    "paused": (Level.WARNING, "paused"),
}
"""How attempts are marked, by their outcomes."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far an event came with one subscription."""

    subscription: str
    level: Level
    mark: str
    """In a word or two."""
    why: str
    """In a sentence, with what to do."""
    attempts: Sequence[Row] = ()
    link: str = ""


def explained(event: Row, attempts: Sequence[Row], rabbitmq: State) -> list[Reached]:
    """Say for each subscription that wants an event, or has tried it, how far it came."""
    tried: dict[str, list[Row]] = {}
    for attempt in attempts:
        tried.setdefault(attempt["subscription"], []).append(attempt)
    wanting = {
        each.name: each for each in rabbitmq.subscriptions() if each.wants(event["routing_key"])
    }
    found = [_tried(name, rows, wanting.get(name)) for name, rows in tried.items()]
    found += [_untried(event, each) for name, each in wanting.items() if name not in tried]
    return found or list(_unwanted(rabbitmq))


def _unwanted(rabbitmq: State) -> Iterator[Reached]:
    if rabbitmq.at:
        yield Reached(
            subscription="nobody",
            level=Level.WARNING,
            mark="no subscription",
            why="No subscription wants this callback: no queue is bound with a pattern that"
            f" matches its routing key. It is kept in the queue {UNROUTED}. Register a handler"
            " for it and start a worker, then replay it.",
        )
    else:
        yield Reached(
            subscription="unknown",
            level=Level.NOTICE,
            mark="unknown",
            why="RabbitMQ's management API has not answered yet, so it is not known which"
            " subscriptions there are.",
        )


def _untried(event: Row, subscription: Subscription) -> Reached:
    waited = lasting(time.time() - event["received_ms"] / 1000)
    about: dict[str, Any] = {"subscription": subscription.name, "link": "/subscriptions"}
    if not subscription.ours:
        return Reached(
            level=Level.NOTICE,
            mark="in their queue" if subscription.messages else "sent",
            why=f"It was put into the queue of {subscription.name}, another team's:"
            f" {subscription.messages:,} messages are in it, {subscription.consumers}"
            " consumers take them. What they make of it is not known here.",
            **about,
        )
    if subscription.paused:
        return Reached(
            level=Level.WARNING,
            mark="paused",
            why=f"It waits in the queue for {waited}: {subscription.name} is paused by"
            f" {subscription.paused.who} since {moment(subscription.paused.at)} UTC"
            f" ({subscription.paused.reason}). Nothing is lost: it is handled when somebody"
            " resumes it.",
            **about,
        )
    if not subscription.consumers:
        return Reached(
            level=Level.ERROR,
            mark="no worker",
            why=f"It waits in the queue for {waited}, as no worker runs for"
            f" {subscription.name}. Nothing is lost: start a worker with its handlers.",
            **about,
        )
    if subscription.messages:
        return Reached(
            level=Level.WARNING,
            mark="in the queue",
            why=f"It waits its turn for {waited}: {subscription.messages:,} callbacks are in"
            f" the queue, and {subscription.going:.1f} a second are settled.",
            **about,
        )
    return Reached(
        level=Level.NOTICE,
        mark="no attempt known",
        why="Its queue is empty, so it was settled; no worker has told of an attempt. Attempts"
        " are told of from the moment on that workers record them.",
        **about,
    )


def _tried(name: str, attempts: Sequence[Row], subscription: Subscription | None) -> Reached:
    last = attempts[-1]
    level, mark = TRIED.get(last["outcome"], (Level.NOTICE, last["outcome"]))
    return Reached(
        subscription=name,
        level=level,
        mark=mark,
        why=_why(last, subscription),
        attempts=attempts,
        link="/dead-letter?" + urlencode({"subscription": name, "id": last["message_id"]})
        if last["outcome"] == "dead_letter"
        else "",
    )


def _why(last: Row, subscription: Subscription | None) -> str:
    handler, error, number = last["handler"] or "no handler", last["error"], last["attempt"]
    match last["outcome"]:
        case "handled":
            return f"{handler} handled it at attempt {number}, in {lasting(last['seconds'])}."
        case "duplicate":
            return f"{handler} had handled this message id before, and was not called again."
        case "waits":
            again = last["again_ms"] / 1000 if last["again_ms"] else time.time()
            when = (
                f"is tried again at {moment(again)} UTC"
                if again > time.time()
                else f"was due again at {moment(again)} UTC"
            )
            return (
                f"Attempt {number} of {handler} failed with {error}. It {when}"
                f"{_idle(subscription)}."
            )
        case "paused":
            return (
                f"{handler} waits for something that all events need: {error}. The same"
                " attempt comes again, and counts as none."
            )
        case "dead_letter":
            return (
                f"It became a dead letter at attempt {number}: {error}. It is kept until"
                " somebody replays or discards it."
            )
        case other:
            return f"Attempt {number} of {handler}: {other} {error}".rstrip()


def _idle(subscription: Subscription | None) -> str:
    if subscription is None:
        return ""
    if subscription.paused:
        return f", but {subscription.paused.who} has paused {subscription.name}"
    return "" if subscription.consumers else ", but no worker runs now"


def answered(event: Row) -> tuple[Level, str] | None:
    """Say what OpenIM was told about a before callback; None for an after callback."""
    if ".before." not in event["routing_key"]:
        return None
    verdict, source = event["verdict"], event["source"]
    by = f" by {source}" if source else ""
    if verdict == "refuse":
        told = f"OpenIM was told to refuse the operation{by}, so it did not happen, and no"
        return Level.WARNING, f"{told} after callback follows."
    if verdict in {"", "allow"}:
        return Level.WELL, f"OpenIM was told to go on{by}."
    return Level.WELL, f"OpenIM was told to go on with changes ({verdict}){by}."
