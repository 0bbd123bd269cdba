"""Numbers of things, as people say them, and what may stand on a terminal or a page."""

import unicodedata

UNSEEN = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")
"""Unicode's control, format, unassigned, private and surrogate characters; ends of lines."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 cell`, `2 cells`; of what has another plural than with an s, `many` is that."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def visible(text: str) -> str:
    """Return `text` on one line, what a terminal or a page would obey written out: `\\x1b`.

    That is ANSI escapes, ends of lines (U+2028 and U+2029 too), and characters that turn the
    direction of writing.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in UNSEEN else character
        for character in text
    )
