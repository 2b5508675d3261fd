"""Handlers are registered once, for the events they take."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.contract import (
    EVENTS,
    After,
    AfterAddFriend,
    AfterAddFriendAgree,
    AfterSendGroupMsg,
    AfterSendMsg,
    AfterSendSingleMsg,
    Event,
)
from consumers.modules import load
from consumers.registry import BadHandlers, Context, Handle, Handlers


def test_a_handler_takes_its_event_and_no_other() -> None:
    handlers = Handlers("one")

    @handlers.on(AfterAddFriend)
    async def note(_event: AfterAddFriend) -> None: ...

    handler = handlers.of(AfterAddFriend)
    assert handler is not None
    assert handler.name == "one.note"
    assert handlers.of(AfterAddFriendAgree) is None
    assert handlers.events == ("friend.after.add_friend",)


def test_a_base_class_stands_for_all_below_it() -> None:
    handlers = Handlers("messages")

    @handlers.on(AfterSendMsg)
    async def archive(_event: AfterSendMsg, _context: Context) -> None: ...

    assert handlers.of(AfterSendSingleMsg) is handlers.of(AfterSendGroupMsg) is not None
    assert handlers.events == (
        "message.after.send_group_msg",
        "message.after.send_single_msg",
    )


def test_every_event_can_be_taken_at_once() -> None:
    handlers = Handlers("everything")

    @handlers.on(Event)
    async def note(_event: Event) -> None: ...

    assert len(handlers.events) == len(EVENTS) == 52


def test_two_handlers_of_one_event_need_two_subscriptions() -> None:
    handlers = Handlers("twice")

    @handlers.on(After)
    async def first(_event: After) -> None: ...

    with pytest.raises(BadHandlers, match="second and first both take AfterAddFriend"):

        @handlers.on(AfterAddFriend)
        async def second(_event: AfterAddFriend) -> None: ...


def test_a_handler_must_be_async() -> None:
    def blocking(_event: AfterAddFriend) -> None: ...

    with pytest.raises(BadHandlers, match="blocking must be an async function"):
        Handlers("sync").on(AfterAddFriend)(blocking)  # type: ignore[arg-type]


async def takes_nothing() -> None: ...


async def takes_three(_event: Event, _context: Context, _third: object) -> None: ...


@pytest.mark.parametrize("function", [takes_nothing, takes_three])
def test_a_handler_must_take_what_it_is_given(function: Handle[Event]) -> None:
    with pytest.raises(BadHandlers, match="must take an event, or an event and a context"):
        Handlers("parameters").on(Event)(function)


def test_a_parameter_by_name_is_the_functions_own() -> None:
    handlers = Handlers("parameters")

    @handlers.on(AfterAddFriend)
    async def note(_event: AfterAddFriend, *, again: bool = False) -> None: ...

    handler = handlers.of(AfterAddFriend)
    assert handler is not None
    assert not handler.wants_context


def test_a_batch_has_a_size_and_no_order() -> None:
    async def archive(_events: Sequence[AfterSendMsg]) -> None: ...

    with pytest.raises(BadHandlers, match="most=0 is not between 1 and 5000"):
        Handlers("batches").on_batch(AfterSendMsg, most=0)(archive)
    with pytest.raises(BadHandlers, match="in_order is ordered: batches have no order by key"):
        Handlers("in_order", ordered=True).on_batch(AfterSendMsg)(archive)
    handlers = Handlers("batches")
    handlers.on_batch(AfterSendMsg, most=7)(archive)
    (handler,) = handlers.batches
    assert handler.batching is not None
    assert (handler.batching.most, handler.batching.within) == (7, 1.0)


@pytest.mark.parametrize("kind", ["AfterAddFriend", int, None])
def test_only_events_are_handled(kind: type[Event]) -> None:
    with pytest.raises(BadHandlers, match="is no event; take a class such as AfterAddFriend"):
        Handlers("kinds").on(kind)


@pytest.mark.parametrize("name", ["", "A", "a-b", "a.b", "1a", "a" * 61, "a b", "é"])
def test_a_subscription_has_a_name_that_queues_can_have(name: str) -> None:
    with pytest.raises(BadHandlers, match="cannot name a subscription"):
        Handlers(name)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that modules are imported from."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


MODULE = """
from bridge.contract import AfterAddFriend
from consumers.registry import Handlers

x = Handlers("x")

@x.on(AfterAddFriend)
async def note(event):
    pass
"""


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    sys.modules.pop(name, None)


def test_handlers_are_found_in_modules_of_the_app(modules: Path) -> None:
    write(modules, "app_one", MODULE)
    write(modules, "app_two", "from app_one import x\n")
    assert [handlers.subscription for handlers in load(["app_one", "app_two"]).handlers] == [
        "x"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no Handlers or Decisions in it"),
        ("import nowhere_to_be_found", "cannot be imported: No module named 'nowhere_"),
        ("raise SystemExit(0)", "cannot be imported: SystemExit: 0"),
        ("x = Handlers(", r"cannot be imported: '\(' was never closed \(app_bad.py, line 1\)"),
        (f"{MODULE}y = Handlers('y')\n", "no function of app_bad handles anything for y"),
        (f"{MODULE}y = x\n{MODULE}", "two subscriptions are called x"),
    ],
)
def test_a_module_that_is_no_use_is_named(modules: Path, text: str, problem: str) -> None:
    write(modules, "app_bad", text)
    with pytest.raises(BadHandlers, match=problem):
        load(["app_bad"])
