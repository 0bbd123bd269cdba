"""The default palette for colour-blind readers and grey print; one method, one look."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, cycle
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports import palette, style
from reports.figures import maps
from reports.figures.marks import draw_numbers, luminance
from reports.load import load
from reports.palette import COLOURS, GREYS, METHODS, looks
from tasks.errors import UserInputError

Values = NDArray[np.float64]
# G. M. Machado et al. (2009), severity 1.0, on linear RGB
BLIND = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "nobody": np.eye(3).tolist(),
}
XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def rgb(colour: str) -> Values:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def linear(colour: str) -> Values:
    srgb = rgb(colour)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: Values) -> Values:
    share = XYZ @ rgb / [0.95047, 1, 1.08883]
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("who", BLIND)
def test_everybody_tells_the_methods_apart(who: str) -> None:
    seen = [lab(np.clip(np.array(BLIND[who]) @ linear(colour), 0, 1)) for colour in COLOURS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 25


@pytest.mark.parametrize("colours", [COLOURS, GREYS])
def test_grey_print_tells_them_apart(colours: tuple[str, ...]) -> None:
    lightness = sorted(lab(linear(colour))[0] for colour in colours)
    steps = np.diff(lightness)
    assert min(steps) > (8 if colours is COLOURS else 4)


def test_one_method_one_look_whatever_else_is_drawn() -> None:
    """Controls differ, and have the colour of what they shuffle."""
    methods = [*METHODS, "attr_patch[direction=denoising]", "mine"]
    found = looks([*methods, *(f"shuffled[of={method}]" for method in methods), "random"])
    assert len({(one.colour, one.marker, one.fill) for one in found.values()}) == len(found)
    assert found["attr_patch"].colour == found["attr_patch[direction=denoising]"].colour
    assert looks(["dla", "random"])["dla"] == found["dla"]
    for method in methods:
        assert found[f"shuffled[of={method}]"].colour == found[method].colour
    assert found["random"].colour not in {found[method].colour for method in methods}


def cells_of(axes: Axes, luminances: Values) -> Iterator[tuple[float, Values]]:
    """Yield every drawn score as a share of its scale, and the luminances inside its cell."""
    (image,) = axes.get_images()
    low, high = image.get_clim()
    for (row, column), value in np.ndenumerate(image.get_array()):
        corners = [(column - 0.4, row - 0.4), (column + 0.4, row + 0.4)]
        (left, bottom), (right, top) = axes.transData.transform(corners).round().astype(int)
        yield float(2 * (value - low) / (high - low) - 1), luminances[bottom:top, left:right]


@pytest.mark.parametrize(
    ("name", "width"), [*zip(palette.PALETTES, cycle(style.WIDTHS.values()), strict=False)]
)
def test_the_sign_of_a_score_is_seen_in_grey_print(
    run_directory: Path, name: str, width: float
) -> None:
    with palette.using(name):
        figure = maps.figure(load(run_directory), task="ccc", methods=["dla"], width=width)
    figure.set_dpi(200)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1] / 255
    luminances = luminance(pixels)
    counts = Counter[str]()
    for axes in figure.axes:
        for share, inside in cells_of(axes, luminances):
            if abs(share) > 0.15:
                contrast = (inside.max() + 0.05) / (inside.min() + 0.05)
                assert (contrast > 2) == (share < 0), share
                counts["negative" if share < 0 else "positive"] += 1
    assert min(counts["negative"], counts["positive"]) > 20


@pytest.mark.parametrize("name", palette.PALETTES)
def test_what_is_written_in_colour_can_be_read(name: str) -> None:
    """WCAG 2.1 asks for 4.5 of letters, 3 of lines; on the page, by day and by night."""
    chosen = palette.PALETTES[name]
    for colours, paper in ((chosen, "#ffffff"), (chosen.dark, "#1d2024")):
        back = luminance(rgb(paper))
        for colour, least in ((colours.answer, 4.5), (colours.foil, 3.0)):
            lights = sorted([back, luminance(rgb(colour))])
            assert (lights[1] + 0.05) / (lights[0] + 0.05) >= least, colour


def test_another_palette_is_left_behind() -> None:
    before = looks(METHODS)
    with palette.using("grey"):
        assert looks(METHODS) != before
        assert set(one.colour for one in looks(METHODS).values()) == set(GREYS)
    assert looks(METHODS) == before
    with pytest.raises(UserInputError, match='Did you mean "grey"'), palette.using("gray"):
        pass


def test_cells_without_a_text_are_drawn_without_a_warning() -> None:
    """As intervals are where one prompt gives none: nothing has no width that room is shared by."""
    figure = Figure()
    FigureCanvasAgg(figure)
    nothing = np.full((2, 2), "", dtype=object)
    with np.errstate(all="raise"):
        draw_numbers(figure.subplots(), np.eye(2), np.array([["1", "0"], ["0", "1"]]), nothing)
        draw_numbers(figure.subplots(), np.eye(2), nothing)
