"""The page in a real browser, opened from disk without a network."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results import RunStore
from reports import html
from reports.load import load
from reports.payload import blocks
from reports.present import formatted
from reports.tables.leaderboard import leaderboard
from reports.text import number, significant
from reports.write import ReportOptions, write_report
from tests.reports.conftest import BETAS, HOSTILE, LAYERS, make_cell

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium and chromedriver here (Debian: chromium, chromium-driver)",
)
Browser = Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def index(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ReportOptions(figures=["leaderboard", "critical"])
    return write_report(run_directory, tmp_path_factory.mktemp("out") / "report", options)


@pytest.fixture
def page(browser: Browser, index: Path) -> Iterator[Browser]:
    browser.get("about:blank")
    browser.get(index.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def shown(page: Browser) -> Any:
    (section,) = (
        one for one in page.find_elements(By.CSS_SELECTOR, "section.pair") if one.is_displayed()
    )
    return section


def rows(page: Browser) -> list[list[str]]:
    script = (
        "return [...document.querySelectorAll('section.pair.shown table.board tbody tr')]"
        ".filter(row => !row.hidden).map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return [[" ".join(text.split()) for text in row] for row in page.execute_script(script)]


def choose(page: Browser, name: str, value: str) -> None:
    for option in page.find_elements(By.CSS_SELECTOR, f"#{name} option"):
        if option.get_attribute("value") == value:
            option.click()
            return
    raise AssertionError(f"no {value} in {name}")


def test_one_pair_is_shown_and_a_link_keeps_it(page: Browser, index: Path) -> None:
    assert shown(page).get_attribute("data-task") == "ccc"
    choose(page, "task", "hostile")
    assert shown(page).get_attribute("data-task") == "hostile"
    choose(page, "method", "steer_vec")
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    assert shown(page).get_attribute("data-task") == "hostile"
    assert page.find_element(By.ID, "method").get_attribute("value") == "steer_vec"
    assert address.startswith(index.as_uri())


def test_columns_sort_by_their_numbers(page: Browser) -> None:
    before = rows(page)
    header = [cell.text for cell in shown(page).find_elements(By.CSS_SELECTOR, "thead th")]
    column = next(place for place, text in enumerate(header) if text.startswith("seconds"))
    column = next(place for place, text in enumerate(header) if text.startswith("E₀ train"))
    button = shown(page).find_elements(By.CSS_SELECTOR, "thead button")[column - 1]
    page.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    values = [row[column].split(" ")[0].replace("\u2212", "-") for row in rows(page)]
    numbers = [float(value) for value in values if value != "\u2013"]
    assert numbers == sorted(numbers, reverse=True)
    button = shown(page).find_elements(By.CSS_SELECTOR, "thead button")[column - 1]
    button.send_keys(Keys.ENTER)
    values = [row[column].split(" ")[0].replace("\u2212", "-") for row in rows(page)]
    assert [float(v) for v in values if v != "\u2013"] == sorted(numbers)
    assert sorted(rows(page)) == sorted(before)
    assert "sort=" in page.current_url


def test_the_filter_leaves_what_it_names(page: Browser) -> None:
    page.find_element(By.ID, "filter").send_keys("patch")
    assert {row[0] for row in rows(page)} == {
        "activ_patch",
        "activ_patch[direction=denoising]",
        "attr_patch",
        "shuffled[of=activ_patch]",
    }
    page.find_element(By.ID, "controls").click()
    assert "shuffled[of=activ_patch]" not in {row[0] for row in rows(page)}
    assert page.find_element(By.ID, "count").text == "3 of 11 rows"


def test_numbers_are_those_of_the_tables_after_scripts_ran(
    page: Browser, run_directory: Path
) -> None:
    board = formatted(leaderboard(load(run_directory), "smollm2-135m", "ccc"))
    expected = board.drop(columns="status").to_numpy().tolist()
    found = rows(page)
    for row in found:
        del row[3]  # the small plot
    assert found == expected


def test_the_slider_walks_through_the_stored_sweep(page: Browser, run_directory: Path) -> None:
    results = load(run_directory)
    (record,) = (r for r in results.of("smollm2-135m", "ccc") if r.method == "attr_patch")
    tensors = results.cell(record.id).tensors
    choose(page, "method", "attr_patch")
    slider = page.find_element(By.ID, "beta")
    slider.send_keys(Keys.HOME)
    for place in (0, 1):
        text = page.find_element(By.ID, "readings").text.split("\n")
        readings = dict(zip(text[::2], text[1::2], strict=True))
        for name, key in (("logit of the answer", "logit_answer"), ("P(foil)", "p_foil")):
            assert readings[name] == number(tensors[f"sweep.train.{key}"][0, place])
        beta = significant(np.float32(BETAS[place]))
        assert page.find_element(By.ID, "beta-value").text == f"β = {beta}"
        slider.send_keys(Keys.ARROW_RIGHT)
    tokens = page.find_elements(By.CSS_SELECTOR, "#top li")
    assert [token.find_element(By.CLASS_NAME, "token").text for token in tokens] == ["␣the", "#8"]
    assert "beta=" in page.current_url
    choose(page, "prompt", "test.0")
    assert "No sweep of this prompt is stored" in page.find_element(By.ID, "sweep-note").text
    slider.send_keys(Keys.END)
    largest = int(np.argmax(tensors["split.test.beta"]))
    assert number(tensors["split.test.ld"][0, largest]) in page.find_element(By.ID, "readings").text


def test_maps_answer_to_pointer_and_keys(page: Browser, run_directory: Path) -> None:
    choose(page, "method", "dla")
    first, second = page.find_elements(By.CSS_SELECTOR, "#maps svg")
    assert len(first.find_elements(By.CSS_SELECTOR, "rect")) == LAYERS * 23 + 1
    page.execute_script("arguments[0].focus()", second)
    point = page.find_element(By.ID, "point")
    assert point.text == f"mlp_out · layer {LAYERS - 1} · ␣is · left out"
    second.send_keys(Keys.ARROW_DOWN)
    results = load(run_directory)
    (record,) = (r for r in results.of("smollm2-135m", "ccc") if r.method == "dla")
    score = float(results.cell(record.id).tensors["scores"][1, LAYERS - 2, -1])
    text = point.text.partition("≈ ")[2].replace("\u2212", "-")
    assert float(text) == pytest.approx(score, rel=0.06)
    assert point.text.startswith(f"mlp_out · layer {LAYERS - 2} · ␣is · score")
    action = webdriver.ActionChains(page)
    action.move_to_element(first).perform()
    assert point.text.startswith("attn_out · layer ")


def test_hostile_strings_are_text(page: Browser) -> None:
    page.execute_script("window.alert = () => { window.attacked = true; }")
    choose(page, "task", "hostile")
    choose(page, "prompt", "train.0")
    assert HOSTILE[0] in page.find_element(By.ID, "prompt-text").text
    assert HOSTILE[0][:9] in page.find_element(By.ID, "maps").get_attribute("textContent")
    assert page.execute_script("return window.attacked") is None
    assert page.execute_script("return document.scripts.length") == 2 + 2 + 1


def test_what_has_no_result_says_so(page: Browser) -> None:
    choose(page, "task", "hostile")
    choose(page, "method", "dla")
    assert "no result" in page.find_element(By.ID, "maps-note").text
    assert not page.find_element(By.ID, "sweep-box").is_displayed()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(page: Browser, width: int, dark: bool) -> None:
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


def test_it_prints(page: Browser) -> None:
    assert len(page.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 50_000


def test_a_run_of_2000_cells_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    made = {method: make_cell("ccc", method) for method in ("dla", "activ_scalar", "random")}
    for place in range(2000):
        method = ("dla", "activ_scalar")[place % 2] if place % 12 < 2 else "random"
        record, tensors = made[method]
        changes = {"id": f"c{place}", "task": f"task{place // 100}", "method": f"{method}-{place}"}
        store.write(record.model_copy(update=changes), tensors)
    index = tmp_path / "index.html"
    index.write_text(html.page(load(store.directory), []), "utf-8")
    assert index.stat().st_size < 20_000_000
    browser.get("about:blank")
    start = time.perf_counter()
    browser.get(index.as_uri())
    assert browser.find_element(By.CSS_SELECTOR, "#maps svg").is_displayed()
    assert time.perf_counter() - start < 3
    assert browser.get_log("browser") == []


def test_over_the_budget_controls_give_way_first(run_directory: Path) -> None:
    results = load(run_directory)
    whole = [json.loads(block) for block in blocks(results)]
    methods = [entry for block in whole for entry in block["methods"]]
    size = sum(len(json.dumps(entry)) for entry in methods if not entry["control"])
    part = [json.loads(block) for block in blocks(results, budget=size + 100)]
    for entry in (entry for block in part for entry in block["methods"]):
        assert ("left out" in entry.get("missing", "")) is entry["control"]
