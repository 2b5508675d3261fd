"""Handlers can be tried without a broker, and meet there what they meet in a worker."""

import sys
from asyncio import timeout
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text

from bridge.contract import EVENTS, AfterAddFriend, AfterAddFriendAgree, AfterSendMsg, Event
from bridge.openim import UnknownSample
from bridge.topology import HOLDS
from consumers.registry import Context, Handlers, Reject, Retry, Unavailable
from consumers.testing import DeadLetter, Handled, Paused, Waits, recorded, without_broker
from tests.commands import ran
from tests.documented import BLOCKS

SOON = 10.0
"""Seconds in which a trial ends that nothing holds up."""


def by(users: Sequence[str]) -> list[Event]:
    """Give a request of each user's."""
    return [recorded(AfterAddFriend, from_user_id=user) for user in users]


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
async def test_every_recorded_event_can_be_handled(kind: type[Event]) -> None:
    seen: list[Event] = []
    handlers = Handlers("any")

    @handlers.on(Event)
    async def note(event: Event) -> None:
        seen.append(event)

    async with without_broker(handlers) as trial:
        assert await trial.handle(recorded(kind)) == Handled()
    assert seen == [recorded(kind)]


def test_a_recorded_event_is_changed_within_its_type() -> None:
    assert recorded(AfterAddFriendAgree, to_user_id="ben").to_user_id == "ben"
    with pytest.raises(msgspec.ValidationError, match="Expected `str`, got `int`"):
        recorded(AfterAddFriendAgree, to_user_id=1)
    with pytest.raises(TypeError, match="to_user"):
        recorded(AfterAddFriendAgree, to_user="ben")
    with pytest.raises(UnknownSample, match="no callback is called AfterSendMsg"):
        recorded(AfterSendMsg)


async def test_a_handler_is_called_once_for_a_message_id() -> None:
    called: list[str] = []
    handlers = Handlers("once")

    @handlers.on(AfterAddFriend)
    async def note(_event: AfterAddFriend, context: Context) -> None:
        called.append(context.message_id)

    async with without_broker(handlers) as trial:
        for message_id in ("one", "one", "other"):
            outcome = await trial.handle(recorded(AfterAddFriend), message_id=message_id)
            assert outcome == Handled()
    assert called == ["one", "other"]


async def test_a_handler_that_commits_by_itself_hears_of_it() -> None:
    """What it writes afterwards would be apart from its inbox row."""
    handlers = Handlers("hasty")

    @handlers.on(AfterAddFriend)
    async def commit(_event: AfterAddFriend, context: Context) -> None:
        await context.transaction.commit()
        await context.transaction.execute(text("SELECT 1"))

    async with without_broker(handlers) as trial:
        outcome = await trial.handle(recorded(AfterAddFriend))
    assert isinstance(outcome, Waits)
    assert "closed transaction" in outcome.reason


@pytest.mark.parametrize(
    ("error", "attempt", "outcome"),
    [
        (Reject("no"), 1, DeadLetter("Reject: no")),
        (ValueError("odd"), 1, Waits("ValueError: odd", 1)),
        (ValueError("odd"), 6, DeadLetter("ValueError: odd")),
        (Retry("busy", after=timedelta(seconds=20)), 1, Waits("Retry: busy", 30)),
        (Unavailable("away"), 1, Paused("Unavailable: away")),
    ],
)
async def test_what_a_handler_raises_decides(
    error: Exception, attempt: int, outcome: object
) -> None:
    attempts: list[int] = []
    handlers = Handlers("failing")

    @handlers.on(AfterAddFriend)
    async def fail(_event: AfterAddFriend, context: Context) -> None:
        attempts.append(context.attempt)
        raise error

    async with without_broker(handlers) as trial:
        assert await trial.handle(recorded(AfterAddFriend), attempt=attempt) == outcome
        assert type(await trial.handle(recorded(AfterAddFriendAgree))) is DeadLetter
    assert attempts == [attempt]


async def test_batches_are_handled_together() -> None:
    sizes: list[int] = []
    handlers = Handlers("batches")

    @handlers.on_batch(AfterAddFriend, most=2)
    async def note(events: Sequence[AfterAddFriend]) -> None:
        sizes.append(len(events))
        if "bad" in [event.from_user_id for event in events]:
            raise Reject("bad")

    users = ["a", "b", "bad", "c", "d"]
    async with without_broker(handlers) as trial:
        outcomes = await trial.handle_all(by(users))
    assert outcomes == [Handled(), Handled(), DeadLetter("Reject: bad"), Handled(), Handled()]
    assert sizes == [2, 2, 1, 1, 1]


async def test_what_pauses_holds_up_nothing_behind_it() -> None:
    called: list[str] = []
    handlers = Handlers("pausing")

    @handlers.on(AfterAddFriend)
    async def note(event: AfterAddFriend) -> None:
        called.append(event.from_user_id)
        if event.from_user_id.startswith("away"):
            raise Unavailable("away")

    users = ["away", "a", "away too", "away as well", "b"]
    async with without_broker(handlers) as trial, timeout(SOON):
        outcomes = await trial.handle_all(by(users))
    paused = Paused("Unavailable: away")
    assert outcomes == [paused, Handled(), paused, paused, Handled()]
    assert called == users


async def test_a_batch_that_pauses_holds_up_no_other() -> None:
    handlers = Handlers("batches")

    @handlers.on_batch(AfterAddFriend, most=2)
    async def note(events: Sequence[AfterAddFriend]) -> None:
        if "away" in [event.from_user_id for event in events]:
            raise Unavailable("away")

    async with without_broker(handlers) as trial, timeout(SOON):
        outcomes = await trial.handle_all(by(["away", "a", "b"]))
    paused = Paused("Unavailable: away")
    assert outcomes == [paused, paused, Handled()]


async def test_one_that_pauses_of_a_failed_batch_holds_up_no_other() -> None:
    sizes: list[int] = []
    handlers = Handlers("batches")
    errors = {"bad": Reject("bad"), "away": Unavailable("away")}

    @handlers.on_batch(AfterAddFriend, most=4)
    async def note(events: Sequence[AfterAddFriend]) -> None:
        sizes.append(len(events))
        if error := errors.get(events[0].from_user_id):
            raise error

    async with without_broker(handlers) as trial, timeout(SOON):
        outcomes = await trial.handle_all(by(["bad", "away", "a", "b"]))
    assert outcomes == [
        *(DeadLetter("Reject: bad"), Paused("Unavailable: away")),
        *(Handled(), Handled()),
    ]
    assert sizes == [4, 1, 1, 1, 1]


async def test_one_that_waits_does_not_come_in_place_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its key is free again before the next event is handled."""
    monkeypatch.setattr("consumers.settling.HOLDS", (0,))
    called: list[str] = []
    handlers = Handlers("ordered", ordered=True)

    @handlers.on(AfterAddFriend)
    async def note(event: AfterAddFriend) -> None:
        called.append(event.from_user_id)
        if event.from_user_id == "odd":
            raise ValueError("odd")

    users = ["odd", "a", "b"]
    async with without_broker(handlers) as trial:
        outcomes = await trial.handle_all(by(users))
    assert outcomes == [Waits("ValueError: odd", 0), Handled(), Handled()]
    assert called == users


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [(6, Waits("ValueError: odd", HOLDS[-1])), (7, DeadLetter("ValueError: odd"))],
)
async def test_ordered_handlers_have_seven_attempts(attempt: int, outcome: object) -> None:
    handlers = Handlers("ordered", ordered=True)

    @handlers.on(AfterAddFriend)
    async def fail(_event: AfterAddFriend) -> None:
        raise ValueError("odd")

    async with without_broker(handlers) as trial:
        assert await trial.handle(recorded(AfterAddFriend), attempt=attempt) == outcome


async def test_the_documented_handler_passes_its_documented_tests(tmp_path: Path) -> None:
    documented = [block.text for block in BLOCKS if block.document == "handlers.md"]
    for name in ("shop.py", "test_shop.py"):
        (code,) = (text for text in documented if text.startswith(f"# {name}\n"))
        (tmp_path / name).write_text(code)
    command = await ran(
        *((sys.executable, "-m", "pytest"), "--asyncio-mode=auto", "-q"), folder=tmp_path
    )
    assert "2 passed" in command.out, command.out
