"""The console in a real browser: what people see, and what happens when they act."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from bridge import openim
from bridge.contract import AfterAddFriendAgree, AfterUserOnline
from consumers.console.access import Role
from consumers.console.routes import TABS
from consumers.handlers import friend_verification
from consumers.registry import Reject
from tests import axe
from tests.brokers import Address, OwnBroker, RabbitMQ, started
from tests.browser import DESK, PHONE, Browser, Focused, chromium, looking_at
from tests.console import Console, console
from tests.test_console_events import ADD, SHOP, around, at_work, dead, shop

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

Driver: TypeAlias = webdriver.Chrome

LISTED = [tab.path for tab in TABS if tab.listed]

FOR_VIEWERS = {tab.path: tab.title for tab in TABS if tab.listed and tab.role != Role.ADMIN}

TOO_WIDE = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"

GROUND = "return getComputedStyle(document.body).backgroundColor"

SUBMIT = """
const form = document.querySelector("form");
form.action = arguments[0];
form.requestSubmit();
"""
"""Sends what a page has no button for, with the token that its forms have."""

ORDER = (
    *("Skip to content", "OpenIM bridge"),
    *(tab.title for tab in TABS if tab.listed and tab.role != Role.ADMIN),
    *("Callbacks", "Log out", "Replay 2", "Discard…", "Letters"),
)
"""What Tab leads to on the page of dead letters."""

REPLAY = '[action="/dead-letters/replay"] button'


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """The browser that the tests look with, one after the other."""
    with started(chromium()) as running:
        yield running


@pytest.fixture(scope="session")
def driver_without_scripts() -> Iterator[Driver]:
    """A browser that runs no script of a page."""
    off = {"profile.managed_default_content_settings.javascript": 2}
    with started(chromium(**off)) as running:
        yield running


@pytest.fixture(scope="session")
def axe_core(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The program of axe-core."""
    with started(axe.fetched(tmp_path_factory.mktemp("axe"))) as program:
        yield program


# Every page


@asynccontextmanager
async def lively(folder: Path, amqp_url: str, broker: Address) -> AsyncIterator[Console]:
    """Run a console that has something to show on each page."""
    async with (
        at_work(folder, amqp_url, shop(Reject("no such customer"))),
        at_work(folder, amqp_url, friend_verification.handlers),
        around(folder, amqp_url, broker) as (receiver, shown),
        shown.person("admin") as person,
    ):
        for command in (AfterUserOnline.command, AfterAddFriendAgree.command, ADD):
            await receiver.openim.post(*openim.sample(command))
        await person.event(ADD, "dead letter")
        await person.sees("/dead-letters", "no such customer")
        await person.sees("/friends", "is accepted by")
        await person.does("/setup/sample", command=ADD)
        paused = {"subscription": friend_verification.handlers.subscription, "reason": "a test"}
        await person.does("/subscriptions/pause", **paused)
        yield shown


async def pages(shown: Console) -> list[str]:
    """Give the paths of all pages."""
    async with shown.person("admin") as person:
        event = await person.event(ADD, "dead letter")
    letter = f"/dead-letter?subscription={SHOP}&id={event.partition('=')[2]}"
    return [*LISTED, event, letter, "/documents/callbacks.html", "/nothing"]


LOOKS = ((DESK, "light"), (PHONE, "dark"))

MISSING = "Failed to load resource: the server responded with a status of 404 (Not Found)"


async def test_every_page_is_for_everybody(  # noqa: PLR0913, PLR0917  # fixtures
    tmp_path: Path,
    amqp_url: str,
    broker: Address,
    driver: Driver,
    driver_without_scripts: Driver,
    axe_core: str,
) -> None:
    async with (
        lively(tmp_path, amqp_url, broker) as shown,
        looking_at(driver, shown.url) as browser,
        looking_at(driver_without_scripts, shown.url) as plain,
    ):
        found = {look: await looked_over(browser, look, ["/login"], axe_core) for look in LOOKS}
        await browser.logs_in("admin")
        paths = await pages(shown)
        inside = {look: await looked_over(browser, look, paths, axe_core) for look in LOOKS}
        await plain.logs_in("viewer")
        without_scripts = {path: await heading_and_buttons(plain, path) for path in paths}
    missing = {"/nothing": [f"SEVERE: {shown.url}/nothing - {MISSING}"]}
    assert found == {look: {} for look in LOOKS}
    assert inside == dict.fromkeys(LOOKS, missing)
    headings = {path: without_scripts[path][0] for path in FOR_VIEWERS}
    assert headings == FOR_VIEWERS
    # Whoever may only look has nothing to send; the page of all callbacks has no head of ours.
    assert {buttons for _, buttons in without_scripts.values()} == {"Log out", ""}


async def heading_and_buttons(browser: Browser, path: str) -> tuple[str, str]:
    """Give the heading of a page, and what its forms can have done."""
    await browser.opens(path)
    return await browser.text("h1"), await browser.text("form[method=post]")


async def looked_over(
    browser: Browser, look: tuple[int, str], paths: list[str], axe_core: str
) -> dict[str, list[str]]:
    """Give everything that is wrong with pages, looked at like this."""
    await browser.is_as(*look)
    found = {path: await wrong_with(browser, path, axe_core) for path in paths}
    return {path: wrong for path, wrong in found.items() if wrong}


async def wrong_with(browser: Browser, path: str, axe_core: str) -> list[str]:
    """Give everything that is wrong with a page."""
    await browser.opens(path)
    wide = ["one has to scroll to the side"] if await browser.runs(TOO_WIDE) else []
    wrong = await axe.violations(browser, axe_core)
    return [*wide, *wrong, *await browser.complaints()]


async def test_it_is_dark_where_the_system_is(tmp_path: Path, driver: Driver) -> None:
    async with console(tmp_path) as shown, looking_at(driver, shown.url) as browser:
        await browser.opens("/login")
        light = await browser.runs(GROUND)
        await browser.is_as(DESK, "dark")
        assert (light, await browser.runs(GROUND)) == ("rgb(245, 246, 248)", "rgb(15, 19, 25)")


# Live


async def test_a_callback_is_seen_at_once(
    tmp_path: Path, amqp_url: str, broker: Address, driver: Driver
) -> None:
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        looking_at(driver, shown.url) as browser,
    ):
        await browser.logs_in("viewer")
        await browser.sees("Unrouted\n0", "#live_figures")
        await browser.runs("window.loaded = 'once'")
        await receiver.openim.post(*openim.sample(AfterUserOnline.command))
        await browser.sees("AfterUserOnline", "#live_rates")
        await browser.sees("Unrouted\n1", "#live_figures")
        await browser.sees("1 callback that no subscription wanted", "#live_state")
        assert await browser.runs("return window.loaded") == "once"
        assert await browser.complaints() == []


async def test_an_outage_is_seen_as_it_happens(
    tmp_path: Path, own_broker: OwnBroker, spare_broker: RabbitMQ, driver: Driver
) -> None:
    where = Address(own_broker.amqp_url, spare_broker.management_url)
    async with (
        around(tmp_path, own_broker.amqp_url, where) as (receiver, shown),
        looking_at(driver, shown.url) as browser,
    ):
        await browser.logs_in("viewer")
        await browser.sees("All is well.", ".headline")
        await browser.runs("window.loaded = 'once'")
        await own_broker.stop()
        await browser.sees("RabbitMQ is away since", ".headline")
        await receiver.openim.post(*openim.sample(AfterUserOnline.command))
        await browser.sees("Nothing is lost: 1 callbacks wait in the journal", "#live_state")
        await browser.sees("RabbitMQ\naway", "#live_figures .bad")
        await own_broker.start()
        await browser.sees("RabbitMQ\nup", "#live_figures")
        await browser.sees("1 callback that no subscription wanted", ".headline")
        assert await browser.runs("return window.loaded") == "once"


# What people do


async def test_dead_letters_are_replayed_by_a_click_of_who_may(
    tmp_path: Path, amqp_url: str, broker: Address, driver: Driver
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, opened),
        looking_at(driver, shown.url) as browser,
    ):
        await browser.logs_in("viewer")
        await browser.clicks('a[href="/dead-letters"]')
        await browser.sees("closed to #", "#live_letters")
        assert await browser.text("button") == "Log out"
        await browser.runs(SUBMIT, "/dead-letters/replay")
        await browser.sees("This needs the role operator", "[role=alert]")
        await browser.logs_in("operator")
        await browser.clicks('a[href="/dead-letters"]')
        await browser.sees("Replay 2", "#live_letters")
        opened.set()
        await browser.clicks(REPLAY)
        await browser.sees("Replayed 2 of shop, by operator@console", "#live_job")
        await browser.sees("No dead letters.", "#live_letters")


async def test_the_keyboard_is_enough(
    tmp_path: Path, amqp_url: str, broker: Address, driver: Driver
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, opened),
        looking_at(driver, shown.url) as browser,
    ):
        await browser.logs_in("operator")
        await browser.tabs_to("Dead letters")
        await browser.presses(Keys.ENTER)
        await browser.sees("Replay 2", "#live_letters")
        way = [await browser.tabs() for _ in range(len(ORDER))]
        assert way == [Focused(text, visible=True) for text in ORDER]
        await browser.presses(Keys.SHIFT, Keys.TAB, Keys.TAB)
        opened.set()
        await browser.presses(Keys.ENTER)
        await browser.sees("Replayed 2", "#live_job")


async def test_the_skip_link_leads_to_the_content(tmp_path: Path, driver: Driver) -> None:
    async with console(tmp_path) as shown, looking_at(driver, shown.url) as browser:
        await browser.logs_in("viewer")
        await browser.tabs()
        await browser.presses(Keys.ENTER)
        assert await browser.runs("return document.activeElement.id") == "main"


async def test_it_works_without_scripts(
    tmp_path: Path, amqp_url: str, broker: Address, driver_without_scripts: Driver
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, opened),
        shown.person("operator") as person,
        looking_at(driver_without_scripts, shown.url) as browser,
    ):
        await person.sees("/dead-letters", "Replay 2")
        await browser.logs_in("operator")
        await browser.sees("Without JavaScript nothing changes by itself", "footer")
        await browser.clicks('a[href="/events"]')
        await browser.sees("2 events in the index")
        await browser.types("[name=command]", "AfterAddFriend\n")
        await browser.clicks(".events tbody a")
        await browser.sees("It became a dead letter at attempt 1")
        await browser.clicks('a[href="/dead-letters"]')
        opened.set()
        await browser.clicks(REPLAY)
        await person.sees("/dead-letters", "Replayed 2")
        await browser.opens("/dead-letters")
        await browser.sees("Replayed 2 of shop, by operator@console")
        await browser.clicks('a[href="/subscriptions"]')
        await browser.clicks(".acts summary")
        await browser.types("[name=reason]", "the shop moves\n")
        await browser.sees("shop is paused: its workers stop within seconds.")
        await browser.sees("Paused by operator@console since")
        await browser.clicks('[action="/subscriptions/resume"] button')
        await browser.sees("shop goes on: its workers begin within seconds.")
        await browser.sees("Pause…", ".acts")
