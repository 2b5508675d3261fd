"""What a handler is told beside the event."""

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


class EventLog(logging.LoggerAdapter[logging.Logger]):
    """Adds an event's ids to the facts of each line."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Merge the ids and what the caller adds."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What is known of one event beside its body."""

    message_id: str
    """The same for every copy and redelivery of one callback."""

    attempt: int
    """1 at first."""

    received: datetime
    """When the bridge took it from OpenIM, UTC."""

    operation_id: str
    """OpenIM's trace id; not always there, not always unique."""


@dataclass(frozen=True, kw_only=True)
class _Call:
    log: EventLog
    """Adds the ids to each line."""

    sql: AsyncConnection | None = field(repr=False)

    @property
    def transaction(self) -> AsyncConnection:
        """SQL; committed when the handler returns, rolled back when it raises."""
        if self.sql is None:
            raise RuntimeError("this handler was registered with sql=False: no transaction")
        return self.sql


@dataclass(frozen=True, kw_only=True)
class Context(Receipt, _Call):
    """What is known about an event beside its body."""


@dataclass(frozen=True, kw_only=True)
class BatchContext(_Call):
    """What is known about the events of a batch beside their bodies."""

    receipts: tuple[Receipt, ...]
    """One for each event, in the same order."""
