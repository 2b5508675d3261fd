"""Dead letters: looked at when their number changes, settled one job at a time."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field

from bridge.broker import Broker, BrokerError, connect
from bridge.deliveries import Seconds
from bridge.waiting import first_of
from consumers import desk
from consumers.console.rabbitmq import Watch
from consumers.database import FAILURES, Database, reason
from consumers.dead_letter_audit import REPLAY, Act
from consumers.dead_letters import Group, Groups, Letter, Wanted, likeness
from consumers.dead_letters_shown import Facts, in_full, in_short
from consumers.settings import Console as Settings

log = logging.getLogger(__name__)

PACE: Seconds = 1.0
"""Time between two looks at whether there is something to do."""

STALE: Seconds = 60.0
"""Age from which a look is repeated, if somebody looks."""

WANTED: Seconds = 30.0
"""How long after somebody looked they count as looking on."""

PATIENCE: Seconds = 10.0
"""How long somebody waits who wants to see one letter while others are looked at."""

EXAMPLES = 20
"""Letters of a group that are named."""

CONFIRMING: Seconds = 5.0
"""How long RabbitMQ may take to confirm a copy."""


@dataclass(frozen=True, kw_only=True)
class Alike(Wanted):
    """Letters of one group: those whose errors are alike, or one of them."""

    likeness: str = ""

    def has(self, letter: Letter) -> bool:
        """Say whether a letter is wanted."""
        return super().has(letter) and self.likeness in ("", likeness(letter))


@dataclass(kw_only=True)
class Look:
    """What a look at the letters of one subscription has found."""

    count: int
    groups: Sequence[Group] = ()
    examples: Mapping[str, Sequence[Facts]] = field(default_factory=dict)
    """Some letters of each group, by its error."""
    at: float = field(default_factory=time.time)
    trouble: str = ""


@dataclass(kw_only=True)
class Job:
    """Something that is being done to letters."""

    act: Act
    subscription: str
    wanted: Wanted
    of: int
    """How many letters it is about, as far as was known."""
    count: int = 0
    ended: float | None = None
    trouble: str = ""

    def step(self) -> None:
        """Note that one more is done."""
        self.count += 1


class Letters:
    """All dead letters.

    Args:
        settings: The console's.
        database: Where the audit log is.
        watch: Tells how many letters there are.

    """

    def __init__(self, settings: Settings, database: Database, watch: Watch) -> None:
        self._settings = settings
        self._database = database
        self._watch = watch
        self._asked = float("-inf")
        self._waiting: asyncio.Queue[Job] = asyncio.Queue(maxsize=1)
        self._turn = asyncio.Lock()
        """Held while letters are lent to us: nobody else sees those meanwhile."""
        self.looks: dict[str, Look] = {}
        self.job: Job | None = None
        """The last one."""

    def ask(self) -> None:
        """Note that somebody wants to see them."""
        self._asked = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a job is being done, or about to be."""
        return self.job is not None and self.job.ended is None

    def begin(self, job: Job) -> bool:
        """Have a job done; False if another is not over yet."""
        if self.busy:
            return False
        self.job = job
        self._waiting.put_nowait(job)
        return True

    async def run(self) -> None:
        """Look while somebody wants to see, and do what is asked for."""
        while True:
            with suppress(TimeoutError):
                await self._settle(await asyncio.wait_for(self._waiting.get(), PACE))
            if time.monotonic() - self._asked < WANTED:
                await self._look_at_what_changed()

    async def _look_at_what_changed(self) -> None:
        counts = self._watch.state.dead()
        for name in self.looks.keys() - counts.keys():
            del self.looks[name]
        for name, count in counts.items():
            look = self.looks.get(name)
            if look is None or look.count != count or (count and time.time() - look.at > STALE):
                self.looks[name] = await self._looked(name, count)

    async def _looked(self, name: str, count: int) -> Look:
        groups, examples = Groups(), dict[str, list[Facts]]()

        def see(letter: Letter) -> None:
            groups.add(letter)
            some = examples.setdefault(likeness(letter), [])
            if len(some) < EXAMPLES and len(examples) <= EXAMPLES * 10:
                some.append(in_short(letter))

        trouble = ""
        try:
            async with self._turn, self._connected() as broker:
                if await desk.count(broker, name):
                    await first_of(broker.until_lost(), desk.look(broker, name, see))
        except (BrokerError, desk.CannotDo) as error:
            trouble = str(error)
        return Look(
            count=count, groups=groups.largest_first(), examples=examples, trouble=trouble
        )

    async def _settle(self, job: Job) -> None:
        try:
            async with self._turn, self._connected() as broker:
                working = desk.Desk(
                    broker=broker,
                    database=self._database,
                    act=job.act,
                    confirm_timeout=CONFIRMING,
                    done=job.step,
                )
                settling = working.settle(job.subscription, job.wanted)
                await first_of(broker.until_lost(), settling)
        except (BrokerError, desk.CannotDo) as error:
            job.trouble = str(error)
        except FAILURES as error:
            job.trouble = f"the audit log: {reason(error)}"
        job.ended = time.time()
        self.looks.pop(job.subscription, None)
        log.info(
            "dead letters settled",
            extra={
                "action": job.act.action,
                "who": job.act.who,
                "subscription": job.subscription,
                "count": job.count,
                "reason": job.trouble,
            },
        )

    async def show(self, subscription: str, message_id: str, *, body: bool) -> Facts | None:
        """Give all that is known of a letter; None if it is not there.

        Raises:
            BrokerError: RabbitMQ is away.
            CannotDo: its queue must not be looked at, or others are settled now.

        """
        try:
            await asyncio.wait_for(self._turn.acquire(), PATIENCE)
        except TimeoutError as error:
            raise desk.CannotDo("letters are being looked at or settled: try again") from error
        try:
            return await self._shown(subscription, message_id, body=body)
        finally:
            self._turn.release()

    async def _shown(self, subscription: str, message_id: str, *, body: bool) -> Facts | None:
        found: list[Facts] = []

        def see(letter: Letter) -> None:
            if letter.delivery.message_id == message_id:
                found.append(in_full(letter, with_body=body))

        async with self._connected() as broker:
            if await desk.count(broker, subscription):
                await first_of(broker.until_lost(), desk.look(broker, subscription, see))
        return found[0] if found else None

    def _connected(self) -> AbstractAsyncContextManager[Broker]:
        return connect(
            self._settings.broker_url,
            name="openim-bridge console: dead letters",
            timeout=self._settings.connect_timeout,
        )


def verb(job: Job) -> str:
    """Say what a job does, or has done."""
    if job.ended is None:
        return "Replaying" if job.act.action == REPLAY else "Discarding"
    return "Replayed" if job.act.action == REPLAY else "Discarded"
