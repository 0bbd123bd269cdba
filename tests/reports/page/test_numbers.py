"""The page writes a number as Python does, to the last digit."""

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np

from reports import html
from reports.text import number, significant

SOURCE = "\n".join(
    (Path(html.__file__).parent / "templates" / "page" / f"{name}.js").read_text("utf-8")
    for name in ("document", "numbers")
)
WRITE = (
    "const values = new Float64Array(bytes(arguments[0]));"
    "return [...values].map((value) => [0, 1, 2, 3].map((digits) => number(value, digits))"
    ".concat([1, 2, 3, 6].map((digits) => significant(value, digits))));"
)


def hard() -> list[float]:
    """Numbers of every size, halves that are exact and halves that only look so, and the ends."""
    generator = np.random.default_rng(0)
    sizes = 10.0 ** generator.uniform(-12, 18, 3000)
    values = [*sizes, *generator.normal(0, 3, 3000), *generator.normal(0, 9, 1000).astype("f4")]
    halves = [n / 2**bits for bits in (1, 2, 3, 4) for n in range(1, 200)]
    seeming = [(2 * n + 1) / 2000 for n in range(3000)] + [(2 * n + 1) / 20 for n in range(500)]
    edges = [
        0.0,
        1234.565,
        0.004,
        9.995,
        9.9951,
        99.95,
        999_999.5,
        999_499.5,
        0.000_099_999_5,
        1e-4,
        1e6,
        1e21,
    ]
    ends = [5e-324, 1.8e308, 2.0**53 + 2, 1e23, math.inf, math.nan]
    found = [float(value) for value in [*values, *halves, *seeming, *edges, *ends]]
    return [*found, *(-value for value in found)]


def test_the_page_and_python_write_the_same(browser: Any) -> None:
    values = hard()
    given = base64.b64encode(np.array(values, dtype="<f8").tobytes()).decode()
    browser.get("about:blank")
    written = browser.execute_script(f"{SOURCE}\n{WRITE}", given)
    assert len(written) == len(values) > 20_000
    for value, texts in zip(values, written, strict=True):
        expected = [number(value, digits) for digits in range(4)]
        expected += [significant(value, digits) for digits in (1, 2, 3, 6)]
        assert texts == expected, value
