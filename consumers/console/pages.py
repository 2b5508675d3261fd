"""What each page shows, from where it is known."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from bridge.contract import COMMANDS
from bridge.topology import UNROUTED
from consumers.console import audit, explaining, flow, letters, setting_up
from consumers.console.health import findings
from consumers.console.index import Index, Wanted
from consumers.console.plots import Line, plot
from consumers.console.rendering import Shown
from consumers.console.series import Sample
from consumers.console.sources import Asked, Refused, Sources
from consumers.database import DatabaseAway
from consumers.friends import verifications
from consumers.friends.reading import reading

PAGE = 50
"""Events on a page."""

OUTCOMES = {
    "": "any outcome",
    "handled": "handled",
    "waits": "failed, waits",
    "dead_letter": "dead letter",
    "paused": "paused",
    "none": "no attempt yet",
}
"""What events may be filtered by, and how it is called."""

WORKING = 900.0
"""Seconds for which it is shown what a worker did."""

Show: TypeAlias = Callable[[Sources, Asked], Awaitable[Shown]]


async def overview(sources: Sources, _asked: Asked) -> Shown:
    """Show whether all is well, and how fast."""
    receivers, rabbitmq = sources.receivers, sources.rabbitmq
    fine = list(receivers.series.fine)
    coarse = [*receivers.series.coarse, *fine[-1:]]
    return {
        "findings": findings(receivers, rabbitmq),
        "receivers": receivers,
        "rabbitmq": rabbitmq,
        "rate": sum(rate for _, rate in receivers.rates()),
        "rates": receivers.rates()[:12],
        "consumers": sum(each.consumers for each in rabbitmq.subscriptions()),
        "waiting": sum(each.messages for each in rabbitmq.subscriptions()),
        "dead": sum(rabbitmq.dead().values()),
        "unrouted": rabbitmq.count(UNROUTED),
        "between": rabbitmq.between,
        "p50": receivers.reply(0.5),
        "p99": receivers.reply(0.99),
        "plots": [("Last 15 minutes", _plots(fine)), ("Last 24 hours", _plots(coarse))],
    }


def _plots(samples: Sequence[Sample]) -> list[tuple[str, Any]]:
    def line(name: str, value: Callable[[Sample], float | None]) -> Line:
        return name, [(sample.at, value(sample)) for sample in samples]

    def in_ms(seconds: float | None) -> float | None:
        return None if seconds is None else seconds * 1000

    return [
        (
            "Callbacks a second",
            plot("Callbacks a second", "", [line("rate", lambda each: each.rate)]),
        ),
        (
            "Reply in ms: 99 of 100 within, half (dashed)",
            plot(
                "Time until the reply",
                "ms",
                [
                    line("99 of 100", lambda each: in_ms(each.p99)),
                    line("half", lambda each: in_ms(each.p50)),
                ],
            ),
        ),
        (
            "In journals, not yet in RabbitMQ",
            plot("Callbacks in journals", "", [line("depth", lambda each: each.depth)]),
        ),
    ]


async def events(sources: Sources, asked: Asked) -> Shown:
    """Show events, the newest first."""
    wanted = _wanted(asked.query)
    rows = await sources.index.events(wanted, PAGE + 1)
    count, oldest = await sources.index.span()
    kept = {name: value for name, value in asked.query.items() if name != "before" and value}
    return {
        "rows": rows[:PAGE],
        "older": rows[PAGE - 1]["seq"] if len(rows) > PAGE else None,
        "wanted": wanted,
        "query": kept,
        "outcomes": OUTCOMES,
        "commands": sorted(COMMANDS),
        "marks": explaining.TRIED,
        "count": count,
        "oldest": oldest,
        "waiting": sources.receivers.depth,
        "trouble": sources.index.trouble,
        "unwanted": _unwanted(sources, rows),
        "hint": await _hint(sources.index, wanted) if not rows else "",
    }


def _wanted(query: Mapping[str, str]) -> Wanted:
    def moment_of(name: str) -> float | None:
        try:
            return setting_up.moment(query.get(name, ""))
        except ValueError as error:
            raise Refused(
                400, f"{name} must be a time such as 2026-01-31T08:00, in UTC."
            ) from error

    before = query.get("before", "")
    command = query.get("command", "")
    return Wanted(
        text=query.get("text", "").strip(),
        command=setting_up.in_full(command),
        user=query.get("user", "").strip(),
        group=query.get("group", "").strip(),
        outcome=query.get("outcome", "") if query.get("outcome", "") in OUTCOMES else "",
        since=moment_of("since"),
        until=moment_of("until"),
        before=int(before) if before.isdecimal() and len(before) <= 18 else None,  # noqa: PLR2004
    )


def _unwanted(sources: Sources, rows: Sequence[Any]) -> set[str]:
    """Give the routing keys that no subscription wants."""
    if not sources.rabbitmq.at:
        return set()
    subscriptions = sources.rabbitmq.subscriptions()
    keys = {row["routing_key"] for row in rows}
    return {key for key in keys if not any(each.wants(key) for each in subscriptions)}


async def _hint(index: Index, wanted: Wanted) -> str:
    """Say why nothing was found, where that is not plain."""
    if not wanted:
        return "No events yet: point OpenIM here, or send a sample, both on the page Set-up."
    if wanted.command and wanted.command not in await index.commands():
        return (
            f"{wanted.command} was never seen here. Either it did not happen, or OpenIM does"
            " not send it: is it enabled in webhooks.yml? The page Set-up has the lines."
        )
    return "No event fits all of this."


async def event(sources: Sources, asked: Asked) -> Shown:
    """Show the whole life of one event."""
    found = await sources.index.event(asked.query.get("id", ""))
    if found is None:
        raise Refused(
            404,
            "There is no such event in the index: it may be older than what is kept, or still"
            " be in a journal.",
        )
    attempts = await sources.index.attempts(found["message_id"])
    return {
        "event": found,
        "parties": await sources.index.parties(found["seq"]),
        "answered": explaining.answered(found),
        "reached": explaining.explained(found, attempts, sources.rabbitmq),
        "tried": explaining.TRIED,
        "no_outcomes": sources.index.no_outcomes,
        "body": None,
    }


async def dead_letters(sources: Sources, _asked: Asked) -> Shown:
    """Show dead letters, alike ones together."""
    sources.letters.ask()
    job = sources.letters.job
    return {
        "counts": sources.rabbitmq.dead(),
        "looks": sources.letters.looks,
        "job": job,
        "verb": letters.verb(job) if job else "",
        "busy": sources.letters.busy,
        "trouble": sources.rabbitmq.trouble,
    }


async def dead_letter(sources: Sources, asked: Asked) -> Shown:
    """Show one dead letter."""
    subscription, id_ = asked.query.get("subscription", ""), asked.query.get("id", "")
    found = None
    if subscription in sources.rabbitmq.dead():
        found = await sources.letters.show(subscription, id_, body=False)
    if found is None:
        raise Refused(404, f"No letter of {subscription} has this id: it may be settled.")
    return {"letter": found, "known": await sources.index.event(id_)}


async def subscriptions(sources: Sources, _asked: Asked) -> Shown:
    """Show who gets what, and who works for it."""
    return {
        "subscriptions": sources.rabbitmq.subscriptions(),
        "rabbitmq": sources.rabbitmq,
        "workers": await sources.index.workers(WORKING),
        "no_outcomes": sources.index.no_outcomes,
    }


async def friends(sources: Sources, _asked: Asked) -> Shown:
    """Show friend verification messages as they come."""
    try:
        async with reading(sources.database) as transaction:
            found = await verifications.newest(transaction, verifications.Wanted(), most=PAGE)
    except DatabaseAway as error:
        return {"messages": [], "trouble": str(error)}
    return {"messages": found, "trouble": ""}


async def audited(sources: Sources, _asked: Asked) -> Shown:
    """Show what was done in the console."""
    try:
        async with reading(sources.database) as transaction:
            return {"rows": await audit.newest(transaction, 200), "trouble": ""}
    except DatabaseAway as error:
        return {"rows": [], "trouble": str(error)}


PAGES: Mapping[str, Show] = {
    "overview": overview,
    "flow": flow.page,
    "events": events,
    "event": event,
    "letters": dead_letters,
    "letter": dead_letter,
    "subscriptions": subscriptions,
    "friends": friends,
    "setup": setting_up.page,
    "audit": audited,
}
"""What shows each page, by its name."""
