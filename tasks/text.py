"""Numbers of things, as people say them."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 cell`, `2 cells`; of what has another plural than with an s, `many` is that."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
