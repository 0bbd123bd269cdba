"""Numbers and foreign strings as every output shows them."""

import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager

from reports import style
from reports.present import strings
from reports.style import drawable, token_label
from reports.text import (
    distinct,
    markdown,
    no_formula,
    number,
    shorten,
    significant,
    spread,
    token,
)
from tasks.text import visible


@pytest.mark.parametrize(
    ("write", "value", "shown"),
    [
        (number, -0.1234, "\u22120.123"),
        (number, 1234.5, "1,234.500"),
        (number, 0, "0.000"),
        (number, 0.0625, "0.062"),  # halves go to the even digit
        (number, 0.1875, "0.188"),
        (number, -0.0001, "0.000"),
        (number, math.nan, "undefined"),
        (number, math.inf, "∞"),
        (number, -math.inf, "\u2212∞"),
        (number, None, "\u2013"),
        (number, pd.NA, "\u2013"),
        (significant, 0.0031622, "0.00316"),
        (significant, -100.0, "\u2212100"),
        (significant, 123_456, "123000"),
        (significant, 999_999.5, "1e6"),
        (significant, -0.0, "0"),
        (significant, None, "\u2013"),
        (significant, math.nan, "undefined"),
        (partial(significant, digits=2), 1.25e-7, "1.2e\u22127"),
    ],
)
def test_numbers_of_any_size(write: Callable[[object], str], value: object, shown: str) -> None:
    assert write(value) == shown


def test_tables_write_betas_counts_p_and_ranges_each_in_their_way() -> None:
    shown = strings(pd.DataFrame({"beta_here": [0.000123], "dropped": [134], "p": [0.00004]}))
    assert shown.loc[0].tolist() == ["0.000123", "134", "0.0000"]
    assert spread(-0.4, -0.6, -0.2, 1) == "\u22120.4 [\u22120.6, \u22120.2]"
    assert spread(-0.4, None, None, 1) == "\u22120.4"
    assert spread(math.nan, math.nan, math.nan) == "undefined"


@given(st.text(max_size=30))
def test_visible_text_has_no_control_characters(text: str) -> None:
    shown = visible(text)
    assert all(one.isprintable() or ord(one) > 159 for one in shown)


def test_what_a_terminal_or_a_spreadsheet_obeys_is_made_visible() -> None:
    assert visible("\x1b[31mred\n\u202eé") == "\\x1b[31mred\\n\\u202eé"
    assert visible("a\u2028b\u2029") == "a\\u2028b\\u2029"
    assert [*map(no_formula, ("=1+1", "-2", "a=1"))] == ["'=1+1", "'-2", "a=1"]


def test_tokens_show_their_spaces_and_stay_short() -> None:
    assert token(" Paris") == "␣Paris"
    assert token("\n") == "\\n"
    assert token(" " + "a" * 50) == "␣" + "a" * 10 + "…"
    assert len(shorten("a" * 100, 20)) == 20
    assert shorten("short", 20) == "short"


@pytest.fixture
def no_further_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where no font for Chinese is installed."""
    monkeypatch.setattr(style, "FURTHER_FONTS", ())
    for known in (style.families, style._glyphs):
        known.cache_clear()
    yield
    for known in (style.families, style._glyphs):
        known.cache_clear()


@pytest.mark.usefixtures("no_further_fonts")
def test_glyphs_that_no_font_has_are_short_and_marked() -> None:
    """One by its code point, of several the first; a token never takes more than its 12 letters."""
    assert drawable("é ␣ 中") == "é ␣ \\u4e2d"
    assert drawable("a中文字 b") == "a\\u4e2d… b"
    for text in ("中" * 40, "🧠" * 9, "a中b文c字d中", "\U000e0067中"):
        assert len(token_label(text)) <= 12
        assert "…" in token_label(text)
    assert token_label("中") == "\\u4e2d"


@pytest.mark.usefixtures("no_further_fonts")
def test_what_no_font_has_is_measured_as_it_is_drawn() -> None:
    """Names of tasks are anybody's: matplotlib warns of each glyph that it lacks."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert style.width_of("中文", 10) == style.width_of(drawable("中文"), 10)
        assert style.wrap("own 中文 prompts", 0.01, 10) == ["own", "\\u4e2d…", "prompts"]


def font_of_one_character(file: Path) -> Path:
    """Of the character 中 alone, which looks like an A."""
    font = TTFont(findfont(style.FONT))
    for table in font["cmap"].tables:
        table.cmap = {0x4E2D: "A"}
    for line in font["name"].names:
        if line.nameID == 1:
            line.string = "One Character"
    font.save(file)
    return file


@style.drawing
def titled(title: str) -> Figure:
    made = Figure(figsize=(2, 2))
    made.add_subplot().set_title(title)
    return made


@pytest.mark.usefixtures("no_further_fonts")
def test_a_font_that_has_them_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist])
    fontManager.addfont(font_of_one_character(tmp_path / "one.ttf"))
    monkeypatch.setattr(style, "FURTHER_FONTS", ("Not There", "One Character"))
    style.families.cache_clear()
    style._glyphs.cache_clear()
    assert style.families() == (style.FONT, "One Character")
    assert drawable("é中文") == "é中\\u6587"
    assert style.width_of("中", 10) > style.width_of("i", 10) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that is missing
        titled("é中").savefig(tmp_path / "one.pdf")


def test_markdown_is_inert() -> None:
    table = markdown(pd.DataFrame({"a|b": ["<script>`x`\n|"]}))
    assert table.splitlines() == [
        "| a\\|b |",
        "| --- |",
        "| &lt;script&gt;\\`x\\`\\\\n\\| |",
    ]


def test_shortened_names_stay_different() -> None:
    names = [
        f"{method}[corruption={corruption},direction=denoising]"
        for method in ("activ_patch", "attr_patch")
        for corruption in ("gaussian", "zero", "counterfactual")
    ]
    assert len({shorten(name, 22) for name in names}) < len(names)
    assert len(set(distinct(names, 22))) == len(names)
    assert distinct(["dla", "random"], 22) == ["dla", "random"]
    assert distinct(["a" * 30], 22) == [shorten("a" * 30, 22)]
    # where the values alone are the same, the settings' names stay
    alike = ["m[alpha_one=1]", "m[alpha_two=1]"]
    assert len(set(distinct(alike, 8))) == 2
