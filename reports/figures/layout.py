"""Where the parts of the comparison figure go, in inches from the upper left corner.

As wide as it asks for, a row has its maps on the left and its sweeps on the right. On a given
width the sweeps stand under the maps. Text has a fixed size, so its room does not depend on the
number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reports import style
from reports.maps import ScoreMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEFT, RIGHT, BOTTOM = 0.55, 0.15, 0.30
CELL_WIDTH, CELL_HEIGHT = 0.130, 0.066
BAR_GAP, BAR, BAR_LABELS = 0.08, 0.09, 0.42
PANEL_GAP, SWEEP, SWEEP_GAP = 0.12, 2.15, 0.52
ROW_HEAD, TOKENS, SWEEP_FOOT = 0.56, 0.10, 0.48
MAPS = 4.2  # the least width of all maps together: room for the row's head
SWEEP_HEAD, STACKED_MAP, STACKED_SWEEP = 0.50, 1.15, 1.0
LINE = 0.16


@dataclass(frozen=True)
class Layout:
    """Sizes in inches.

    Attributes:
        key: lines that explain the figure, under its title and prompts.
        stacked: the sweeps stand under the maps.
        foot: how many lines stand under everything.
    """

    n_rows: int
    n_sites: int
    map_width: float
    map_height: float
    token_room: float
    sweep_width: float
    sweep_height: float
    key: tuple[str, ...]
    stacked: bool
    foot: int = 0

    @classmethod
    def of(cls, rows: Sequence[Sequence[ScoreMap]], key: str, width: float | None) -> "Layout":
        """Return the layout for rows of maps; as wide as they ask for if `width` is None."""
        n_sites = max(len(maps) for maps in rows)
        n_layers, n_columns = np.max([one.values.shape for maps in rows for one in maps], axis=0)
        names = {name for maps in rows for one in maps for name in one.columns}
        room = TOKENS + max((style.width_of(name, style.SMALL) for name in names), default=0.0)
        if width is None:
            map_width = float(np.clip(CELL_WIDTH * n_columns, MAPS / n_sites, 6.5))
            height = float(np.clip(CELL_HEIGHT * n_layers, 1.5, 4.0))
            return cls(
                len(rows), n_sites, map_width, height, room, SWEEP, height, (key,), stacked=False
            )
        inner = width - LEFT - RIGHT
        maps = inner - BAR_GAP - BAR - BAR_LABELS + RIGHT - (n_sites - 1) * PANEL_GAP
        lines = tuple(style.wrap(key, inner, style.TINY))
        sweep = (inner - SWEEP_GAP) / 2
        return cls(
            *(len(rows), n_sites, maps / n_sites, STACKED_MAP, room),
            *(sweep, STACKED_SWEEP, lines),
            stacked=True,
        )

    @property
    def head(self) -> float:
        """Room above the first row."""
        return 0.84 + LINE * len(self.key)

    @property
    def row_height(self) -> float:
        """Of one method."""
        if self.stacked:
            sweeps = SWEEP_HEAD + self.sweep_height + SWEEP_FOOT
            return ROW_HEAD + self.map_height + self.token_room + sweeps
        return ROW_HEAD + self.map_height + max(self.token_room, SWEEP_FOOT)

    @property
    def maps_right(self) -> float:
        """Where the maps end."""
        return LEFT + self.n_sites * self.map_width + (self.n_sites - 1) * PANEL_GAP

    @property
    def sweeps_left(self) -> float:
        """Where the sweeps begin."""
        return LEFT if self.stacked else self.maps_right + BAR_GAP + BAR + BAR_LABELS + SWEEP_GAP

    @property
    def width(self) -> float:
        """Of the figure."""
        return self.sweeps_left + 2 * self.sweep_width + SWEEP_GAP + RIGHT

    @property
    def height(self) -> float:
        """Of the figure."""
        below = LINE * max(self.foot - 1, 0)
        return self.head + self.n_rows * self.row_height + BOTTOM + below

    def top(self, place: int) -> float:
        """Where the maps of a row begin."""
        return self.head + place * self.row_height + ROW_HEAD

    def map_axes(self, canvas: "Figure", row: int, site: int) -> "Axes":
        """Add the axes of one map."""
        left = LEFT + site * (self.map_width + PANEL_GAP)
        return self._axes(canvas, left, self.top(row), self.map_width, self.map_height)

    def bar_axes(self, canvas: "Figure", row: int) -> "Axes":
        """Add the axes of a row's colour bar."""
        left = self.maps_right + BAR_GAP
        return self._axes(canvas, left, self.top(row), BAR, self.map_height)

    def sweep_axes(self, canvas: "Figure", row: int, place: int) -> "Axes":
        """Add the axes of one of a row's sweeps."""
        left = self.sweeps_left + place * (self.sweep_width + SWEEP_GAP)
        top = self.top(row)
        if self.stacked:
            top += self.map_height + self.token_room + SWEEP_HEAD
        return self._axes(canvas, left, top, self.sweep_width, self.sweep_height)

    def _axes(
        self, canvas: "Figure", left: float, top: float, width: float, height: float
    ) -> "Axes":
        box = (left, self.height - top - height, width, height)
        return canvas.add_axes(tuple(np.array(box) / ([self.width, self.height] * 2)))

    def text(self, canvas: "Figure", left: float, top: float, text: str, **how: Any) -> None:
        """Write text whose upper left corner is given."""
        x, y = left / self.width, 1 - top / self.height
        canvas.text(x, y, style.drawable(text), va="top", **how)
