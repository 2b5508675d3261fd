"""The type checker of an App refuses handlers that could not work."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

APP = """
from collections.abc import Sequence

from bridge.contract import (
    AfterAddFriend, AfterAddFriendAgree, AfterSendMsg, AfterSendSingleMsg, Allow,
    BeforeAddFriend, BeforeCreateGroup, ChangeCreateGroup, FriendEvent, Refuse,
)
from consumers.decisions import Decisions, Question
from consumers.registry import BatchContext, Context, Handlers

handlers = Handlers("app")
decisions = Decisions("app")

@handlers.on(AfterAddFriend)
async def the_event(event: AfterAddFriend) -> None: ...

@handlers.on(AfterAddFriend)
async def with_context(event: AfterAddFriend, context: Context) -> None: ...

@handlers.on(AfterAddFriend)
async def a_base_class(event: FriendEvent) -> None: ...

@handlers.on_batch(AfterSendMsg)
async def a_batch(events: Sequence[AfterSendMsg], context: BatchContext) -> None: ...

@decisions.on(BeforeCreateGroup)
async def a_change(event: BeforeCreateGroup) -> Allow | ChangeCreateGroup: ...

@decisions.on(BeforeAddFriend)
async def a_refusal(event: BeforeAddFriend, question: Question) -> Refuse: ...

@handlers.on(AfterAddFriend)  # refused
async def another_event(event: AfterAddFriendAgree) -> None: ...

@handlers.on(AfterSendMsg)  # refused
async def only_some_of_them(event: AfterSendSingleMsg) -> None: ...

@handlers.on(AfterAddFriend)  # refused
async def another_context(event: AfterAddFriend, context: BatchContext) -> None: ...

@handlers.on_batch(AfterSendMsg)  # refused
async def one_at_a_time(event: AfterSendMsg) -> None: ...

@decisions.on(AfterAddFriend)  # refused
async def nothing_to_decide(event: AfterAddFriend) -> Allow: ...

@decisions.on(BeforeAddFriend)  # refused
async def no_decision(event: BeforeAddFriend) -> None: ...

@decisions.on(BeforeAddFriend)  # refused
async def anothers_change(event: BeforeAddFriend) -> ChangeCreateGroup: ...
"""


def test_handlers_of_the_wrong_type_are_refused_and_no_others(tmp_path: Path) -> None:
    app = tmp_path / "app.py"
    app.write_text(APP)
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mypy", "--strict", "--disable-error-code=empty-body", str(app)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found = {int(line) for line in re.findall(r"app\.py:(\d+): error", done.stdout)}
    lines = APP.splitlines()
    assert found == {n for n, line in enumerate(lines, 1) if "# refused" in line}, done.stdout
