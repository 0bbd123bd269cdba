"""How values and foreign strings are written: one place, so that every output says the same.

Prompts come from data files and models; nothing in them may act. Markup is escaped where markup
is written (HTML by Jinja2, Markdown by `markdown`), what a terminal obeys by `tasks.text.visible`.
"""

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from pandas import NA, DataFrame

from tasks.text import visible

LONGEST_TOKEN = 12
"""Characters of a token as the label of an axis."""
MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
UNDEFINED = "undefined"
NOT_MEANINGFUL = "not meaningful"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|~#$])")


def token(text: str, longest: int = LONGEST_TOKEN) -> str:
    """Return a token as axis labels show it: spaces as ␣, at most `longest` characters."""
    shown = visible(text).replace(" ", "␣")
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def shorten(text: str, longest: int) -> str:
    """Return `text` made visible, cut in the middle to at most `longest` characters."""
    shown = visible(text)
    if len(shown) <= longest:
        return shown
    head = (longest - 3) // 2
    return f"{shown[:head]} … {shown[len(shown) - (longest - 3 - head) :]}"


def distinct(names: Sequence[str], longest: int) -> list[str]:
    """Return names of at most `longest` characters, where they stay different from each other.

    Of `method[corruption=zero,direction=noising]` the values are kept first; names that would still
    be the same are cut less.
    """
    shown = [visible(name) for name in names]
    if len({shorten(name, longest) for name in shown}) < len(set(shown)):
        values = [re.sub(r"[^\[\],· ]+=", "", name) for name in shown]
        shown = values if len(set(values)) == len(set(shown)) else shown
    while longest < max(map(len, shown), default=0):
        if len({shorten(name, longest) for name in shown}) == len(set(shown)):
            break
        longest += 1
    return [shorten(name, longest) for name in shown]


def number(value: object, digits: int = 3) -> str:
    """Return a number with `digits` decimals and a real minus sign; NaN is 'undefined'.

    None and pandas' NA are a dash: there is no such value.
    """
    value = _as_float(value)
    if value is None:
        return MISSING
    if np.isnan(value):
        return UNDEFINED
    if np.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    rounded = round(value, digits) + 0.0  # no "-0.000": what rounds to 0 is shown as 0
    return f"{rounded:,.{digits}f}".replace("-", MINUS)


def significant(value: object, digits: int = 3) -> str:
    """Return a number with `digits` significant digits, such as a beta of any size.

    Below 1e-4 and from 1e6 on it is written like 1.5e7, with a real minus sign throughout.
    """
    value = _as_float(value)
    if value is None or not np.isfinite(value) or value == 0:
        return number(value, 0)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    power = int(exponent)
    if -4 <= power < 6:
        text = f"{float(f'{mantissa}e{power}'):.{max(0, digits - 1 - power)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{power}"
    return text.replace("-", MINUS)


def spread(mean: object, low: object, high: object, digits: int = 3) -> str:
    """Return a number with the range it is the mean of, `0.4 [0.2, 0.6]`, where there is one."""
    text = number(mean, digits)
    if _as_float(low) is None or _as_float(high) is None or text in (MISSING, UNDEFINED):
        return text
    return f"{text} [{number(low, digits)}, {number(high, digits)}]"


def interval(low: object, high: object, digits: int = 3) -> str:
    """Return `[0.2, 0.6]`; a dash where an end is missing or undefined."""
    ends = [_as_float(end) for end in (low, high)]
    if any(end is None or np.isnan(end) for end in ends):
        return MISSING
    return f"[{number(low, digits)}, {number(high, digits)}]"


def _as_float(value: Any) -> float | None:
    return None if value is None or value is NA else float(value)


def known(value: object) -> TypeGuard[float]:
    """Whether there is such a number, and it is defined."""
    return isinstance(value, float) and value == value


def no_formula(text: str) -> str:
    """Return `text` made visible, and led by an apostrophe where a spreadsheet would run it."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith(("=", "+", "-", "@")) else shown


def markdown(shown: DataFrame) -> str:
    """Return a table of strings as Markdown; what Markdown or HTML would obey is escaped."""
    header, *rows = (
        "| " + " | ".join(map(_escape, cells)) + " |\n"
        for cells in (shown.columns, *shown.to_numpy())
    )
    return "".join([header, "|" + " --- |" * len(shown.columns) + "\n", *rows])


def _escape(text: str) -> str:
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", text)
