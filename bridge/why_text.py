"""The life of a callback in words, and why it was not handled."""

from collections.abc import Iterator
from datetime import UTC, datetime

from bridge.intake import LATEST_MS
from bridge.logs import printable
from bridge.outcomes import DEAD_LETTER, DUPLICATE, HANDLED, PAUSED, WAITS, Attempt
from bridge.topology import REFUSED, UNROUTED, dead_letter_queue
from bridge.why import Fate, Found, Life, now_ms

OVERDUE = 10_000
"""Milliseconds that an attempt may be late before it is looked for in its queue again."""


def as_json(life: Life) -> dict[str, object]:
    """Give a life, and the sentences about it, as a JSON object."""
    return {
        "message_id": life.message_id,
        "command": life.command,
        "operation_id": life.operation_id,
        "routing_key": life.routing_key,
        "received_ms": life.received_ms,
        "archived": life.archived,
        "journal": life.journal,
        "set_aside": life.set_aside,
        "refused": life.refused,
        "wanted_known": life.wanted_known,
        "verdict": life.headers.get("x-verdict"),
        "verdict_source": life.headers.get("x-verdict-source"),
        "subscriptions": list(life.fates.values()),
        "why": why(life),
    }


def as_text(life: Life) -> str:
    """Give a life, line by line."""
    return "\n".join(printable(line) for line in _lines(life))


def _lines(life: Life) -> Iterator[str]:
    yield f"{life.command}  {life.message_id}"
    facts = {
        "operation id": life.operation_id,
        "routing key": life.routing_key,
        "received": moment(life.received_ms),
        "answered": _answered(life),
        "published": "it is in the archive" if life.archived else "",
        "stored": f"in {life.journal}, not in RabbitMQ" if life.journal else "",
        "set aside": life.set_aside,
    }
    yield from (f"  {name:12}  {fact}" for name, fact in facts.items() if fact)
    for fate in life.fates.values():
        yield f"  {fate.subscription}"
        yield from (f"    {_attempt(attempt)}" for attempt in fate.attempts)
    yield from (f"  {sentence}" for sentence in why(life))


def _answered(life: Life) -> str:
    verdict = life.headers.get("x-verdict")
    if verdict is None:
        return ""
    source, took = life.headers.get("x-verdict-source"), life.headers.get("x-decision-ms")
    return f"{verdict}, says {source}, after {took} ms"


def moment(milliseconds: int) -> str:
    """Give a time for people."""
    if not 0 < milliseconds <= LATEST_MS:
        return "at an unknown time"
    found = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{found:%Y-%m-%d %H:%M:%S}.{milliseconds % 1000:03d}Z"


def _attempt(attempt: Attempt) -> str:
    where = "" if attempt.partition is None else f", partition {attempt.partition}"
    line = (
        f"{moment(attempt.began_ms)}  attempt {attempt.attempt}: {attempt.outcome}"
        f" after {attempt.seconds * 1000:,.1f} ms by {attempt.handler or 'no handler'}"
        f"{where} on {attempt.host}"
    )
    return f"{line}: {attempt.error}" if attempt.error else line


def nothing(found: Found, wanted: str) -> str:
    """Say why there is nothing to tell of an id."""
    if not found.archive_seen:
        archive = "the archive was not looked at"
    elif found.archive_begins is None:
        archive = "the archive is empty"
    else:
        archive = (
            f"the archive, from {moment(round(found.archive_begins * 1000))} on, has it not"
        )
    journal = "and the journal on this machine has it not"
    if not found.journals_seen:
        journal = "and no journal was looked into"
    if not found.archive_seen:
        return f"nobody can say here whether {wanted} was received: {archive}, {journal}."
    return (
        f"{wanted} was never received, as far as can be seen: {archive}, {journal}."
        " Did OpenIM send it? `openim-bridge webhooks-yml check` reads its file;"
        " another receiver's journal is looked into where that runs."
    )


def why(life: Life) -> list[str]:
    """Say where a callback is now, and why it is not handled where it is not."""
    if life.journal:
        return [
            (
                f"It is not in RabbitMQ yet: {life.journal} holds it, and its receiver"
                " publishes it once RabbitMQ takes it."
            )
        ]
    if life.set_aside:
        return [
            (
                f"RabbitMQ would not have it, so it was set aside: {life.set_aside} holds it."
                " Mend the cause, which the receiver's log names before `message set aside`;"
                " then `openim-bridge journal publish`."
            )
        ]
    if life.refused:
        return [
            (
                f"A full queue refused it: it waits in {REFUSED}, from where RabbitMQ offers it"
                " again. Make room in that queue."
            )
        ]
    if not life.fates and not life.wanted_known:
        return ["Which subscriptions want it, and so where it is now, was not looked at."]
    if not life.fates:
        return [_unwanted(life)]
    return [f"{fate.subscription}: {_of(fate, life)}" for fate in life.fates.values()]


def _unwanted(life: Life) -> str:
    if life.headers.get("x-reason"):
        return (
            f"Its body could not be read ({life.headers['x-reason']}) and no subscription wants"
            f" what is malformed: it lies in {UNROUTED}."
        )
    return (
        f"No subscription wants {life.command}: it lies in {UNROUTED}. Add a handler for it, or"
        " `openim-bridge subscribe`."
    )


def _of(fate: Fate, life: Life) -> str:
    if fate.foreign:
        waiting = sum(queue.ready for queue in fate.queues)
        return f"another team's, which tells nothing; {waiting:,} messages wait in its queue."
    if not fate.attempts:
        return _queued(fate, life, "no attempt has ended yet")
    for attempt in fate.attempts:
        if attempt.outcome in {HANDLED, DUPLICATE}:
            when = moment(attempt.began_ms)
            return f"handled by {attempt.handler} at {when}, attempt {attempt.attempt}."
    return _unhandled(fate, fate.attempts[-1], life)


def _unhandled(fate: Fate, last: Attempt, life: Life) -> str:
    if last.outcome == DEAD_LETTER:
        return (
            f"a dead letter since {moment(last.began_ms)}, after attempt {last.attempt}:"
            f" {last.error}. It is in {dead_letter_queue(fate.subscription)}; once the cause is"
            f" mended: openim-consumers dead-letters replay {fate.subscription} --message-id"
            f" {life.message_id}"
        )
    if last.outcome == WAITS and (last.again_ms or 0) + OVERDUE > now_ms():
        return (
            f"attempt {last.attempt} failed and the next one comes at"
            f" {moment(last.again_ms or 0)}: {last.error}."
        )
    if last.outcome == PAUSED and any(queue.consumers for queue in fate.queues):
        return (
            f"its workers pause, and try again by themselves: {last.error}."
            " Bring back what is away."
        )
    return _queued(
        fate,
        life,
        f"attempt {last.attempt} failed ({last.error}), and no later one has ended yet",
    )


def _queued(fate: Fate, life: Life, what: str) -> str:
    if not fate.queues:
        return f"{what}, and which queue it is in is not known."
    name = fate.queues[0].name
    ready = sum(queue.ready for queue in fate.queues)
    consumers = sum(queue.consumers for queue in fate.queues)
    if not consumers:
        where = f"{what}: no worker takes from {name}, where {ready:,} messages wait."
    elif ready:
        where = f"{what}: {ready:,} messages wait in {name}, at which {consumers} workers are."
    else:
        where = (
            f"{what}, and {name} is empty: a worker has it in hand, or could not tell what came"
            " of it."
        )
    if not fate.dead_letters:
        return where
    return (
        f"{where} Or RabbitMQ has moved it to the dead letters, as it does with what workers"
        f" die of: openim-consumers dead-letters show {life.message_id} {fate.subscription}"
    )
