"""Durations, as people say them."""


def in_words(seconds: float | None) -> str:
    """A duration as people say it: `about 12 min`."""
    if seconds is None:
        return "an unknown time: nothing has been measured on this model yet"
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"about {round(minutes)} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def in_one_process(seconds: float | None) -> str:
    """The same, as a plan says it of what would run."""
    return in_words(seconds) + ("" if seconds is None else " in one process")
