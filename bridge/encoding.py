"""A callback as the message that is stored and sent, with all that is known of it."""

from collections.abc import Mapping
from time import time_ns

from bridge import contract
from bridge.contract import Event
from bridge.message import Ids, Message
from bridge.request import LONGEST_ID, Callback, clean, further_headers


class Encoder:
    """Makes messages.

    Args:
        partitions: How many ordering keys are spread over.

    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.mint = Ids().mint
        """Gives the next message id."""

    def message(
        self,
        callback: Callback,
        event: type[Event] | None,
        fields: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        message_id: str = "",
    ) -> bytes:
        """Encode a callback.

        Args:
            callback: It.
            event: What it is; None for an unknown command.
            fields: The JSON fields of its body.
            headers: What else is known of it.
            message_id: Its id, if it has one already.

        """
        operation = clean(callback.operation_id, LONGEST_ID)
        key = (event.ordering_key(fields) if event else "") or operation or callback.command
        partition = contract.partition(key, self._partitions)
        message = Message(
            id=message_id or self.mint(),
            routing_key=contract.routing_key(callback.command, event, partition),
            command=callback.command,
            received_ms=time_ns() // 1_000_000,
            body=callback.body,
            operation_id=operation,
            ordering_key=key,
            headers={**(headers or {}), **further_headers(callback)},
        )
        return message.encode()

    def unreadable(self, callback: Callback, reason: str) -> bytes:
        """Encode a body that nobody can read yet: OpenIM will not send it again."""
        message = Message(
            id=self.mint(),
            routing_key=contract.MALFORMED,
            command=callback.command,
            received_ms=time_ns() // 1_000_000,
            body=callback.body,
            operation_id=clean(callback.operation_id, LONGEST_ID),
            headers={**further_headers(callback), "x-reason": reason},
        )
        return message.encode()
