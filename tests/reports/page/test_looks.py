"""The page in the dark, on a telephone, on paper, and with hostile strings."""

from typing import Any

import pytest

from tests.reports.conftest import HOSTILE
from tests.reports.page.steps import choose


def test_hostile_strings_are_text(page: Any) -> None:
    page.execute_script("window.alert = () => { window.attacked = true; }")
    choose(page, "task", "hostile")
    choose(page, "prompt", "train.0")
    assert HOSTILE[0] in page.find_element("id", "prompt-text").text
    assert HOSTILE[0][:9] in page.find_element("id", "maps").get_attribute("textContent")
    assert page.execute_script("return window.attacked") is None
    assert page.execute_script("return document.scripts.length") == 2 + 2 + 1


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(page: Any, width: int, dark: bool) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
        lightness = sum(int(part) for part in background[4:-1].split(",")[:3])
        assert (lightness < 3 * 128) is dark
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_it_prints(page: Any) -> None:
    assert len(page.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 50_000
