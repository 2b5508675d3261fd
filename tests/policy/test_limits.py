"""How often somebody may do something."""

import pytest

from bridge.policy import limits
from bridge.policy.limits import Limit


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that limits see."""
    clock = Clock()
    monkeypatch.setattr(limits, "monotonic", clock)
    return clock


def taken(limit: Limit, key: str, times: int) -> list[bool]:
    """Say of each of several whether it exceeded."""
    return [limit.exceeded(key) for _ in range(times)]


@pytest.mark.usefixtures("clock")
def test_so_many_at_once_and_no_more() -> None:
    assert taken(Limit(3, 60), "user_a", 5) == [False, False, False, True, True]


@pytest.mark.usefixtures("clock")
def test_each_has_a_limit_of_their_own() -> None:
    limit = Limit(1, 60)
    assert [limit.exceeded(user) for user in ("user_a", "user_b", "user_a")] == [
        False,
        False,
        True,
    ]


def test_one_comes_back_at_a_time(clock: Clock) -> None:
    limit = Limit(3, 60)
    taken(limit, "user_a", 3)
    clock.now += 19.9
    assert taken(limit, "user_a", 1) == [True]
    clock.now += 0.2
    assert taken(limit, "user_a", 2) == [False, True]


def test_what_was_too_much_does_not_count(clock: Clock) -> None:
    limit = Limit(2, 10)
    taken(limit, "user_a", 100)
    clock.now += 10
    assert taken(limit, "user_a", 3) == [False, False, True]


def test_being_quiet_saves_up_no_more_than_all(clock: Clock) -> None:
    limit = Limit(2, 10)
    taken(limit, "user_a", 1)
    clock.now += 1000
    assert taken(limit, "user_a", 3) == [False, False, True]


def test_who_has_been_quiet_is_forgotten(clock: Clock) -> None:
    limit = Limit(2, 10)
    for number in range(100):
        limit.exceeded(f"user_{number}")
    clock.now += 11
    for number in range(100):
        limit.exceeded(f"other_{number}")
    assert len(limit) == 100


def test_only_so_many_are_remembered_and_they_are_the_latest(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_KEYS", 10)
    limit = Limit(1, 60)
    for number in range(100):
        clock.now += 0.001
        limit.exceeded(f"user_{number}")
    assert len(limit) == 10
    assert [limit.exceeded("user_99"), limit.exceeded("user_0")] == [True, False]
