"""Asks decision handlers about before callbacks, and gives up in time.

    ask ──► question ──► openim.questions.<callback> ──► a worker
     │                                                      │
     └── done: the answer, or why there is none ◄───────────┘

Every question ends: by its answer, by its deadline, or at once where nobody would answer. The
connection is one of its own, as RabbitMQ may block that which callbacks are published on.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time_ns

from bridge import policy
from bridge.broker import Broker, BrokerError, connect
from bridge.contract import Allow, BadReply, Event, Refuse, Reply
from bridge.direct_reply import Questions, Received, Sent
from bridge.metrics import Metrics
from bridge.policy import Case, Decided, Decision
from bridge.questions import (
    DEADLINE,
    HANDLER,
    OPERATION,
    HandlerFailed,
    decoded,
    queue_name,
)
from bridge.settings import Receiver as Settings
from bridge.waiting import Backoff

log = logging.getLogger(__name__)

ANSWERED = "answered"
AWAY, NOBODY, FULL, RESTING = "away", "nobody", "full", "resting"
UNANSWERED, UNUSABLE, FAILED, LATE = "unanswered", "unusable", "failed", "late"
OUTCOMES: Mapping[str, str] = {
    ANSWERED: "a decision handler has decided",
    AWAY: "RabbitMQ is away, or blocks",
    NOBODY: "no worker has a decision handler for this callback",
    FULL: "too many callbacks wait for decision handlers",
    RESTING: "none has answered lately, so nobody is asked for some seconds",
    UNANSWERED: "no answer came in time",
    UNUSABLE: "the answer is none that OpenIM could take",
    FAILED: "the decision handler failed",
    LATE: "an answer came after its question had ended, and is dropped",
}
"""What comes of a question, and what that means."""

STRIKES = 10
"""Questions about one callback that end unanswered, one after the other, before it rests."""

REST = 5.0
"""Seconds until one question is tried again. OpenIM's users wait for each in vain."""

ANSWERING = 0.0002
"""Seconds set aside for each answer: where many questions wait, each ends so much earlier than
the one before it, and the last answer leaves in time as well."""

LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What came of a question."""

    outcome: str
    """One of OUTCOMES."""
    reply: Reply | None = None
    """The decision, if it was answered."""
    by: str = ""
    """The decision handler."""
    problem: str = ""
    """More about why there is none."""

    def decided(self, case: Case, otherwise: Allow | Refuse) -> Decided:
        """Make a decision of it; `otherwise`, if it is none."""
        if self.reply is None:
            problem = self.problem or OUTCOMES[self.outcome]
            return case.undecided(otherwise, problem, self.outcome)
        decision = Decision(reply=self.reply, source=policy.HANDLER, name=self.by)
        return case.decided(decision, otherwise)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A callback that decision handlers are asked about."""

    event: type[Event]
    command: str
    """As OpenIM sent it."""
    message_id: str
    operation_id: str
    traceparent: str
    """By which trace it is known; nothing, if by none."""
    body: bytes
    within: float
    """Seconds until the question ends."""
    done: Callable[[Heard], None]
    """Called once, soon."""


class _Rest:
    """Stops questions about one callback that nobody answers: a circuit breaker."""

    def __init__(self) -> None:
        self._strikes = 0
        self._until = 0.0

    def resting(self, now: float) -> bool:
        return now < self._until

    def let_through(self, now: float) -> bool:
        """Say whether to ask: after a rest, only once until that has come to something."""
        if self.resting(now):
            return False
        if self._strikes >= STRIKES:
            self._until = now + REST
        return True

    def note(self, now: float, *, answered: bool) -> None:
        self._strikes = 0 if answered else self._strikes + 1
        self._until = now + REST if self._strikes >= STRIKES else 0.0


class Asking:
    """Asks; `run` must run for that, and `wanted` be set once anything is to be asked."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.wanted = asyncio.Event()
        self.settings = settings
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._ids = map(str, itertools.count(1))
        self._open: dict[str, tuple[Asked, asyncio.TimerHandle]] = {}
        self._turn: float | None = None
        self._rests: dict[type[Event], _Rest] = {}
        self._now: tuple[Broker, Questions] | None = None
        self._trouble = ""
        metrics.watch_questions(lambda: self.waiting, self._count_resting)

    @property
    def connected(self) -> bool:
        """Whether anybody can be asked."""
        return self._now is not None

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return len(self._open)

    def _count_resting(self) -> int:
        return sum(rest.resting(self._loop.time()) for rest in self._rests.values())

    async def run(self) -> None:
        """Connect, listen until the connection breaks, wait, connect again; for ever."""
        await self.wanted.wait()
        backoff = Backoff()
        while True:
            try:
                async with connect(
                    self.settings.broker_url,
                    name="openim-bridge asking",
                    timeout=self.settings.connect_timeout,
                ) as broker:
                    questions = Questions(broker, self._answered, self._returned)
                    await questions.listen()
                    backoff.reset()
                    self._note("")
                    self._now = broker, questions
                    await broker.until_lost()
            except BrokerError as error:
                self._note(str(error))
            finally:
                self._now = None
                self.give_up(AWAY)
            await backoff.pause()

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("nobody can be asked", extra={"reason": trouble})
        self._trouble = trouble

    def ask(self, asked: Asked) -> None:
        """Ask; `asked.done` is called when it has come to something."""
        rest = self._rests.setdefault(asked.event, _Rest())
        if self._now is None or not self._now[0].unblocked.is_set():
            self._refuse(asked, AWAY)
        elif len(self._open) >= self.settings.questions:
            self._refuse(asked, FULL)
        elif not rest.let_through(self._loop.time()):
            self._refuse(asked, RESTING)
        else:
            number = next(self._ids)
            early = min(len(self._open) * ANSWERING, asked.within / 4)
            ends = self._arrived() + asked.within - early
            timer = self._loop.call_at(ends, self._end, number, UNANSWERED)
            self._open[number] = asked, timer
            self._now[1].ask(self._question(number))

    def _arrived(self) -> float:
        """Give when this turn of the loop began, for all that it reads had arrived by then."""
        if self._turn is None:
            self._turn = self._loop.time()
            self._loop.call_soon(self._end_turn)
        return self._turn

    def _end_turn(self) -> None:
        self._turn = None

    def _refuse(self, asked: Asked, outcome: str) -> None:
        self._loop.call_soon(self._tell, asked, Heard(outcome=outcome))

    def _question(self, number: str) -> Sent:
        asked, timer = self._open[number]
        left = timer.when() - self._loop.time()
        return Sent(
            id=number,
            queue=queue_name(asked.event),
            command=asked.command,
            message_id=asked.message_id,
            body=asked.body,
            headers={
                DEADLINE: time_ns() // 1_000_000 + int(left * 1000),
                OPERATION: asked.operation_id,
                **({"traceparent": asked.traceparent} if asked.traceparent else {}),
            },
            seconds=left,
        )

    def _answered(self, received: Received) -> None:
        if received.id not in self._open:
            self._metrics.questions.labels("", LATE).inc()
            return
        event = self._open[received.id][0].event
        name = received.headers.get(HANDLER)
        by = name[:LONGEST_NAME] if isinstance(name, str) and name.isprintable() else ""
        try:
            reply = decoded(received.body, event)
        except BadReply as error:
            heard = Heard(outcome=UNUSABLE, by=by, problem=str(error))
        except HandlerFailed as error:
            heard = Heard(outcome=FAILED, by=by, problem=str(error))
        else:
            heard = Heard(outcome=ANSWERED, reply=reply, by=by)
        self._close(received.id, heard)

    def _returned(self, number: str) -> None:
        self._end(number, NOBODY)

    def _end(self, number: str, outcome: str) -> None:
        if number in self._open:
            self._close(number, Heard(outcome=outcome))

    def _close(self, number: str, heard: Heard) -> None:
        asked, timer = self._open.pop(number)
        timer.cancel()
        if heard.outcome not in {AWAY, NOBODY}:
            answered = heard.outcome != UNANSWERED
            self._rests[asked.event].note(self._loop.time(), answered=answered)
        self._tell(asked, heard)

    def _tell(self, asked: Asked, heard: Heard) -> None:
        self._metrics.questions.labels(asked.event.command, heard.outcome).inc()
        asked.done(heard)

    def give_up(self, outcome: str = UNANSWERED) -> None:
        """End all questions."""
        for number in list(self._open):
            self._end(number, outcome)
