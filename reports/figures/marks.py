"""How a method's points are drawn, and score maps and matrices of numbers, in every figure.

The sign of a coloured number is read without colour too: a dash crosses negative ones. The two
halves of a diverging map are equally dark, so that neither stands out; in grey print that leaves
the size of a score and hides its sign. The dash says it again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray

from reports import palette, style
from reports.load import Results, plain_name
from reports.palette import Look
from reports.scores import ScoreMap
from reports.text import UNDEFINED, known, number, significant

SIZE = 5.0
FAINT = 0.1
"""A score of less than this share of the scale has no visible colour, and no dash."""
EVEN = 0.18
"""The luminance of colours on which black and white stand out equally well."""
DASH, DASH_POINTS = 0.28, 0.6  # half its length, as a share of a cell; its thickness
HATCHED: dict[str, Any] = {
    "facecolor": style.EXCLUDED,
    "hatch": "//////",
    "edgecolor": style.MUTED,
    "linewidth": 0,
}
BESIDE = 0.9
"""Inches of a panel beside its map: the layers' numbers and a colour bar."""
LEGIBLE = 5.0
"""Points of the smallest letters in a cell; where they do not fit, a dash says the sign."""


def look_of(results: Results, label: str) -> Look:
    """Return how a method is drawn in every figure of these results."""
    return palette.looks([*results.labels, label])[label]


def looks_of_names(results: Results, names: Iterable[str]) -> dict[str, Look]:
    """Return how methods are drawn where their settings are told apart otherwise, by plain name."""
    names = dict.fromkeys(names)
    found = palette.looks({plain_name(label) for label in results.labels} | {*names})
    return {name: found[name] for name in names}


def draw_point(axes: Axes, x: float, y: float, look: Look) -> None:
    """Draw one point of a method."""
    axes.plot([x], [y], **marker_of(look), linestyle="none")


def draw_row(
    axes: Axes,
    place: int,
    row: Mapping[str, Any],
    look: Look,
    name: str,
    bars: Mapping[str, float],
    missing: str,
) -> None:
    """Draw a method's value in its row, with bars of its intervals; the axis has its limits.

    Where it lies to the left of the axis, or there is none, a text beside the bars says so.

    Args:
        axes: to draw on.
        place: of the row.
        row: has the value under `name`, and whether it is a `control`.
        look: of the method.
        name: of the value.
        bars: names of intervals, whose ends are `<name>_low` and `<name>_high`, with their
            thickness in points.
        missing: what stands there if there is no value.
    """
    value, left = row[name], axes.get_xlim()[0]
    beside = left
    solid = 0.4 if row["control"] else 0.75
    for bar, thick in bars.items():
        ends = [row[f"{bar}_low"], row[f"{bar}_high"]]
        if known(value) and all(map(known, ends)):
            ends = [max(left, end) for end in ends]
            axes.hlines(place, *ends, color=look.colour, linewidth=thick, alpha=solid)
            beside = max(beside, *ends)
    if known(value) and value >= left:
        draw_point(axes, value, place, look)
    else:
        text = f"← {number(value, 2)}" if known(value) else missing
        axes.annotate(
            text, (beside, place), (2 if beside > left else 0, 0), textcoords="offset points",
            va="center", fontsize=style.TINY, color=style.MUTED,
        )  # fmt: skip


def marker_of(look: Look, size: float = SIZE) -> dict[str, Any]:
    """Return matplotlib's arguments for a method's marker and colour."""
    return {
        "color": look.colour,
        "marker": look.marker,
        "fillstyle": look.fill,
        "markersize": size,
        "markeredgewidth": 1.0,
        "markerfacecoloralt": "white",
    }


def key() -> str:
    """Return what the colours of a score map say, in the palette in use."""
    return f"{palette.current().signs}; hatched points are excluded"


def draw_map(
    axes: Axes,
    values: NDArray[Any],
    columns: Sequence[str],
    limit: float,
    *,
    title: str = "",
    y_label: str = "layer",
    low: float | None = None,
    room: float,
    size: float = style.SMALL,
) -> AxesImage:
    """Draw (layer, column) scores with a scale symmetric around zero; return the image.

    What is not finite is hatched. `low` gives the scale another lower end, whose middle then takes
    the place of zero. Where not all columns have room for their names in `room` inches, some have:
    of tokens the last one, which is the answer position's, of heads the first.
    """
    low = -limit if low is None else low
    axes.patch.set(**HATCHED)
    axes.spines[:].set_visible(True)
    shown = np.ma.masked_invalid(values)
    how: dict[str, Any] = {"aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    image = axes.imshow(shown, cmap=style.diverging(), vmin=low, vmax=limit, **how)
    draw_dashes(axes, (2 * values - low - limit) / (limit - low))
    n_layers, n_columns = values.shape
    every = max(1, int(np.ceil(n_columns * size / 60 / room)))
    of_heads = all(name in ("", str(at)) for at, name in enumerate(columns))
    ticks = range(0 if of_heads else (n_columns - 1) % every, n_columns, every)
    # longer than two letters, or with characters as wide as two, as Chinese ones are
    turned = any(len(name) > 2 or set(map(east_asian_width, name)) & {*"WF"} for name in columns)
    axes.set_xticks(ticks, [columns[at] for at in ticks], rotation=90 if turned else 0)
    layers = range(0, n_layers, 5 if n_layers > 12 else 1)
    axes.set_yticks(layers, [str(layer) for layer in layers] if y_label else [])
    axes.tick_params(length=1.5, pad=1.5, labelsize=size)
    axes.set_title(title, loc="left", pad=4, fontsize=size)
    axes.set_ylabel(y_label, labelpad=2, fontsize=size)
    return image


def draw_maps(
    panels: Sequence[Axes],
    maps: Sequence[ScoreMap],
    limit: float,
    name: str,
    notes: Sequence[str] = (),
    *,
    room: float,
    size: float,
    first: bool = True,
) -> AxesImage:
    """Draw a method's maps, a panel of `room` inches each, under its name and notes.

    Without `first`, layers are named in another panel of the same line.
    """
    for panel, one in zip(panels, maps, strict=True):
        y_label = "layer" if first and panel is panels[0] else ""
        image = draw_map(
            panel, one.values, one.columns, limit, y_label=y_label, room=room, size=size
        )
        below = [style.fit(one.title, room, size), *(reversed(notes) if panel is panels[0] else ())]
        for place, text in enumerate(below):
            how: dict[str, Any] = {"fontsize": size, "xycoords": "axes fraction", "va": "bottom"}
            where = (0, 2 + (size + 3) * place)
            colour = style.MUTED if place else style.INK
            said = panel.annotate(text, (0, 1), where, textcoords="offset points", **how)
            said.set(color=colour, in_layout=not place)
    pad = 3 + (size + 3) * (1 + len(notes))
    how = {"fontweight": "bold", "fontsize": size + 1, "pad": pad}
    panels[0].set_title(name, loc="left", **how)
    return image


def draw_numbers(
    axes: Axes,
    values: NDArray[Any],
    numbers: NDArray[Any],
    intervals: NDArray[Any] | None = None,
    bar: str | None = None,
) -> None:
    """Draw numbers from -1 to 1 as coloured cells, the first row on top, with a colour bar.

    `numbers`, and `intervals` under them, are what is written in the cells, as far as it fits:
    draw all else before. Undefined ones are hatched; a cell without text stays empty. The colour
    bar is labelled `bar`; there is none if that is None.
    """
    colours = style.diverging()
    how: dict[str, Any] = {"vmin": -1, "vmax": 1, "aspect": "auto", "cmap": colours}
    image = axes.imshow(np.ma.masked_invalid(values), **how)
    dark = luminance(colours((np.nan_to_num(values) + 1) / 2)) < EVEN
    edges = [np.arange(count + 1) - 0.5 for count in values.shape]
    axes.hlines(edges[0], *edges[1][[0, -1]], color="white", linewidth=1.5)
    axes.vlines(edges[1], *edges[0][[0, -1]], color="white", linewidth=1.5)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if bar is not None:
        draw_bar(image, axes, bar)
    canvas = axes.get_figure(root=True)
    assert canvas is not None
    canvas.draw_without_rendering()  # the layout says how wide a cell is
    room = axes.bbox.width / canvas.dpi / values.shape[1] - 0.04
    points = _fitting(numbers, room, style.FONT_SIZE)
    below = _fitting(intervals, room, style.TINY) if intervals is not None else 0.0
    for (row, column), text in zip(np.ndindex(values.shape), numbers.flat, strict=True):
        value = values[row, column]
        where: dict[str, Any] = {"ha": "center", "va": "center"}
        where["color"] = "white" if dark[row, column] else style.INK
        if text and np.isnan(value):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **HATCHED))
            where["bbox"] = {"facecolor": style.EXCLUDED, "edgecolor": "none", "pad": 1}
            if text.strip() and (size := _fitting(text, room, style.SMALL)):
                axes.text(column, row, text, fontsize=size, **where)
        elif text and points:
            under = str(intervals[row, column]) if below and intervals is not None else ""
            axes.text(column, row - 0.17 * bool(under), text, fontsize=points, **where)
            axes.text(column, row + 0.22, under, fontsize=below or 1, **where)
    if not points:
        draw_dashes(axes, values)


def _fitting(texts: NDArray[Any] | str, room: float, largest: float) -> float:
    """The size in points at which all texts fit a width in inches, 0 where they are illegible."""
    every: list[str] = np.ravel(texts).tolist()
    known = [text for text in every if text and text != UNDEFINED] or every
    size = largest * min(1, room / max(1e-9, *(style.width_of(text, largest) for text in known)))
    return size if size >= LEGIBLE else 0.0


def draw_dashes(axes: Axes, shares: NDArray[Any]) -> None:
    """Cross the negative cells, dark on light ones and light on dark ones.

    `shares` of the scale, (layer, column), are from -1 to 1; NaN is left alone.
    """
    negative = np.nan_to_num(shares) <= -FAINT
    rows, columns = np.nonzero(negative)
    dark = luminance(style.diverging()((shares[negative] + 1) / 2)) < EVEN
    for ink, chosen in ((style.INK, ~dark), ("white", dark)):
        if not chosen.any():
            continue
        x, y = columns[chosen], rows[chosen]
        ends = np.stack([np.stack([x - DASH, y], 1), np.stack([x + DASH, y], 1)], 1).reshape(-1, 2)
        codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
        how: dict[str, Any] = {"edgecolor": ink, "facecolor": "none", "capstyle": "butt"}
        axes.add_patch(PathPatch(Path(ends, codes), linewidth=DASH_POINTS, **how))


def luminance(colours: Any) -> NDArray[np.float64]:
    """Return the relative luminance (WCAG 2; 0 black, 1 white) of colours, (..., RGB or RGBA)."""
    rgb = np.asarray(colours, dtype=np.float64)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


def draw_bar(image: Any, axes: Axes | Sequence[Axes], label: str = "") -> None:
    """Draw the colour bar of an image beside its axes, labelled at its ends and its middle."""
    bar = image.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02, aspect=24)
    low, high = image.get_clim()
    ticks = [low, (low + high) / 2, high]
    bar.ax.set_yticks(ticks, [significant(tick, 2) for tick in ticks])
    bar.ax.tick_params(length=1.5, pad=1.5)
    bar.set_label(label)


def limit_of(*arrays: NDArray[Any]) -> float:
    """Return the largest size in all arrays: the end of a scale symmetric around zero."""
    return max(float(np.abs(one[np.isfinite(one)]).max(initial=0)) for one in arrays) or 1.0
