"""Pairs of prompts read from a JSONL or CSV file.

A file is not trusted: it is read line by line with bounds on everything, and nothing in it is
evaluated.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.benchmark_rows import is_benchmark_row, plain_row
from tasks.errors import UserInputError, nearest
from tasks.file_size import check_size
from tasks.records import (
    OPTIONAL,
    REQUIRED,
    BadFileError,
    BadRowError,
    csv_records,
    json_records,
    text_lines,
    unknown_column,
)
from tasks.task import SPLITS, PromptPair

MAX_TEXT = 20_000
"""Characters of a value."""
MAX_ROWS = 100_000
SHOWN_PROBLEMS = 10
TABLES = (".csv", ".tsv")


@dataclass(frozen=True)
class Row:
    """One pair of the file; `split` is None where the file has no such column."""

    pair: PromptPair
    split: str | None


def read_rows(path: Path, counterfactual: str | None = None) -> tuple[str, tuple[Row, ...]]:
    """Return the sha256 and the rows of a file.

    `counterfactual` says which of a benchmark's rows is meant (`tasks.benchmark_rows`). Raises
    `UserInputError` for a file that cannot be read or has rows that are no pairs of prompts: names
    the rows, and what would be right.
    """
    where = f'Task file "{path}"'
    check_size(path, where)
    problems = _Problems()
    records = csv_records if path.suffix.lower() in TABLES else json_records
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            rows = tuple(_valid_rows(records(text_lines(file)), problems, counterfactual))
    except BadFileError as error:
        raise UserInputError(f"{where}: {str(error).removesuffix('.')}.") from None
    except OSError as error:
        raise UserInputError(f"{where} cannot be read: {error.strerror}.") from None
    if problems.count:
        raise UserInputError(f"{where}: {problems}.")
    if not rows:
        raise UserInputError(
            f"{where} has no rows; each needs {', '.join(REQUIRED)}, and may have "
            f"{' and '.join(OPTIONAL)}."
        )
    return digest, rows


def _valid_rows(
    records: Iterable[tuple[int, object]], problems: "_Problems", counterfactual: str | None
) -> Iterator[Row]:
    """The rows of records (line, record); what is wrong with the others goes to `problems`."""
    seen: dict[tuple[str, ...], int] = {}
    split_of: dict[str, tuple[int, str | None]] = {}
    with_split: bool | None = None
    for number, (line, record) in enumerate(records, 1):
        if number > MAX_ROWS:
            raise BadFileError(f"it has more than {MAX_ROWS} rows")
        try:
            row = _row(record, number, counterfactual)
            pair = row.pair
            first = seen.setdefault((pair.clean, pair.corrupted, pair.answer, pair.foil), number)
            if first != number:
                raise BadRowError(f"is row {first} again")
            other, split = split_of.setdefault(pair.clean, (number, row.split))
            if "train" in (split, row.split) and split != row.split:
                raise BadRowError(
                    f'has the clean prompt of row {other}, which is in the split "{split}"; no '
                    "prompt of another split may stand in train"
                )
            has_split = row.split is not None
            if with_split not in (None, has_split):
                had = ("has a split, as others have not", "has no split, as others have")
                raise BadRowError(had[with_split is True])
        except BadRowError as error:
            problems.add(f"row {number} (line {line}) {error}")
        else:
            with_split = has_split
            yield row


@dataclass
class _Problems:
    """What is wrong with rows: the first few in words, all of them counted."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        self.count += 1
        if self.count <= SHOWN_PROBLEMS:
            self.shown.append(problem.removesuffix("."))

    def __str__(self) -> str:
        more = self.count - len(self.shown)
        return "; ".join(self.shown) + (f"; and {more} more" if more else "")


def _row(record: object, number: int, counterfactual: str | None) -> Row:
    """Check one row."""
    if isinstance(record, BadRowError):
        raise record
    if isinstance(record, Mapping) and is_benchmark_row(record):
        try:
            record = plain_row(record, counterfactual)
        except ValueError as error:
            raise BadRowError(str(error)) from None
    elif counterfactual is not None:
        raise BadRowError('has no counterfactuals, which the setting "counterfactual" chooses of')
    if not isinstance(record, Mapping):
        raise BadRowError(f"is {type(record).__name__}, not an object with {', '.join(REQUIRED)}")
    for name in record:
        if name not in REQUIRED + OPTIONAL:
            raise BadRowError(f"has {unknown_column(name)}")
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise BadRowError(f"has no {', '.join(missing)}")
    text = {name: _text(name, value) for name, value in record.items()}
    _check_spaces(text)
    if _same(text["answer"], text["foil"]):
        ways = "" if text["answer"] == text["foil"] else ", its accents written in two ways"
        raise BadRowError(f'has "{text["answer"][:80]}" as answer and as foil{ways}')
    if _same(text["clean"], text["corrupted"]):
        raise BadRowError("has the clean prompt as the corrupted one")
    split = text.get("split")
    if split is not None and split not in SPLITS:
        raise BadRowError(f'has the split "{split[:80]}".{nearest(split, SPLITS)}')
    pair = PromptPair(
        clean=text["clean"],
        corrupted=text["corrupted"],
        answer=text["answer"],
        foil=text["foil"],
        entity=text.get("entity", f"row {number}"),
    )
    return Row(pair, split)


def _same(one: str, other: str) -> bool:
    """Whether a reader sees the same: an accent may be a part of its letter or stand behind it."""
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def _check_spaces(text: Mapping[str, str]) -> None:
    """The space between prompt and answer belongs to the answer, in scripts that have one there.

    That is looked at between cased letters alone: digits, code and Chinese go on without a space.
    White space around one prompt that is not around the other is a slip, such as a space behind a
    comma, and a difference between the two that nobody meant.
    """
    clean, corrupted = text["clean"], text["corrupted"]
    for where, of_clean, of_corrupted in (
        ("in front of", _blank_in_front(clean), _blank_in_front(corrupted)),
        ("behind", _blank_in_front(clean[::-1]), _blank_in_front(corrupted[::-1])),
    ):
        if of_clean != of_corrupted:
            raise BadRowError(
                f"has other white space {where} clean than {where} corrupted; write both alike"
            )
    for role in ("answer", "foil"):
        value = text[role]
        word = value.strip()
        if not _is_cased(word[0]):
            continue
        right = f'write " {word[:80]}"'
        if value != value.rstrip():
            raise BadRowError(f"has white space behind the {role}; {right}")
        for name in ("clean", "corrupted"):
            if text[name].endswith(" "):
                raise BadRowError(
                    f"has a space at the end of {name}, which belongs to the {role}; {right}"
                )
            if value == word and _is_cased(text[name][-1]):
                raise BadRowError(f"has no space between {name} and {role}; {right}")


def _blank_in_front(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _is_cased(character: str) -> bool:
    return character.lower() != character.upper()


def _text(name: str, value: object) -> str:
    """Check one value."""
    if not isinstance(value, str):
        shown = json.dumps(value)[:80]
        advice = "; write it in quotes" if isinstance(value, int | float) else ""
        if value is None and name in OPTIONAL:
            advice = "; leave it away in all rows, or say it in all"
        raise BadRowError(f"has {shown} as {name}, which is not text{advice}")
    if not value.strip():
        raise BadRowError(f"has an empty {name}")
    if len(value) > MAX_TEXT:
        raise BadRowError(f"has {len(value)} characters as {name}; at most {MAX_TEXT} are taken")
    for at, character in enumerate(value):
        if problem := _unseen(character, value[at - 1] if at else " "):
            code = f"U+{ord(character):04X}"
            raise BadRowError(f"has the character {code} in {name} (place {at + 1}), {problem}")
    return value


def _unseen(character: str, before: str) -> str:
    """What is wrong with a character that a reader does not see, or not as what it is; else ""."""
    if character in _BLANKS:
        return f"which is {unicodedata.name(character)} and is not seen; leave it away"
    if character == " " or character.isalnum():
        return ""
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    if kind == "Cs" or character in _CONTROLS:
        return "which no prompt can have"
    if character == "\N{REPLACEMENT CHARACTER}":
        return "which stands for what another program could not read"
    if kind == "Zs" and character != "\N{IDEOGRAPHIC SPACE}":
        return f"which is {name} and looks like a space; write a plain one"
    if "\ufe00" <= character <= "\ufe0f" and before.isascii() and before not in _KEYCAPS:
        return f"which is {name} and is not seen; leave it away"
    joiner = character in "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}" and not before.isascii()
    joiner |= _is_tag(character) and (_is_tag(before) or before == "\N{WAVING BLACK FLAG}")
    if kind in ("Zl", "Zp") or (
        kind == "Cf" and not joiner
    ):  # joiners are spelling in some scripts
        return f"which is {name} and is not seen; leave it away"
    return ""


def _is_tag(character: str) -> bool:
    """Whether it spells the name of a country's part behind a flag, and is nothing elsewhere."""
    return "\U000e0020" <= character <= "\U000e007f"


_KEYCAPS = "0123456789#*"
"""Characters that are a symbol with a variation selector behind them."""
_CONTROLS = frozenset(map(chr, (*range(9), *range(11, 32), 127, *range(128, 160))))
"""Control characters but tab and line feed."""
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and symbols that are drawn as nothing."""
