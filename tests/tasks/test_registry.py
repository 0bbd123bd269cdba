"""Names are looked up, and settings read, with errors that name what would be right."""

import re
from dataclasses import dataclass
from typing import Literal

import pytest

from tasks import TASKS
from tasks.ccc import CCC
from tasks.errors import UserInputError, nearest
from tasks.registry import configure, lookup


@dataclass(frozen=True)
class Settings:
    size: int
    rate: float = 0.5
    mode: Literal["mean", "sum"] | None = None
    positions: Literal["all", "last"] | tuple[int, ...] = "all"

    def __post_init__(self) -> None:
        if self.rate > 1:
            raise ValueError("rate is at most 1")


def test_nearest_asks_only_where_something_is_near() -> None:
    assert nearest("stm", ["stem", "paper"]) == ' Did you mean "stem"? Known: paper, stem.'
    assert nearest("abba", ["ABBA", "BABA"]) == ' Did you mean "ABBA"? Known: ABBA, BABA.'
    assert nearest("zzz", ["stem", "paper"]) == " Known: paper, stem."
    assert nearest("zzz", []) == " Known: none."


def test_lookup_gives_the_entry_or_names_the_nearest() -> None:
    assert lookup(TASKS, "ccc", "task").load() is CCC
    with pytest.raises(
        UserInputError, match=r'no task "cccc"\. Did you mean "ccc"\? Known: antonym'
    ):
        lookup(TASKS, "cccc", "task")


def test_configure_builds_the_dataclass() -> None:
    assert configure(CCC, {}, "here") == CCC()
    assert configure(CCC, {"template": "paper"}, "here") == CCC(template="paper")
    # YAML reads 1e-3 as a string and gives lists.
    settings = configure(Settings, {"size": 2, "rate": "1e-3", "positions": [0, -1]}, "here")
    assert settings == Settings(size=2, rate=0.001, positions=(0, -1))
    assert configure(Settings, {"size": 2, "mode": None}, "here").mode is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"siez": 1}, 'here: there is no setting "siez". Did you mean "size"? Known: mode, '),
        ({3: 1}, 'here: there is no setting "3". Known: mode, positions, rate, size.'),
        ({}, 'here: the setting "size" is required.'),
        ({"size": "many"}, "here: the setting \"size\" is 'many', but input should be a valid int"),
        ({"size": 1, "mode": "maen"}, '"mode" cannot be "maen". Did you mean "mean"? Known: mean,'),
        ({"size": 1, "mode": 7}, "\"mode\" is 7, but input should be 'mean' or 'sum'. Known: mean"),
        ({"size": 1, "rate": 2.0}, "here: rate is at most 1."),
        ({"size": True}, 'here: the setting "size" is True, which is no number.'),
        ({"size": 1, "positions": [1, True]}, '"positions" is [1, True], which is no number.'),
        ({"size": 1, "mode": True}, "\"mode\" is True, but input should be 'mean' or 'sum'."),
        ({"size": 2**63}, '"size" is 9223372036854775808, but whole numbers have to be between'),
        ({"size": "9" * 30}, '"size" is 999999999999999999999999999999, but whole numbers'),
        ({"size": 1, "positions": [0, 2**63]}, '"positions" is 9223372036854775808, but whole'),
        ({"size": -(16**5000)}, '"size" is a number of thousands of digits, but whole numbers'),
        ({"size": 1, "rate": "-inf"}, '"rate" is -inf, but numbers have to be finite.'),
    ],
)
def test_configure_says_what_would_be_right(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserInputError, match=re.escape(message)):
        configure(Settings, settings, "here")
