"""Score maps and sweeps on the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reports.load import load
from reports.text import number, significant
from tests.reports.conftest import BETAS, LAYERS
from tests.reports.page.steps import DOWN, END, HOME, RIGHT, choose, point_at


def test_the_slider_walks_through_the_stored_sweep(page: Any, run_directory: Path) -> None:
    results = load(run_directory)
    (record,) = (r for r in results.of("smollm2-135m", "ccc") if r.method == "attr_patch")
    tensors = results.cell(record.id).tensors
    choose(page, "method", "attr_patch")
    slider = page.find_element("id", "beta")
    slider.send_keys(HOME)
    for place in (0, 1):
        text = page.find_element("id", "readings").text.split("\n")
        readings = dict(zip(text[::2], text[1::2], strict=True))
        for name, key in (("logit of the answer", "logit_answer"), ("P(foil)", "p_foil")):
            assert readings[name] == number(tensors[f"sweep.train.{key}"][0, place])
        beta = significant(np.float32(BETAS[place]))
        assert page.find_element("id", "beta-value").text == f"β = {beta}"
        slider.send_keys(RIGHT)
    tokens = page.find_elements("css selector", "#top li")
    assert [token.find_element("class name", "token").text for token in tokens] == ["␣the", "#8"]
    assert "beta=" in page.current_url
    choose(page, "prompt", "test.0")
    assert "No sweep of this prompt is stored" in page.find_element("id", "sweep-note").text
    slider.send_keys(END)
    largest = int(np.argmax(tensors["split.test.beta"]))
    assert number(tensors["split.test.ld"][0, largest]) in page.find_element("id", "readings").text


def test_maps_answer_to_pointer_and_keys(page: Any, run_directory: Path) -> None:
    choose(page, "method", "dla")
    first, second = page.find_elements("css selector", "#maps svg")
    assert len(first.find_elements("css selector", "rect")) == LAYERS * 23 + 1
    page.execute_script("arguments[0].focus()", second)
    point = page.find_element("id", "point")
    assert point.text == f"mlp_out · layer {LAYERS - 1} · ␣is · left out"
    second.send_keys(DOWN)
    results = load(run_directory)
    (record,) = (r for r in results.of("smollm2-135m", "ccc") if r.method == "dla")
    score = float(results.cell(record.id).tensors["scores"][1, LAYERS - 2, -1])
    text = point.text.partition("≈ ")[2].replace("\u2212", "-")
    assert float(text) == pytest.approx(score, rel=0.06)
    assert point.text.startswith(f"mlp_out · layer {LAYERS - 2} · ␣is · score")
    point_at(page, first)
    assert point.text.startswith("attn_out · layer ")


def test_what_has_no_result_says_so(page: Any) -> None:
    choose(page, "task", "hostile")
    choose(page, "method", "dla")
    assert "no result" in page.find_element("id", "maps-note").text
    assert not page.find_element("id", "sweep-box").is_displayed()
