"""Being many OpenIM processes: `openim-bridge simulate`."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge import openim, people, population
from bridge.contract import decode
from bridge.population import Outcome, Plan
from tests.commands import BRIDGE, ran
from tests.listener import listening, reply
from tests.running import NOWHERE, bridge, until
from tests.torture.receiver import started

REFUSAL = b'{"actionCode":0,"nextCode":1,"errCode":20001,"errMsg":"no","errDlt":""}'


async def simulate(*words: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """Run the command: its exit code, and what it found."""
    command = await ran(BRIDGE, "simulate", *words, "--json", folder=folder)
    return command.process.returncode or 0, json.loads(command.out)


async def test_a_receiver_that_answers_loses_nothing(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        words = "--rate", "100", "--seconds", "2", "--url", running.url
        code, found = await simulate(*words, folder=tmp_path)
        before, after = found["before"], found["after"]
        assert running.running.journal.depth == before["answered"] + after["answered"]
    assert (code, found["lost"], after["blocked"]) == (0, 0, 0)
    assert (before["answered"], after["answered"]) == (before["sent"], after["sent"])
    assert 120 < before["sent"] + after["sent"] < 280
    assert 0 < after["answer_p50_ms"] <= after["answer_p99_ms"] <= after["answer_longest_ms"]


async def frozen(folder: Path, **plan: Any) -> Outcome:  # noqa: ANN401  # what a plan has
    """Be one process of OpenIM in front of a receiver that has stopped still."""
    outcome = Outcome()
    everything = Plan(processes=1, users=10, groups=10, **plan)
    async with started(folder, NOWHERE) as receiver:
        receiver.signal(signal.SIGSTOP)
        await population.simulate(receiver.url, everything, outcome, lambda _: None)
        receiver.signal(signal.SIGCONT)
    return outcome


async def test_what_openim_would_drop_in_silence_is_counted(tmp_path: Path) -> None:
    outcome = await frozen(tmp_path, rate=200, seconds=1.5, mix={"AfterUserOnline": 1})
    after = outcome.phases["after"]
    # A hundred wait in memory and two are being sent; each of the others waited its 3 s.
    assert after.dropped > 50
    assert after.dropped <= after.blocked.count <= after.dropped + 10
    assert 3000 <= after.blocked.longest < 8000
    assert after.answered == 0
    assert outcome.lost == after.failed + after.dropped + after.unfinished > 150


async def test_operations_wait_for_the_answer_to_a_before_callback(tmp_path: Path) -> None:
    outcome = await frozen(tmp_path, rate=50, seconds=0.5, mix={"BeforeAddFriend": 1})
    before = outcome.phases["before"]
    assert before.failed == before.sent == outcome.lost > 0
    assert before.replies.percentile(50) * 1.01 >= 5000
    assert (before.dropped, before.blocked.count) == (0, 0)


async def test_a_refusal_is_no_loss(tmp_path: Path) -> None:
    async with listening(reply(REFUSAL)) as listener:
        words = "--rate", "50", "--seconds", "0.5", "--mix", "BeforeAddFriend=2"
        code, found = await simulate(*words, "--url", listener.url, folder=tmp_path)
    assert found["before"]["refused"] == found["before"]["sent"] > 0
    assert (code, found["lost"]) == (0, 0)


async def test_what_a_receiver_could_not_keep_is_lost(tmp_path: Path) -> None:
    async with listening(reply(b"{}", b"503 Service Unavailable")) as listener:
        words = "--rate", "50", "--seconds", "0.5", "--mix", "AfterAddFriend"
        code, found = await simulate(*words, "--url", listener.url, folder=tmp_path)
    assert found["after"]["failed"] == found["after"]["sent"] == found["lost"] > 0
    assert code == 1


async def test_people_get_a_table(tmp_path: Path) -> None:
    async with listening(reply(b"{}")) as listener:
        words = "--rate", "100", "--seconds", "0.5", "--url", listener.url
        command = await ran(BRIDGE, "simulate", *words, folder=tmp_path)
    lines = command.out.splitlines()
    assert lines[0].split() == ["before", "after"]
    assert [line.split()[0] for line in lines[1:7]] == [
        *("sent", "answered", "refused", "failed", "dropped", "unfinished")
    ]
    assert "OpenIM would have lost 0" in command.out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--url", "http://127.0.0.1:1/x"), 4, "nobody listens at 127.0.0.1:1"),
        (("--url", "127.0.0.1"), 2, "the URL must be like"),
        (("--mix", "Nonsense"), 2, "no callback is called Nonsense"),
        (("--mix", "AfterAddFriend=0"), 2, "a weight is a number above 0"),
        (("--mix", "AfterAddFriend=much"), 2, "much"),
    ],
)
async def test_what_cannot_be_done_is_said(
    tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    command = await ran(BRIDGE, "simulate", "--rate", "1", *words, folder=tmp_path)
    assert command.process.returncode == code
    assert sentence in command.err


@pytest.mark.parametrize("name", people.REALISTIC)
def test_callbacks_are_as_recorded_but_for_who_and_where(name: str) -> None:
    command, body = people.Bodies({name: 1}, users=1, groups=1).next()
    recorded, made = json.loads(openim.sample(name)[1]), json.loads(body)
    assert decode(command, body).command == command
    assert made.keys() == recorded.keys()
    changed = {key for key in made if made[key] != recorded[key]}
    assert changed <= people.USERS | people.GROUPS | people.IDS
    who = {made[key] for key in changed - people.IDS}
    assert who <= {"simulated-user-0", "simulated-group-0"}


async def test_two_connections_stay_and_others_are_closed_as_go_does() -> None:
    async with listening(reply(b"{}")) as listener, openim.process(listener.url) as process:
        await asyncio.gather(*(process.post(*openim.sample("AfterAddFriend")) for _ in "12345"))
        await until(lambda: listener.open == openim.IDLE)
        await process.post(*openim.sample("AfterAddFriend"))
        assert (listener.connections, process.connections) == (5, 5)
    assert not any(b"Connection: " in request for request in listener.requests)
