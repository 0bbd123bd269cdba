"""Text of anybody's in a terminal, where it can do nothing but be read."""

import unicodedata


def harmless(text: str) -> str:
    """`text` on one line, with control characters (ANSI, BEL, direction marks) written out."""
    return "".join(
        character if unicodedata.category(character)[0] != "C" else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode()
