"""Fonts and sizes of all figures; colours are in `reports.palette`.

Nothing global changes on import: figures are made under `drawing`, and saved in `context()`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, wraps
from itertools import groupby
from typing import Any

from matplotlib import style as mpl_style
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.textpath import TextToPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reports import palette
from reports.text import LONGEST_TOKEN, shorten, token
from tasks.text import visible

INK = "#222222"
MUTED = "#6b6b6b"
FAINT = "#c9c9c9"
EXCLUDED = "#e3e3e3"
PAGE = 6.75
WIDTHS = {"column": 3.25, "page": PAGE}
"""Inches of a column and of a page of a two-column paper."""

FONT_SIZE = 8.0
TINY = 6.0
SMALL = 7.0
NAME = 9.0
LARGE = 11.0
FONT = "DejaVu Sans"
"""Comes with matplotlib, so figures are the same everywhere."""
FURTHER_FONTS = (
    *(f"Noto Sans CJK {region}" for region in ("SC", "JP", "KR", "TC")),
    *("Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC", "Source Han Sans CN"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC"),
    *("Hiragino Sans GB", "Heiti TC", "Microsoft YaHei", "SimHei", "Yu Gothic", "Malgun Gothic"),
    *("Noto Emoji", "Segoe UI Emoji", "Symbola", "Arial Unicode MS", "Unifont"),
)
"""For characters that the first lacks, those of them that are installed. None with pixels alone."""
HINTING = 1.04  # on a screen letters are up to this much wider than on paper
SETTINGS: dict[Any, Any] = {
    "font.size": FONT_SIZE,
    "text.parse_math": False,  # a prompt may contain $
    "text.color": INK,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.labelsize": FONT_SIZE,
    "axes.titlesize": FONT_SIZE,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": SMALL,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,  # TrueType: text in a PDF can be searched and edited
    "svg.fonttype": "path",
    "svg.hashsalt": "attribution-bench",  # the same figure gives the same file
}


def context() -> AbstractContextManager[None]:
    """Return the context in which every figure of this package is made and saved.

    A user's own style plays no part in it.
    """
    return mpl_style.context(["default", SETTINGS | {"font.family": list(families())}])


def diverging() -> Colormap:
    """Return the map of signed values; use it with limits that are symmetric around zero."""
    colours = LinearSegmentedColormap.from_list("foil_to_answer", palette.current().diverging)
    # what is masked is transparent, so that the hatched background of the axes shows
    return colours.with_extremes(bad=(0.0, 0.0, 0.0, 0.0))


@cache
def families() -> tuple[str, ...]:
    """Return the fonts of figures: the first, and for what it lacks those that are installed."""
    installed = {font.name for font in fontManager.ttflist}
    return FONT, *(name for name in FURTHER_FONTS if name in installed)


@cache
def _glyphs() -> frozenset[int]:
    fonts = [get_font(findfont(FontProperties(family=name))) for name in families()]
    return frozenset().union(*(font.get_charmap() for font in fonts))


def drawable(text: str) -> str:
    """Return `text` with what the figures' fonts lack marked: `\\u4e2d`, or `\\u4e2d…` of several.

    Of neighbours that no installed font has, the first one's code point stands for all.
    """
    glyphs, shown = _glyphs(), ""
    for there, group in groupby(text, lambda character: ord(character) in glyphs):
        characters = "".join(group)
        more = "…" if len(characters) > 1 else ""
        shown += characters if there else characters[0].encode("unicode_escape").decode() + more
    return shown


def token_label(text: str) -> str:
    """Return a token as the label of an axis: drawable, and short whatever its characters are."""
    shown = drawable(token(text))
    return shown if len(shown) <= LONGEST_TOKEN else shown[: LONGEST_TOKEN - 1] + "…"


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in inches of `text`, as far as it is drawable, at `size` points."""
    how: dict[str, Any] = {"weight": "bold" if bold else "normal", "size": size}
    font = FontProperties(family=list(families()), **how)
    width, _, _ = TextToPath().get_text_width_height_descent(drawable(text), font, ismath=False)
    return HINTING * float(width) / 72


def fit(text: str, width: float, size: float, *, bold: bool = False) -> str:
    """Return `text` drawable and, if need be, cut in the middle to at most `width` inches."""
    narrowest = size / 72 / 4  # of a letter: no text of more letters can fit
    for longest in range(min(len(visible(text)), int(width / narrowest)), 8, -1):
        shown = drawable(shorten(text, longest))
        if width_of(shown, size, bold=bold) <= width:
            return shown
    return drawable(shorten(text, 8))


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return `text`, drawable, in lines of at most `width` inches, broken between words."""
    lines: list[str] = []
    for word in drawable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def plain_numbers(axis: Axis) -> None:
    """Label a logarithmic axis 0.1, 1, 10 ...: powers need the mathematics that is turned off."""
    axis.set_major_locator(LogLocator())
    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    )
    axis.set_minor_formatter(NullFormatter())


def drawing(make: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function that makes a figure do so in the suite's style, whatever the user's is."""

    @wraps(make)
    def made(*arguments: Any, **options: Any) -> Figure:
        with context():
            figure = make(*arguments, **options)
            # ticks would else be made, and places found, when it is drawn, in the user's style
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return made


def letters(width: float) -> float:
    """Return the size in points of letters in a figure of some inches."""
    return SMALL if width > 4 else TINY
