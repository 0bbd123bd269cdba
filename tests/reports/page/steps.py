"""What the tests of the page do with it."""

import time
from typing import Any

ENTER, TAB, HOME, END = "\ue007", "\ue004", "\ue011", "\ue010"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
"""Keys, as WebDriver calls them."""


def screen(page: Any, width: int, height: int) -> None:
    """Show the page on a screen of some pixels, below 500 that of a telephone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def scheme(page: Any, name: str) -> None:
    """Show the page by day (`light`) or by night (`dark`)."""
    features = [{"name": "prefers-color-scheme", "value": name}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def shown(page: Any) -> Any:
    (section,) = (
        one for one in page.find_elements("css selector", "section.pair") if one.is_displayed()
    )
    return section


def rows(page: Any) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll('section.pair.shown table.board tbody tr')]"
        ".filter(row => !row.hidden).map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return [[" ".join(text.split()) for text in row] for row in page.execute_script(script)]


def choose(page: Any, **chosen: str) -> None:
    """Choose from the page's lists, each by its name."""
    for name, value in chosen.items():
        page.find_element("css selector", f'#{name} option[value="{value}"]').click()


def text(page: Any, name: str) -> str:
    """What stands in the element of that name."""
    return str(page.find_element("id", name).text)


def press(page: Any, key: str) -> None:
    """Press a key, wherever the focus is."""
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(key).perform()


def wait_for(page: Any, condition: str, seconds: float = 5.0) -> None:
    """Wait until a condition holds: the browser tells of a new address a moment later."""
    end = time.monotonic() + seconds
    while not page.execute_script(f"return {condition}"):
        assert time.monotonic() < end, condition
        time.sleep(0.02)
