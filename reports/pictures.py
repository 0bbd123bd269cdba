"""Figures as they were written, and as the page shows them: embedded while there is room."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reports.figures import FIGURES
from reports.registry import Scope
from tasks.text import visible

EMBEDDED = 8_000_000
"""Bytes of embedded figures (in base64), the small ones of every task before large ones."""


@dataclass(frozen=True)
class Drawn:
    """One drawing of a figure.

    Attributes:
        name: of `FIGURES`.
        scope: which model and task it is of.
        stem: of its files' names.
        svg: its content; empty where there was nothing to draw.
        width: in inches.
        narrow: the same drawn for a telephone, where there is such.
        first: the matrix names it.
        missing: why there was nothing to draw.
    """

    name: str
    scope: Scope
    stem: str
    svg: bytes = b""
    width: float = 0.0
    first: bool = False
    missing: str = ""
    narrow: bytes = b""


class Pictures:
    """What the page says of each figure; `left_out` counts those that are in their files alone."""

    def __init__(self, drawn: Sequence[Drawn], room: float = EMBEDDED) -> None:
        self._embedded: set[str] = set()
        self.left_out = 0
        for one in sorted(drawn, key=lambda one: len(one.svg)):
            size = 4 * (len(one.svg) + len(one.narrow)) / 3
            if size <= room:
                room -= size
                self._embedded.add(one.stem)
            else:
                self.left_out += 1

    def show(self, one: Drawn) -> dict[str, Any]:
        """Return what the template says of a figure: its address, or why it is not here."""
        where = " · ".join(map(visible, one.scope.values()))
        title = FIGURES[one.name].summary + (f" ({where})" if where else "")
        shown: dict[str, Any] = {"title": title, "stem": one.stem, "address": "", "narrow": ""}
        shown["missing"] = visible(one.missing)
        if not one.svg:
            return shown
        if one.stem not in self._embedded:
            return shown | {"missing": f"To keep this page small, in figures/{one.stem}.svg alone"}
        narrow = _address(one.narrow) if one.narrow else ""
        width = round(one.width * 96)
        return shown | {"address": _address(one.svg), "narrow": narrow, "width": width}


def _address(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
