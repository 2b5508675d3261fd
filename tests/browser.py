"""Debian's Chromium, to look at pages as people do: by keyboard, on a phone, in the dark."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from private_services import CannotStart, install
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.console import PASSWORD
from tests.running import eventually

T = TypeVar("T")

DESK, PHONE = 1280, 360
"""Widths in pixels of what people look with."""

HEIGHT = 900

_FOCUSED = """
const it = document.activeElement;
const style = getComputedStyle(it), box = it.getBoundingClientRect();
const name = it.labels && it.labels.length ? it.labels[0] : it;
return [name.innerText.trim(),
  style.outlineStyle === "solid" && parseFloat(style.outlineWidth) >= 2 &&
  box.bottom > 0 && box.top < innerHeight && box.right > 0];
"""


@dataclass(frozen=True)
class Focused:
    """What the keyboard has."""

    text: str
    """What it says, or is called."""
    visible: bool
    """Whether one sees that it is what the keyboard has."""


class Browser:
    """A browser, of which each act is done in a thread, as it waits for the page.

    Args:
        driver: Selenium's.
        url: Of the console.

    """

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        self._url = url

    async def _do(self, act: Callable[[webdriver.Chrome], T]) -> T:
        return await asyncio.to_thread(act, self._driver)

    async def opens(self, path: str) -> None:
        """Load a page."""
        await self._do(lambda driver: driver.get(self._url + path))

    async def logs_in(self, role: str) -> None:
        """Come in as the user of a role, by the keyboard: it begins in the first field."""
        await self.opens("/login")
        await self.presses(role, Keys.TAB, PASSWORD, Keys.ENTER)
        await self.sees("Overview", "h1")

    async def presses(self, *keys: str) -> None:
        """Press keys, wherever the keyboard is."""
        await self._do(lambda driver: driver.switch_to.active_element.send_keys(*keys))

    async def focused(self) -> Focused:
        """Say what the keyboard has."""
        return Focused(*await self.runs(_FOCUSED))

    async def tabs(self) -> Focused:
        """Press Tab, and say what the keyboard has then."""
        await self.presses(Keys.TAB)
        return await self.focused()

    async def tabs_to(self, text: str) -> Focused:
        """Press Tab until the keyboard has something that says `text`."""
        return await eventually(self.tabs, lambda focused: focused.text == text)

    async def clicks(self, css: str) -> None:
        """Click on the first that fits."""
        await self._do(lambda driver: driver.find_element(By.CSS_SELECTOR, css).click())

    async def types(self, css: str, text: str) -> None:
        """Type into the first that fits."""
        await self._do(lambda driver: driver.find_element(By.CSS_SELECTOR, css).send_keys(text))

    async def text(self, css: str = "main") -> str:
        """Give what is seen of all that fit; what is replaced while one looks is nothing."""

        def look(driver: webdriver.Chrome) -> str:
            try:
                found = driver.find_elements(By.CSS_SELECTOR, css)
                return "\n".join(each.text for each in found)
            except WebDriverException:
                return ""

        return await self._do(look)

    async def sees(self, text: str, css: str = "main") -> str:
        """Wait until a text is seen on the page, without loading it again."""
        return await eventually(lambda: self.text(css), lambda seen: text in seen)

    async def runs(self, script: str, *arguments: object) -> Any:  # noqa: ANN401  # any JSON
        """Run JavaScript in the page; give what it returns."""
        return await self._do(lambda driver: driver.execute_script(script, *arguments))

    async def runs_until_done(self, script: str) -> Any:  # noqa: ANN401  # any JSON
        """Run JavaScript that calls its last argument when it is done; give what with."""
        return await self._do(lambda driver: driver.execute_async_script(script))

    async def complaints(self) -> list[str]:
        """Give what the browser has complained about since it was last asked."""
        logged: list[dict[str, Any]] = await self._do(
            lambda driver: driver.get_log("browser")  # type: ignore[no-untyped-call]
        )
        return [f"{each['level']}: {each['message']}" for each in logged]

    async def is_as(self, width: int, scheme: str) -> None:
        """Be so wide, and prefer `light` or `dark`."""
        metrics = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        await self.asks("Emulation.setDeviceMetricsOverride", **metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.asks("Emulation.setEmulatedMedia", features=features)

    async def asks(self, command: str, **arguments: object) -> Any:  # noqa: ANN401  # any JSON
        """Ask for something of the Chrome DevTools Protocol."""
        return await self._do(lambda driver: driver.execute_cdp_cmd(command, arguments))


@contextmanager
def chromium(**settings: object) -> Iterator[webdriver.Chrome]:
    """Run a browser during the block, installed if it is missing.

    Args:
        settings: Of Chromium's, such as `profile` for what begins with that.

    Raises:
        CannotStart: it is not there, and we may not install it.

    """
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        install("chromium", "chromium-driver")
    options = webdriver.ChromeOptions()
    # Named, so that Selenium does not look for one elsewhere.
    options.binary_location = str(shutil.which("chromium"))
    service = Service(str(shutil.which("chromedriver")))
    for word in ("--headless=new", "--no-proxy-server", "--disable-dev-shm-usage"):
        options.add_argument(word)
    if os.geteuid() == 0:
        # Its sandbox is for other users than this one.
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", settings)
    try:
        driver = webdriver.Chrome(options, service)
    except WebDriverException as error:
        raise CannotStart(f"Chromium does not start: {error.msg}") from error
    try:
        yield driver
    finally:
        driver.quit()


@asynccontextmanager
async def looking_at(driver: webdriver.Chrome, url: str) -> AsyncIterator[Browser]:
    """Look at a console during the block, as nobody who was there before."""
    browser = Browser(driver, url)
    await browser.asks("Network.clearBrowserCookies")
    await browser.is_as(DESK, "light")
    try:
        yield browser
    finally:
        await browser.complaints()
        # A live page would look for its console again and again.
        await asyncio.to_thread(driver.get, "about:blank")
