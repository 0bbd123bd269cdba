"""Signed scores as colours, whose sign is read without colour too: a dash crosses negative ones.

The two halves of a diverging map are equally dark, so that neither stands out; in grey print that
leaves the size of a score and hides its sign. The dash says it again.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reports import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINT = 0.1
"""A score of less than this share of the scale has no visible colour, and no dash."""
EVEN = 0.18
"""The luminance of colours on which black and white stand out equally well."""
DASH, DASH_POINTS = 0.28, 0.6  # half its length, as a share of a cell; its thickness


def draw_scores(
    axes: "Axes",
    values: NDArray[Any],
    limit: float,
    *,
    low: float | None = None,
) -> Any:
    """Draw (layer, column) values as cells; return the image.

    The scale is symmetric around zero, from -limit to limit; `low` gives it another lower end, and
    a dash then stands for "below the middle". What is not finite is hatched.
    """
    low = -limit if low is None else low
    axes.patch.set(facecolor=style.EXCLUDED, hatch="//////", edgecolor=style.MUTED, linewidth=0)
    image = axes.imshow(
        np.ma.masked_invalid(values),
        cmap=style.diverging(),
        vmin=low,
        vmax=limit,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
    )
    middle, half = (low + limit) / 2, (limit - low) / 2
    draw_dashes(axes, (values - middle) / half)
    return image


def draw_dashes(axes: "Axes", shares: NDArray[Any]) -> None:
    """Cross the negative cells, dark on light ones and light on dark ones.

    `shares` of the scale, (layer, column), are from -1 to 1; NaN is left alone.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    with np.errstate(invalid="ignore"):
        negative = shares <= -FAINT
    rows, columns = np.nonzero(negative)
    dark = luminance(style.diverging()((shares[negative] + 1) / 2)) < EVEN
    for ink, chosen in ((style.INK, ~dark), ("white", dark)):
        if not chosen.any():
            continue
        x, y = columns[chosen], rows[chosen]
        ends = np.stack([np.stack([x - DASH, y], 1), np.stack([x + DASH, y], 1)], 1).reshape(-1, 2)
        codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
        dashes = PathPatch(
            Path(ends, codes), edgecolor=ink, facecolor="none", linewidth=DASH_POINTS
        )
        dashes.set_capstyle("butt")
        axes.add_patch(dashes)


def luminance(colours: Any) -> NDArray[np.float64]:
    """Return the relative luminance (WCAG 2; 0 black, 1 white) of colours, (..., RGB or RGBA)."""
    rgb = np.asarray(colours, dtype=np.float64)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])
