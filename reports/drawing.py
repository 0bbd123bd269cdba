"""A figure as it was written, or why it was not."""

from dataclasses import dataclass

from reports.registry import Scope


@dataclass(frozen=True)
class Drawn:
    """One drawing of a figure.

    Attributes:
        name: of `FIGURES`.
        scope: which model and task it is of.
        stem: of its files' names.
        svg: its content; empty where there was nothing to draw.
        width: in inches.
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
