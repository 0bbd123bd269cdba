"""Colours and markers: a method has the same ones in every figure and table of a report.

The default palette is made to be told apart by readers with each kind of colour blindness and in
greyscale print: its seven colours lie 9 steps of CIELAB lightness or more apart, and at least 25
apart in CIELAB under simulated protanopia, deuteranopia and tritanopia (G. M. Machado et al., A
physiologically-based model for simulation of color vision deficiency, IEEE TVCG 15, 2009). Markers
say the same again. The sign of a score map alone is lost in grey: `grey` draws it from black
(foil) over grey (zero) to white (answer).
"""

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
CONTROL_MARKERS = {"random": "x", "shuffled": "+"}
CONTROL = "#8c8c8c"
FILLS = ("full", "none", "left", "bottom", "right", "top")


@dataclass(frozen=True)
class Palette:
    """The colours of a report.

    Attributes:
        answer, foil: of the two curves of a sweep.
        methods: one colour a method, in the order of `METHODS`, then again from the start.
        diverging: of signed scores, from the most negative to the most positive.
    """

    answer: str
    foil: str
    methods: tuple[str, ...]
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
        COLOURS,
        ("#6b2600", "#D55E00", "#f5b78b", "#ffffff", "#8fc6e8", "#0072B2", "#00304f"),
    ),
    "grey": Palette("#111111", "#8a8a8a", GREYS, ("#000000", "#808080", "#ffffff")),
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
    variants of one method (other settings) differ in how their marker is filled.
    """
    labels = sorted(set(methods))
    names = list(dict.fromkeys(base_name(label) for label in labels))
    foreign = [name for name in names if name not in METHODS and name not in CONTROL_MARKERS]
    order = [*METHODS, *foreign]
    colours = current().methods
    found: dict[str, Look] = {}
    for name in names:
        variants = [label for label in labels if base_name(label) == name]
        for place, label in enumerate(variants):
            fill = FILLS[place % len(FILLS)]
            if name in CONTROL_MARKERS:
                found[label] = Look(CONTROL, CONTROL_MARKERS[name])
            else:
                index = order.index(name)
                marker = MARKERS[index % len(MARKERS)]
                found[label] = Look(colours[index % len(colours)], marker, fill)
    return found


def base_name(label: str) -> str:
    """Return the method's name of a label, without settings: `dla[form=strict] · margin=0`."""
    return plain_name(label.partition(" · ")[0])
