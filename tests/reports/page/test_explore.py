"""Score maps and sweeps on the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.support.wait import WebDriverWait

from bench.store.results import RunStore
from reports import html
from reports.load import Results
from reports.text import number, significant
from tests.reports.cells import BETAS, LAYERS, make_cell, stored
from tests.reports.page.steps import DOWN, END, HOME, RIGHT, choose, scheme, screen, text


def test_the_slider_walks_through_the_stored_sweep(page: Any, results: Results) -> None:
    tensors = results.cell("ccc-attr_patch-0-0").tensors
    choose(page, method="attr_patch")
    slider = page.find_element("id", "beta")
    slider.send_keys(HOME)
    for place in (0, 1):
        words = text(page, "readings").split("\n")
        readings = dict(zip(words[::2], words[1::2], strict=True))
        for name, key in (("logit of the answer", "logit_answer"), ("P(foil)", "p_foil")):
            assert readings[name] == number(tensors[f"sweep.train.{key}"][0, place])
        beta = significant(np.float32(BETAS[place]))
        assert text(page, "beta-value") == f"β = {beta}"
        slider.send_keys(RIGHT)
    tokens = page.find_elements("css selector", "#top li")
    assert [token.find_element("class name", "token").text for token in tokens] == ["␣the", "#8"]
    assert "beta=" in page.current_url
    choose(page, prompt="test.0")
    assert "No sweep of this prompt is stored" in text(page, "sweep-note")
    slider.send_keys(END)
    largest = int(np.argmax(tensors["split.test.beta"]))
    assert number(tensors["split.test.ld"][0, largest]) in text(page, "readings")


def test_maps_answer_to_pointer_and_keys(page: Any, results: Results) -> None:
    choose(page, method="dla")
    first, second = page.find_elements("css selector", "#maps svg")
    assert len(first.find_elements("css selector", "rect")) == LAYERS * 23 + 1
    page.execute_script("arguments[0].focus()", second)
    point = page.find_element("id", "point")
    assert point.text == f"mlp_out · layer {LAYERS - 1} · ␣is · left out"
    second.send_keys(DOWN)
    score = float(results.cell("ccc-dla-0-0").tensors["scores"][1, LAYERS - 2, -1])
    shown = point.text.partition("≈ ")[2].replace("\u2212", "-")
    assert float(shown) == pytest.approx(score, rel=0.06)
    assert point.text.startswith(f"mlp_out · layer {LAYERS - 2} · ␣is · score")
    ActionChains(page).move_to_element(first).perform()
    assert point.text.startswith("attn_out · layer ")


def test_maps_answer_to_a_finger_and_the_reading_stays_in_sight(page: Any) -> None:
    screen(page, 400, 700)
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    first = page.find_element("css selector", "#maps svg")
    place = "arguments[0].scrollIntoView(); const box = arguments[0].getBoundingClientRect();"
    where = page.execute_script(
        f"{place} return [box.left + box.width / 2, box.top + box.height / 3]", first
    )
    point = {"x": round(where[0]), "y": round(where[1])}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    reading = page.find_element("id", "point")
    assert reading.text.startswith("attn_out · layer ")
    box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", reading)
    assert 0 <= box["top"] < box["bottom"] <= 700


def test_every_method_offers_the_prompts_it_was_asked(
    small_store: RunStore, opened: Callable[[Path], Any]
) -> None:
    """One of them has more train prompts, the first two of which it shares; one is undefined."""
    record, tensors = make_cell("ccc", "dla")
    train = [record.prompts["test"][4], *record.prompts["train"][:2]]
    tensors["split.train.ld"][2] = np.nan
    record = record.model_copy(update={"prompts": record.prompts | {"train": train}})
    unswept = {name: of for name, of in tensors.items() if not name.startswith("sweep")}
    results = stored(small_store, make_cell("ccc", "attr_patch"), (record, unswept))
    file = small_store.directory / "index.html"
    file.write_text(html.page(results, []), "utf-8")
    page = opened(file)
    prompts = page.find_element("id", "prompt")
    choose(page, method="attr_patch", prompt="train.1")
    shown = text(page, "prompt-text")
    choose(page, method="dla")
    assert text(page, "prompt-text") == shown
    assert prompts.get_attribute("value") == "train.2"
    assert text(page, "curves-key").startswith("No number of this prompt")
    assert "undefined" in text(page, "readings")
    assert "∞" not in text(page, "explore")
    choose(page, prompt="train.0")
    assert text(page, "curves-key") == "LD against β"
    assert record.prompts["test"][4].clean in text(page, "prompt-text")
    choose(page, method="attr_patch")
    assert len(prompts.find_elements("css selector", "option")) == 4 + 12 + 12


def test_the_note_of_a_map_says_what_it_is_a_mean_of_and_where_there_is_none(page: Any) -> None:
    choose(page, task="hostile")
    notes = {
        "grad_scalar": "averaged over 4 train prompts;",
        "dyn_scalar": "averaged over 4 train prompts, averaged over 2 seeds;",
        "random": "one for all prompts, averaged over 5 draws;",
        "steer_vec": "one for all prompts;",
    }
    for method, said in notes.items():
        choose(page, method=method)
        note = text(page, "maps-note")
        assert f"Raw scores of {method}, {said}" in note
        assert "blue favours the answer, orange with a dash the foil" in note
    choose(page, method="dyn_scalar")
    assert "Of seed 0, the first of 2." in text(page, "sweep-note")
    choose(page, method="dla")
    assert "no result" in text(page, "maps-note")
    assert not page.find_element("id", "sweep-box").is_displayed()


def test_negative_scores_have_a_dash_by_day_and_by_night(page: Any, results: Results) -> None:
    choose(page, method="dla")
    scores = results.cell("ccc-dla-0-0").tensors["scores"]
    shares = (scores / np.nanmax(np.abs(scores))).astype("f2")
    count = (
        "return [...document.querySelectorAll('#maps path.dash')]"
        ".map(path => path.getAttribute('d').split('M').length - 1).reduce((a, b) => a + b)"
    )
    fills = (
        "return [...document.querySelectorAll('#maps rect[fill]')]"
        ".map(rect => rect.getAttribute('fill'))"
    )
    seen: list[list[str]] = []
    for name in ("light", "dark"):
        scheme(page, name)
        # Chromium tells the page of another scheme some time after the command came back.
        WebDriverWait(page, 10).until(lambda page: page.execute_script(fills) not in seen)
        assert page.execute_script(count) == np.sum(shares <= -0.1)
        seen.append(page.execute_script(fills))
    assert seen[0] != seen[1]


def test_no_label_of_the_sweep_is_cut(page: Any) -> None:
    outside = (
        "const frame = document.getElementById('curves').getBoundingClientRect();"
        "return [...document.querySelectorAll('#curves text')].map(one => ["
        "one.textContent, one.getBoundingClientRect()]).filter(([, box]) => box.left < frame.left"
        " || box.right > frame.right || box.bottom > frame.bottom).map(([text]) => text)"
    )
    for method in ("attr_patch", "activ_scalar"):
        for prompt in ("train.0", "test.1", "test.2"):
            choose(page, method=method, prompt=prompt)
            assert page.execute_script(outside) == []
