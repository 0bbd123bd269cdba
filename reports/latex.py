"""Tables for LaTeX, with booktabs; no string of a run can act in it."""

import re
from collections.abc import Iterator, Sequence

from pandas import DataFrame

from reports.text import MINUS, MISSING, TIMES
from tasks.text import visible

PREAMBLE = r"\usepackage[T1]{fontenc}\usepackage{array,booktabs}"
"""All that the tables need of pdfLaTeX (of 2020 or later): quotes and accents, and rules."""
PAGE, LETTER, GAP = 486, 4.8, 12
"""Points at \\footnotesize: a page (6.75 in), a letter on average, the room between columns."""
LONG = 20
"""Letters of a word that may be broken."""
_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        MINUS: r"$-$",
        MISSING: "--",
        TIMES: r"$\times$",
        "≥": r"$\geq$",
        "β": r"$\beta$",
        "θ": r"$\theta$",
        "τ": r"$\tau$",
        "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
        "λ": r"$\lambda$",
        "₀": r"$_0$",
        "·": r"$\cdot$",
        "…": r"\ldots{}",
        "∞": r"$\infty$",
        "␣": r"\textvisiblespace{}",
        "→": r"$\to$",
        "±": r"$\pm$",
    }
)


def escape(text: str) -> str:
    """Return `text` as LaTeX that prints it; letters that pdfLaTeX lacks are written `\\u4e2d`."""
    known = (
        one
        if one.isascii() or "\xa1" <= one <= "\xff" or ord(one) in _SPECIAL
        else one.encode("unicode_escape").decode()
        for one in visible(text)
    )
    return "".join(known).translate(_SPECIAL)


def latex(shown: DataFrame, *, note: str = "") -> str:
    """Return a table of strings as a `tabular` with booktabs rules; `note` is a comment on top.

    The first line is a comment that says what a document has to load (`PREAMBLE`). Numbers stand to
    the right. The first column and columns that hold words are set to the left, and broken into
    lines where the table would be wider than a page at \\footnotesize.
    """
    rows: list[list[str]] = [list(shown.columns), *shown.to_numpy().tolist()]
    header, *lines = map(_line, rows)
    comments = [f"% {visible(line)}" for line in (f"preamble: {PREAMBLE}", note) if line]
    begin = rf"\begin{{tabular}}{{@{{}}{''.join(_shape(rows))}@{{}}}}"
    end = [r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join([*comments, begin, r"\toprule", header, r"\midrule", *lines, *end])


def _line(row: Sequence[str]) -> str:
    text = " & ".join(
        " ".join(r"\allowbreak{}".join(map(escape, _parts(word))) for word in cell.split(" "))
        for cell in row
    )
    if text.lstrip().startswith(("[", "*")):  # would be an option of the rule or line end before
        text = f"{{{text.lstrip()[0]}}}{text.lstrip()[1:]}"
    return rf"{text} \\"


def _parts(word: str) -> list[str]:
    """Return where a line may end in a long word such as `activ_patch[direction=denoising]`."""
    return re.split(r"(?<=[\[,_])", word) if len(word) > LONG else [word]


def _shape(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the type of every column; those of words share what the numbers leave of the page.

    Numbers with a range behind them are broken into lines only where that is not enough.
    """
    columns = list(zip(*rows, strict=True))
    words = [place == 0 or not _numeric(cells[1:]) for place, cells in enumerate(columns)]
    whole = [LETTER * max(map(len, cells)) for cells in columns]
    parts = [
        [one for word in " ".join(cells).split(" ") for one in _parts(word)] for cells in columns
    ]
    least = [LETTER * max(map(len, own)) for own in parts]
    room = PAGE - GAP * (len(columns) - 1)

    def at_most(most: int, *, numbers: bool) -> list[float]:
        return [
            min(one, max(most, low)) if text else low if numbers else one
            for one, low, text in zip(whole, least, words, strict=True)
        ]

    tries = [(most, numbers) for numbers in (False, True) for most in range(PAGE, 60, -2)]
    made = (at_most(most, numbers=numbers) for most, numbers in tries)
    chosen = next((widths for widths in made if sum(widths) <= room), at_most(0, numbers=True))
    for width, one, text in zip(chosen, whole, words, strict=True):
        if width < one:
            side = r"\raggedright" if text else r"\raggedleft"
            yield rf">{{{side}\arraybackslash}}p{{{width:.0f}pt}}"
        else:
            yield "l" if text else "r"


def _numeric(cells: Sequence[str]) -> bool:
    return all(not cell or not cell[0].isalpha() or cell == "undefined" for cell in cells)
