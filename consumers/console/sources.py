"""What pages are made of: where they look, and what they were asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from consumers.console.access import Session
from consumers.console.index import Index
from consumers.console.letters import Letters
from consumers.console.rabbitmq import State, Watch
from consumers.console.receivers import Receivers
from consumers.database import Database
from consumers.pauses import Pauses
from consumers.settings import Console as Settings


@dataclass(kw_only=True)
class Sources:
    """Everything that pages look at."""

    settings: Settings
    database: Database
    receivers: Receivers
    watch: Watch
    pauses: Pauses
    index: Index
    letters: Letters

    @property
    def rabbitmq(self) -> State:
        """RabbitMQ as it was at the last look, and what people have paused."""
        return replace(self.watch.state, paused=self.pauses.now)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a page was asked for, and by whom."""

    session: Session
    query: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    """Where that person sits."""


class Refused(Exception):
    """A request that is not answered as it wishes.

    Args:
        status: Of HTTP.
        message: What is wrong and what to do, for people.

    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
