"""Numbers and foreign strings as every output shows them."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.present import strings
from reports.style import drawable
from reports.text import distinct, markdown, number, shorten, significant, spread, token, visible


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-0.1234, "\u22120.123"),
        (1234.5, "1,234.500"),
        (0, "0.000"),
        (-0.0001, "0.000"),
        (math.nan, "undefined"),
        (math.inf, "∞"),
        (-math.inf, "\u2212∞"),
        (None, "\u2013"),
        (pd.NA, "\u2013"),
    ],
)
def test_numbers(value: object, shown: str) -> None:
    assert number(value) == shown


def test_significant_digits_suit_any_size() -> None:
    assert significant(0.0031622) == "0.00316"
    assert significant(-100.0) == "\u2212100"
    assert significant(123_456) == "123000"
    assert significant(1.25e-7, 2) == "1.2e\u22127"
    assert significant(999_999.5) == "1e6"
    assert significant(-0.0) == "0"
    assert significant(None) == "\u2013"
    assert significant(math.nan) == "undefined"


def test_tables_write_betas_counts_and_p_each_in_their_way() -> None:
    shown = strings(pd.DataFrame({"beta_here": [0.000123], "dropped": [134], "p": [0.00004]}))
    assert shown.loc[0].tolist() == ["0.000123", "134", "0.0000"]


def test_a_range_stands_behind_its_mean() -> None:
    assert spread(-0.4, -0.6, -0.2, 1) == "\u22120.4 [\u22120.6, \u22120.2]"
    assert spread(-0.4, None, None, 1) == "\u22120.4"
    assert spread(math.nan, math.nan, math.nan) == "undefined"


def test_what_a_terminal_obeys_is_made_visible() -> None:
    assert visible("\x1b[31mred\n\u202eé") == "\\x1b[31mred\\n\\u202eé"
    assert visible("a\u2028b\u2029") == "a\\u2028b\\u2029"


@given(st.text())
def test_visible_text_has_no_control_characters(text: str) -> None:
    assert visible(text).isprintable() or any(ord(character) > 0x7F for character in text)
    assert not any(
        ord(character) < 32 or 127 <= ord(character) < 160 for character in visible(text)
    )


def test_tokens_show_their_spaces_and_stay_short() -> None:
    assert token(" Paris") == "␣Paris"
    assert token("\n") == "\\n"
    assert token(" " + "a" * 50) == "␣" + "a" * 10 + "…"
    assert len(shorten("a" * 100, 20)) == 20
    assert shorten("short", 20) == "short"


def test_glyphs_that_the_font_lacks_are_spelled_out() -> None:
    assert drawable("é ␣ 中") == "é ␣ \\u4e2d"


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
