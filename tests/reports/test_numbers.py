"""Every figure of the suite: legible at every width, and what it draws or writes is in its CSV."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from reports import style
from reports.figures import FIGURES
from reports.load import Results
from reports.text import MINUS, number, significant
from tests.reports.cells import MISSING, what_lacks
from tests.reports.test_figures import assert_legible

DRAWN = {
    **dict.fromkeys(
        ("comparison", "sparsity", "localisation", "price", "overlap", "scatter"), "xy"
    ),
    **dict.fromkeys(("leaderboard", "retrained", "stability"), "x"),
    **dict.fromkeys(("maps", "agreement", "agreement_pooled", "critical"), ""),
}
"""Which coordinates of its lines and points are numbers of the run."""
DECIMAL = re.compile(rf"[{MINUS}-]?\d[\d,]*\.\d+")
ROWS_ALIKE = {"comparison": {"methods": ["activ_patch[direction=denoising]", "dyn_scalar"]}}
"""Of a figure with a row a method two of them, but in a column once, where all are drawn."""
COLUMN = style.WIDTHS["column"]
FIXED = ("|θ| ≥ 0.01",)
"""What is no number of the run."""


def values_of(frame: pd.DataFrame) -> NDArray[np.float64]:
    values = frame.to_numpy(dtype=object).ravel().tolist()
    known = np.array([0.0, 1.0, *(one for one in values if isinstance(one, float | int))])
    known = known[np.isfinite(known)]
    return np.unique(np.concatenate([known, -known]))  # both signs of a beta, of a scale


def written(canvas: Figure) -> Iterator[str]:
    """The decimal numbers of all texts but the ticks of axes."""
    ticks = {
        label
        for axes in canvas.axes
        for axis in (axes.xaxis, axes.yaxis)
        for label in axis.get_ticklabels()
        if DECIMAL.fullmatch(label.get_text())
    }
    for text in canvas.findobj(Text):
        if isinstance(text, Text) and text not in ticks and text.get_visible():
            shown = text.get_text()
            for word in FIXED:
                shown = shown.replace(word, "")
            yield from DECIMAL.findall(shown)


def drawn(canvas: Figure, name: str) -> Iterator[float]:
    """The coordinates of all lines and points, and the values of all maps."""
    for axes in canvas.axes:
        for line in axes.lines:
            for which, data in zip("xy", line.get_data(), strict=True):
                # a line at one place of an axis spans the other one
                spans = line.get_transform() != axes.transData and tuple(data) == (0, 1)
                if which in DRAWN[name] and not spans:
                    yield from np.asarray(data, dtype=float)
        for collection in axes.collections:
            if isinstance(collection, LineCollection) and name == "leaderboard":
                yield from (x for part in collection.get_segments() for x, _ in part)
        for image in axes.images:
            yield from np.ma.compressed(image.get_array())


def assert_in_csv(canvas: Figure, name: str, numbers: pd.DataFrame) -> None:
    known = values_of(numbers)
    texts = {
        write(value, digits)
        for value in known
        for write in (number, significant)
        for digits in (2, 3, 4)
    }
    assert [text for text in written(canvas) if text not in texts] == []
    coordinates = np.array(list(drawn(canvas, name)))
    coordinates = coordinates[np.isfinite(coordinates)]
    assert len(coordinates) or name in ("critical",)
    above = np.searchsorted(known, coordinates).clip(1, len(known) - 1)
    apart = np.minimum(abs(known[above] - coordinates), abs(known[above - 1] - coordinates))
    assert coordinates[apart > 1e-6 * (1 + abs(coordinates))].tolist() == []


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in MISSING])
def test_every_figure_is_legible_at_every_width_and_its_csv_has_its_numbers(
    results: Results, name: str
) -> None:
    """As wide as it asks for; with strings that are hard to place as columns and pages are too."""
    entry, compared = FIGURES[name], False
    for scope in entry.scopes(results):
        if what_lacks(name, scope) is not None:
            continue
        hostile, seen = scope.get("task") in (None, "hostile"), set[float]()
        for width in (None, *(style.WIDTHS.values() if hostile else ())):
            if width in seen:
                continue  # it asked for that
            some = {} if hostile and width == COLUMN else ROWS_ALIKE.get(name, {})
            figure = entry.figure(results, width=width, **some, **scope)
            assert width is None or figure.get_figwidth() == pytest.approx(width)
            seen.add(figure.get_figwidth())
            assert_legible(figure)
            if hostile and not compared and not some:
                compared, numbers = True, entry.numbers(results, **scope)
                assert not numbers.empty
                if name in DRAWN:
                    assert_in_csv(figure, name, numbers)
    assert compared
