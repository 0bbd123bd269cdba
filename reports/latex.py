"""Tables for LaTeX, with booktabs; no string of a run can act in it."""

from collections.abc import Sequence

from reports.text import MINUS, MISSING, TIMES, visible

PREAMBLE = r"\usepackage[T1]{fontenc}\usepackage{booktabs}"
"""All that the tables need of pdfLaTeX (of 2020 or later): quotes and accents, and rules."""
_SPECIAL = {
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


def escape(text: str) -> str:
    """Return `text` as LaTeX that prints it; letters that pdfLaTeX lacks are written `\\u4e2d`."""
    return "".join(map(_escaped, visible(text)))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    if character.isascii() or "\xa1" <= character <= "\xff":
        return character
    return "".join(_SPECIAL.get(c, c) for c in character.encode("unicode_escape").decode())


def latex(header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "") -> str:
    """Return a `tabular` with booktabs rules, numbers to the right; `note` is a comment on top.

    The first line is a comment that says what a document has to load (`PREAMBLE`). The first column
    and columns that hold words are set to the left.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    shape = "".join(
        "l" if place == 0 or not _numeric(cells) else "r" for place, cells in enumerate(columns)
    )
    lines = [" & ".join(map(escape, row)) + r" \\" for row in (header, *rows)]
    comments = [f"% {visible(line)}" for line in (f"preamble: {PREAMBLE}", note) if line]
    return "\n".join(
        [
            *comments,
            rf"\begin{{tabular}}{{@{{}}{shape}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _numeric(cells: Sequence[str]) -> bool:
    return all(not cell or not cell[0].isalpha() or cell == "undefined" for cell in cells)
