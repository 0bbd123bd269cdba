"""The page in the dark, on a telephone, on paper, and with hostile strings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.store.results import RunStore
from reports.write import ReportOptions, write_report
from tests.reports.cells import make_cell
from tests.reports.page.steps import TAB, press, scheme, screen, text

ATTACK = "</script><script>window.attacked=1</script><img src=x onerror='window.attacked=1'>"
NASTY = (
    ATTACK,
    "{{ 7*7 }} ${7*7}",
    "\u2028\u2029\u202eleft\u2067\u200f",
    r"$\frac{1}{2}$ \input{/etc/passwd} \end{document} %",
    "javascript:window.attacked=1",
    "W" * 3000,
    "\x00\x1b]0;title\x07",
)


def test_nasty_prompts_tokens_and_names_are_shown_and_nothing_more(
    small_store: RunStore, opened: Callable[[Path], Any]
) -> None:
    record, tensors = make_cell("ccc", "dla")
    first = record.prompts["train"][0]
    tokens = [first.tokens[0], *NASTY, *first.tokens[len(NASTY) + 1 :]]
    prompt = first.model_copy(
        update={"clean": " ".join(NASTY), "answer": f" {ATTACK}", "tokens": tokens}
    )
    changes: dict[str, Any] = {
        "task": f"file[path={ATTACK}]",
        "method": f"mine[of={ATTACK}]",
        "prompts": {**record.prompts, "train": [prompt, *record.prompts["train"][1:]]},
        "top_tokens": {"7": ATTACK, "8": NASTY[2]},
        "notes": list(NASTY),
        "dropped": {ATTACK: 1},
    }
    small_store.write(record.model_copy(update=changes), tensors)
    options = ReportOptions(figures=["maps"])
    page = opened(write_report(small_store.directory, options=options))
    page.execute_script("window.alert = () => { window.attacked = true; }")
    shown = text(page, "prompt-text")
    assert ATTACK in shown
    assert "{{ 7*7 }} ${7*7}" in shown
    assert "\\u2028\\u2029\\u202eleft\\u2067\\u200f" in shown
    assert NASTY[3] in shown
    assert ATTACK in page.find_element("css selector", "#task option").text
    assert ATTACK[:9] in page.find_element("id", "maps").get_attribute("textContent")
    assert page.execute_script("return window.attacked") is None
    assert page.execute_script("return document.scripts.length") == 2 + 1 + 1
    assert page.execute_script("return document.querySelectorAll('img:not([alt])').length") == 0
    screen(page, 400, 800)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 400


def test_everything_is_reached_with_the_keyboard(page: Any) -> None:
    """Tab from the top to the bottom: every control, every column, every map and every link."""
    wanted = page.execute_script(
        "const seen = (one) => one.checkVisibility() && !one.closest('details:not([open])');"
        "return [...document.querySelectorAll("
        "'a, button, select, input, summary, [tabindex=\"0\"]')]"
        ".filter((one) => one.matches('summary') ? one.checkVisibility() : seen(one)).length"
    )
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(wanted):
        press(page, TAB)
        reached.append(
            page.execute_script(
                "const one = document.activeElement;"
                "return [one.tagName, one.id || one.getAttribute('aria-label') || one.textContent,"
                " getComputedStyle(one).outlineStyle]"
            )
        )
    names = [name for _, name, _ in reached]
    assert {"model", "task", "filter", "controls", "method", "prompt", "beta"} <= set(names)
    assert sum(name.startswith(("attn_out", "mlp_out")) for name in names) == 2
    assert sum(tag == "BUTTON" for tag, _, _ in reached) > 15
    assert len(set(map(tuple, reached))) >= wanted - 2, "two may look alike"
    assert {outline for _, _, outline in reached} <= {"auto", "solid"}, "focus is seen"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1300])
def test_nothing_is_wider_than_the_screen(page: Any, width: int, dark: bool) -> None:
    screen(page, width, 800)
    scheme(page, "dark" if dark else "light")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in background[4:-1].split(",")[:3])
    assert (lightness < 3 * 128) is dark


BROKEN = """
const broken = (node) => [...node.data.matchAll(/[^\\s/]+/g)].filter((word) => {
  const range = document.createRange();
  range.setStart(node, word.index);
  range.setEnd(node, word.index + word[0].length);
  return range.getClientRects().length > 1;
}).map(String);
const cells = document.querySelectorAll(".shown .board th, .shown .board .verdict");
return [...cells].flatMap((cell) => {
  const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walk.nextNode()) found.push(...broken(walk.currentNode));
  return found;
});
"""


@pytest.mark.parametrize(("media", "width"), [("screen", 1300), ("print", 980)])
def test_the_leaderboard_breaks_no_word_and_fits_on_paper(
    page: Any, media: str, width: int
) -> None:
    """980: between the margins of a sheet of Letter, landscape; A4 is wider."""
    screen(page, width, 700)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    assert page.execute_script(BROKEN) == []
    script = "return document.querySelector('.shown .board').getBoundingClientRect().right"
    assert media == "screen" or page.execute_script(script) <= width


def test_it_prints(page: Any) -> None:
    assert len(page.execute_cdp_cmd("Page.printToPDF", {})["data"]) > 50_000
