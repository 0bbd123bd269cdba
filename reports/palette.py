"""Colours and markers: a method has the same ones in every figure and table of a report.

The default palette is made to be told apart by readers with each kind of colour blindness and in
greyscale print: its seven colours lie 9 steps of CIELAB lightness or more apart, and at least 25
apart in CIELAB under simulated protanopia, deuteranopia and tritanopia (G. M. Machado et al., A
physiologically-based model for simulation of color vision deficiency, IEEE TVCG 15, 2009). Markers
say the same again. Both ends of a score map are equally dark; a dash crosses its negative cells, so
that their sign is read without colour (`reports.figures.signed`). The palette `grey` uses no colour
at all: score maps go from black (foil) over grey (zero) to white (answer).
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from reports.load import plain_name
from tasks.errors import UserInputError, nearest

COLOURS = ("#175451", "#8b84fd", "#b6cc8c", "#d4a413", "#af3d06", "#c34fa9", "#621d0c")
GREYS = ("#3c3c3c", "#a3a3a3", "#c7c7c7", "#8a8a8a", "#1e1e1e", "#707070", "#575757")
METHODS = (
    *("activ_patch", "attr_patch", "grad_scalar", "dla"),
    *("activ_scalar", "steer_vec", "dyn_scalar"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "h", "*", "<", ">", "8", "d")
CONTROL_MARKERS = {"random": ("x",), "shuffled": ("+", "1", "2", "3", "4", "|")}
CONTROL = "#8c8c8c"
FILLS = ("full", "none", "left", "bottom", "right", "top")


@dataclass(frozen=True)
class Palette:
    """The colours of a report.

    Attributes:
        answer, foil: of the two curves of a sweep.
        answer_name, foil_name: what readers call the positive and negative colours of `diverging`.
        methods: one colour a method, in the order of `METHODS`, then again from the start.
        diverging: of signed scores, from the most negative to the most positive.
        dark: the same on a dark page, where zero is dark, with its answer and foil.
        turns: figures may be shown with dark and light exchanged, hues kept.
    """

    answer: str
    foil: str
    answer_name: str
    foil_name: str
    methods: tuple[str, ...]
    diverging: tuple[str, ...]
    dark: "Dark"
    turns: bool = True

    @property
    def signs(self) -> str:
        """What the colours of signed scores say."""
        return f"{self.answer_name} favours the answer, {self.foil_name} with a dash the foil"


@dataclass(frozen=True)
class Dark:
    """The colours of a palette on a dark page."""

    answer: str
    foil: str
    diverging: tuple[str, ...]


@dataclass(frozen=True)
class Look:
    """How a method is drawn: colour, marker and, of its variants, how the marker is filled."""

    colour: str
    marker: str
    fill: str = "full"


PALETTES = {
    # blue and vermilion of Okabe & Ito (2008); positive is the answer's hue, negative the foil's,
    # white is zero, and both ends are equally dark
    "default": Palette(
        "#0072B2",
        "#D55E00",
        "blue",
        "orange",
        COLOURS,
        ("#6b2600", "#D55E00", "#f5b78b", "#ffffff", "#8fc6e8", "#0072B2", "#00304f"),
        Dark(
            "#56b4e9",
            "#f0803c",
            ("#ffd9bd", "#f0803c", "#7d3c14", "#1d2024", "#14496b", "#3d9fdb", "#c9e8fb"),
        ),
    ),
    "grey": Palette(
        "#111111",
        "#767676",
        "white",
        "black",
        GREYS,
        ("#000000", "#808080", "#ffffff"),
        Dark("#f0f0f0", "#9a9a9a", ("#000000", "#808080", "#ffffff")),
        turns=False,  # white favours the answer
    ),
}
_CURRENT: ContextVar[str] = ContextVar("palette", default="default")


def current() -> Palette:
    """Return the palette in use: the default one outside `using`."""
    return PALETTES[_CURRENT.get()]


@contextmanager
def using(name: str) -> Iterator[None]:
    """Draw with another palette; raises UserInputError for an unknown one."""
    if name not in PALETTES:
        raise UserInputError(f'There is no palette "{name}".{nearest(name, PALETTES)}')
    token = _CURRENT.set(name)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Return the look of every method of a run, by label.

    Give all labels of the run: a method that the suite does not know takes the next free look, and
    variants of one method (other settings) differ in how their marker is filled. `shuffled[of=X]`
    has the colour of X and a control's marker.
    """
    labels = sorted(set(methods))
    names = [base_name(label) for label in labels]
    order = list(dict.fromkeys([*METHODS, *(n for n in names if n not in CONTROL_MARKERS)]))
    colours, seen = current().methods, Counter[tuple[str, str]]()
    found: dict[str, Look] = {}
    for label, name in zip(labels, names, strict=True):
        of = name
        if name in CONTROL_MARKERS:  # what it starts from: `shuffled[of=dla[form=strict]]`
            of = re.split(r"[\[\]]", label.partition("[of=")[2])[0]
        colour = colours[order.index(of) % len(colours)] if of in order else CONTROL
        variant = seen[name, colour]
        seen[name, colour] += 1
        if markers := CONTROL_MARKERS.get(name):
            found[label] = Look(colour, markers[variant % len(markers)])
        else:
            marker = MARKERS[order.index(name) % len(MARKERS)]
            found[label] = Look(colour, marker, FILLS[variant % len(FILLS)])
    return found


def base_name(label: str) -> str:
    """Return the method's name of a label, without settings: `dla[form=strict] · margin=0`."""
    return plain_name(label.partition(" · ")[0])
