"""What was sent, what was answered and what arrived, and what must follow from it.

A callback carries who sent it and its number there. Its body follows from that label, so
what arrives is compared byte for byte with what was sent, and nothing but a few bytes for
each callback has to be kept, however many there are.
"""

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import NamedTuple
from zlib import crc32

from bridge import openim
from bridge.contract import COMMANDS, Allowed

SENT = openim.commands()
"""The commands that a worker sends in turn."""

MOST_COPIES = 255
"""Copies of one callback that are told apart."""


class Fate(IntEnum):
    """What came of a callback, as its sender saw it."""

    UNDER_WAY = 0
    ANSWERED = 1
    """OpenIM's decoder takes the reply for a success, and the HTTP status is 200."""
    REFUSED = 2
    """It got another reply, one that OpenIM's decoder takes."""
    CUT = 3
    """It was sent, and no reply came that can be read."""
    NOT_SENT = 4
    """Nobody listened."""


class Label(NamedTuple):
    """Names one callback."""

    worker: int
    number: int
    padding: int
    """Bytes that make the body larger."""

    @property
    def command(self) -> str:
        """Its command: they take turns, shifted from worker to worker."""
        return SENT[(self.number + 7 * self.worker) % len(SENT)]

    @property
    def durable(self) -> bool:
        """Whether its answer promises that it is stored."""
        return COMMANDS[self.command].phase == "after"

    @property
    def body(self) -> bytes:
        """The recorded body of its command, with the label woven in."""
        return b'{"torture":"%d-%d-%d","filler":"%b",%b' % (
            self.worker,
            self.number,
            self.padding,
            b"x" * self.padding,
            _recorded(self.command)[1:],
        )


_LABEL = re.compile(rb'\{"torture":"(\d+)-(\d+)-(\d+)"')


@cache
def _recorded(command: str) -> bytes:
    body = openim.sample(command)[1]
    # Otherwise the label would not be all of a callback's identity.
    assert json.loads(body).get("torture") is None
    return body


def label_in(body: bytes) -> Label | None:
    """Read the label of a body, if it is one of ours to the last byte."""
    found = _LABEL.match(body)
    if found is None:
        return None
    label = Label(*map(int, found.groups()))
    return label if label.body == body else None


@dataclass
class Conversation:
    """What one of OpenIM's workers sent, one after the other."""

    fates: bytearray = field(default_factory=bytearray)
    copies: bytearray = field(default_factory=bytearray)
    ids: "array[int]" = field(default_factory=lambda: array("L"))
    """A checksum of the message id that a callback first arrived with."""
    newest: int = -1
    """The number that has arrived and is the highest."""


@dataclass
class Counts:
    """How many, over some time."""

    fates: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(Fate, 0))
    arrived: int = 0
    copies: int = 0
    redelivered: int = 0
    """Copies that RabbitMQ made, when the collector could not ack in time."""

    @property
    def sent(self) -> int:
        """Callbacks that reached a receiver, or may have."""
        return sum(self.fates.values()) - self.fates[Fate.NOT_SENT]


class Ledger:
    """Knows every callback, and says what does not add up.

    Attributes:
        wrong: What was seen that must not happen, in words.
        missing: Callbacks that were answered and have not arrived yet.
        ordered: Whether what was answered first has to arrive first.

    """

    def __init__(self, workers: int) -> None:
        self.total = Counts()
        self.counts = Counts()
        self.wrong: list[str] = []
        self.missing = 0
        self.ordered = True
        self._conversations = [Conversation() for _ in range(workers)]

    def fresh(self) -> None:
        """Count from nought."""
        self.counts = Counts()

    def begin(self, worker: int, padding: int) -> Label:
        """Note that `worker` sends its next callback; give its label."""
        conversation = self._conversations[worker]
        conversation.fates.append(Fate.UNDER_WAY)
        conversation.copies.append(0)
        conversation.ids.append(0)
        return Label(worker, len(conversation.fates) - 1, padding)

    def end(self, label: Label, answer: openim.Answer) -> Fate:
        """Note what came of a callback."""
        conversation = self._conversations[label.worker]
        fate = _fate(answer)
        conversation.fates[label.number] = fate
        for counts in (self.total, self.counts):
            counts.fates[fate] += 1
        if fate is Fate.ANSWERED and label.durable and not conversation.copies[label.number]:
            self.missing += 1
        return fate

    def arrive(self, body: bytes, message_id: str, *, redelivered: bool) -> None:
        """Note what came out of the queue."""
        label = label_in(body)
        if label is None or not self._was_sent(label):
            self.wrong.append(f"invented or altered: message {message_id}")
            return
        conversation = self._conversations[label.worker]
        if not conversation.copies[label.number]:
            self._first(conversation, label, message_id)
        else:
            self._again(conversation, label, message_id, redelivered=redelivered)
        copies = conversation.copies[label.number]
        conversation.copies[label.number] = min(copies + 1, MOST_COPIES)

    def _first(self, conversation: Conversation, label: Label, message_id: str) -> None:
        answered = conversation.fates[label.number] == Fate.ANSWERED
        if answered and label.durable:
            self.missing -= 1
            # It was answered before its sender went on, so it was stored before, too.
            if self.ordered and label.number < conversation.newest:
                self.wrong.append(f"overtaken: {label} by {conversation.newest}")
        conversation.newest = max(conversation.newest, label.number)
        conversation.ids[label.number] = crc32(message_id.encode())
        for counts in (self.total, self.counts):
            counts.arrived += 1

    def _again(
        self, conversation: Conversation, label: Label, message_id: str, *, redelivered: bool
    ) -> None:
        if conversation.ids[label.number] != crc32(message_id.encode()):
            self.wrong.append(f"two message ids: {label}")
        for counts in (self.total, self.counts):
            counts.copies += not redelivered
            counts.redelivered += redelivered

    def _was_sent(self, label: Label) -> bool:
        return label.worker < len(self._conversations) and label.number < len(
            self._conversations[label.worker].fates
        )

    def lost(self) -> Iterator[str]:
        """Name each callback that was answered and has not arrived."""
        for worker, conversation in enumerate(self._conversations):
            pairs = zip(conversation.fates, conversation.copies, strict=True)
            for number, (fate, copies) in enumerate(pairs):
                label = Label(worker, number, 0)
                if fate == Fate.ANSWERED and not copies and label.durable:
                    yield f"{worker}-{number} {label.command}"


def _fate(answer: openim.Answer) -> Fate:
    if answer.unreachable:
        return Fate.NOT_SENT
    if answer.verdict != Allowed():
        return Fate.CUT
    return Fate.ANSWERED if answer.status == 200 else Fate.REFUSED
