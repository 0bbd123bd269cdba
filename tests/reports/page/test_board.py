"""The leaderboard on the page: its numbers, sorting, filtering, links."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.reports.page.steps import ENTER, choose, rows, shown, text, wait_for


def test_links_to_and_within_the_page_keep_what_is_chosen(page: Any) -> None:
    assert shown(page).get_attribute("data-task") == "ccc"
    choose(page, task="hostile", method="steer_vec")
    for part in ("explore", "reading"):
        link = page.find_element("css selector", f"nav a[data-part={part}]")
        page.execute_script("arguments[0].focus()", link)
        link.send_keys(ENTER)
        wait_for(page, f"document.activeElement.id === '{part}'")
        top = "return document.getElementById(arguments[0]).getBoundingClientRect().top"
        assert -1 <= page.execute_script(top, part) < 400
        for _ in ("as it is", "opened again"):
            assert shown(page).get_attribute("data-task") == "hostile"
            assert page.find_element("id", "method").get_attribute("value") == "steer_vec"
            page.refresh()
    page.back()
    wait_for(page, "location.hash.includes('part=explore')")
    assert page.find_element("id", "method").get_attribute("value") == "steer_vec"


@pytest.mark.parametrize(
    "said", ["prompt=constructor.x", "prompt=__proto__.0&__proto__=x", "beta=x"]
)
def test_a_link_that_names_what_there_is_not_opens_the_page(
    page: Any, index: Path, said: str
) -> None:
    page.get("about:blank")
    page.get(f"{index.as_uri()}#{said}")
    assert page.find_element("id", "prompt").get_attribute("value") == "train.0"
    assert page.find_element("css selector", "#readings dd").text


def column_of(page: Any, name: str) -> int:
    header = shown(page).find_elements("css selector", "thead th")
    return next(place for place, cell in enumerate(header) if cell.text.startswith(name))


def sort_by(page: Any, name: str) -> list[str]:
    """Press the column's button; return its cells as they then stand."""
    place = column_of(page, name)
    button = shown(page).find_elements("css selector", "thead th")[place]
    button = button.find_element("css selector", "button")
    page.execute_script("arguments[0].focus()", button)
    button.send_keys(ENTER)
    return [row[place] for row in rows(page)]


def first_number(text: str) -> float:
    """As Python reads it, not as the page does; NaN where there is none."""
    plain = text.lstrip("[").replace("\u2212", "-").replace(",", "").replace("\u221e", "inf")
    for longest in range(len(plain), 0, -1):
        try:
            return float(plain[:longest])
        except ValueError:
            continue
    return math.nan


@pytest.mark.parametrize(
    "name", ["E₀ train", "95 % over prompts", "95 % over seeds", "smallest k", "F test", "flips"]
)
def test_columns_sort_by_their_numbers(page: Any, name: str) -> None:
    before = rows(page)
    for falling in (True, False):
        found = [first_number(text) for text in sort_by(page, name)]
        known = [number for number in found if not math.isnan(number)]
        assert len(set(known)) > 1
        assert known == sorted(known, reverse=falling)
        assert found[: len(known)] == known, "what is no number stands last"
    assert sorted(rows(page)) == sorted(before)
    assert "sort=" in page.current_url


def test_columns_of_words_sort_by_them(page: Any) -> None:
    names = sort_by(page, "method")
    assert names == sorted(names, reverse=True)
    assert sort_by(page, "method") == names[::-1]


def test_the_filter_leaves_what_it_names(page: Any) -> None:
    page.find_element("id", "filter").send_keys("patch")
    assert {row[0] for row in rows(page)} == {
        "activ_patch",
        "activ_patch[direction=denoising]",
        "attr_patch",
        "shuffled[of=activ_patch]",
    }
    page.find_element("id", "controls").click()
    assert "shuffled[of=activ_patch]" not in {row[0] for row in rows(page)}
    assert text(page, "count") == "3 of 11 rows"
