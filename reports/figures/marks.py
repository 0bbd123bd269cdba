"""How a method's points and lines are drawn, the same in every figure."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from reports import palette
from reports.load import Results, plain_name
from reports.palette import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = 5.0


def look_of(results: Results, label: str) -> Look:
    """Return how a method is drawn in every figure of these results."""
    return palette.looks([*results.labels, label])[label]


def looks_of_names(results: Results, names: Iterable[str]) -> dict[str, Look]:
    """Return how methods are drawn where their settings are told apart otherwise, by plain name."""
    found = palette.looks({plain_name(label) for label in results.labels} | {*names})
    return {name: found[name] for name in names}


def draw_point(axes: "Axes", x: float, y: float, look: Look) -> None:
    """Draw one point of a method."""
    axes.plot([x], [y], **marker_of(look), linestyle="none")


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
