"""Pairs of prompts read from a JSONL or CSV file.

A file is not trusted: it is read line by line with bounds on everything, and nothing in it is
evaluated.
"""

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from tasks.benchmark_rows import is_benchmark_row, plain_row
from tasks.errors import UserInputError, nearest
from tasks.file_size import check_size
from tasks.task import SPLITS, PromptPair

REQUIRED = ("clean", "corrupted", "answer", "foil")
OPTIONAL = ("split", "entity")
MAX_LINE = 100_000
"""Bytes of a line."""
MAX_TEXT = 20_000
"""Characters of a value."""
MAX_ROWS = 100_000
SHOWN_PROBLEMS = 10
DELIMITERS = ",;\t"
"""Of a table of text; which one its first line says."""
TABLES = (".csv", ".tsv")
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


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
    records = _csv_records if path.suffix.lower() in TABLES else _json_records
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            rows = tuple(_sound_rows(records(_lines(file)), problems, counterfactual))
    except _BadFileError as error:
        raise UserInputError(f"{where}: {error}.") from None
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


def _sound_rows(
    records: Iterable[tuple[int, object]], problems: "_Problems", counterfactual: str | None
) -> Iterator[Row]:
    """The rows of records (line, record); what is wrong with the others goes to `problems`."""
    seen: dict[tuple[str, ...], int] = {}
    split_of: dict[str, tuple[int, str | None]] = {}
    with_split: bool | None = None
    for number, (line, record) in enumerate(records, 1):
        if number > MAX_ROWS:
            raise _BadFileError(f"it has more than {MAX_ROWS} rows")
        try:
            row = _row(record, number, counterfactual)
            pair = row.pair
            first = seen.setdefault((pair.clean, pair.corrupted, pair.answer, pair.foil), number)
            if first != number:
                raise _BadRowError(f"is row {first} again")
            other, split = split_of.setdefault(pair.clean, (number, row.split))
            if "train" in (split, row.split) and split != row.split:
                raise _BadRowError(
                    f'has the clean prompt of row {other}, which is in the split "{split}"; no '
                    "prompt of another split may stand in train"
                )
            has_split = row.split is not None
            if with_split not in (None, has_split):
                had = ("has a split, as others have not", "has no split, as others have")
                raise _BadRowError(had[with_split is True])
        except _BadRowError as error:
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


class _BadFileError(Exception):
    """What ends the reading of a file."""


class _BadRowError(Exception):
    """What is wrong with a row; the others are still looked at."""


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, none longer than `MAX_LINE` bytes.

    They end in a line feed, however they do in the file: CR LF and CR alone too. A byte order mark
    in front of one is left away: files that were put together have one each.
    """
    if file.read(2) in UTF_16:
        raise _BadFileError("it is UTF-16; save it as UTF-8")
    file.seek(0)
    # One character a byte: lines are divided before anything is decoded.
    texts, number = io.TextIOWrapper(file, "latin-1", newline=None), 0
    while line := texts.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise _BadFileError(f"line {number} is longer than {MAX_LINE} bytes")
        try:
            yield number, line.encode("latin-1").decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise _BadFileError(
                f"line {number} is not UTF-8 (byte {error.start + 1} of the line)"
            ) from None


def _json_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    """Yield (line, value) of every line that is not empty."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield number, json.loads(line, object_pairs_hook=_without_repeats)
        except _BadRowError as error:
            yield number, error
        except (ValueError, RecursionError) as error:
            what = "it is nested too deeply" if isinstance(error, RecursionError) else error
            yield number, _BadRowError(f"is not JSON: {what}")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _BadRowError(f'has the column "{twice[:80]}" twice')
    return found


def _csv_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    """Yield (line, mapping) of every row below the header; the header again is no row."""
    first, delimiter = _delimiter(next(lines, (1, ""))[1])
    reader = csv.reader(chain(first, (line for _, line in lines)), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise _BadFileError(
                f"its first line has no column {', '.join(missing)}; it names the columns: "
                f"{', '.join(REQUIRED)}, and {' and '.join(OPTIONAL)} if wanted"
            )
        if len(set(header)) < len(header):
            raise _BadFileError("its first line names a column twice")
        for values in reader:
            names = [value.strip() for value in values]
            if not values or names == header:
                continue
            if sorted(names) == sorted(header):
                problem = "names the columns again, in another order"
                yield reader.line_num, _BadRowError(problem)
            elif len(values) == len(header):
                yield reader.line_num, dict(zip(header, values, strict=True))
            else:
                problem = f"has {len(values)} values for {len(header)} columns"
                yield reader.line_num, _BadRowError(problem)
    except csv.Error as error:
        raise _BadFileError(f"line {reader.line_num} is not CSV: {error}") from None


def _delimiter(line: str) -> tuple[list[str], str]:
    """What divides the columns that the first line names; the line, unless it says only that."""
    said = line.strip("\n")
    if said.lower().startswith("sep=") and len(said) == 5:  # as a spreadsheet writes it
        return [], said[-1]
    for delimiter in DELIMITERS:
        if {*REQUIRED} <= {name.strip(' "') for name in said.split(delimiter)}:
            return [line], delimiter
    return [line], DELIMITERS[0]


def _row(record: object, number: int, counterfactual: str | None) -> Row:
    """Check one row."""
    if isinstance(record, _BadRowError):
        raise record
    if isinstance(record, Mapping) and is_benchmark_row(record):
        try:
            record = plain_row(record, counterfactual)
        except ValueError as error:
            raise _BadRowError(str(error)) from None
    elif counterfactual is not None:
        raise _BadRowError('has no counterfactuals, which the setting "counterfactual" chooses of')
    if not isinstance(record, Mapping):
        raise _BadRowError(f"is {type(record).__name__}, not an object with {', '.join(REQUIRED)}")
    for name in record:
        if name not in REQUIRED + OPTIONAL:
            raise _BadRowError(f'has a column "{name[:80]}".{nearest(name, REQUIRED + OPTIONAL)}')
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise _BadRowError(f"has no {', '.join(missing)}")
    text = {name: _text(name, value) for name, value in record.items()}
    _check_spaces(text)
    if text["answer"] == text["foil"]:
        raise _BadRowError(f'has "{text["answer"][:80]}" as answer and as foil')
    if text["clean"] == text["corrupted"]:
        raise _BadRowError("has the clean prompt as the corrupted one")
    split = text.get("split")
    if split is not None and split not in SPLITS:
        raise _BadRowError(f'has the split "{split[:80]}".{nearest(split, SPLITS)}')
    pair = PromptPair(
        clean=text["clean"],
        corrupted=text["corrupted"],
        answer=text["answer"],
        foil=text["foil"],
        entity=text.get("entity", f"row {number}"),
    )
    return Row(pair, split)


def _check_spaces(text: Mapping[str, str]) -> None:
    """The space between prompt and answer belongs to the answer, in scripts that have one there.

    That is looked at between cased letters alone: digits, code and Chinese go on without a space.
    """
    for role in ("answer", "foil"):
        value = text[role]
        word = value.strip(" ")
        if not _is_cased(word[0]):
            continue
        right = f'write " {word[:80]}"'
        if value.endswith(" "):
            raise _BadRowError(f"has a space behind the {role}; {right}")
        for name in ("clean", "corrupted"):
            if text[name].endswith(" "):
                raise _BadRowError(
                    f"has a space at the end of {name}, which belongs to the {role}; {right}"
                )
            if value == word and _is_cased(text[name][-1]):
                raise _BadRowError(f"has no space between {name} and {role}; {right}")


def _is_cased(character: str) -> bool:
    return character.lower() != character.upper()


def _text(name: str, value: object) -> str:
    """Check one value."""
    if not isinstance(value, str):
        shown = json.dumps(value)[:80]
        raise _BadRowError(f"has {shown} as {name}, which is not text; write it in quotes")
    if not value.strip():
        raise _BadRowError(f"has an empty {name}")
    if len(value) > MAX_TEXT:
        raise _BadRowError(f"has {len(value)} characters as {name}; at most {MAX_TEXT} are taken")
    for at, character in enumerate(value):
        if problem := _unseen(character, value[at - 1] if at else " "):
            code = f"U+{ord(character):04X}"
            raise _BadRowError(f"has the character {code} in {name} (place {at + 1}), {problem}")
    return value


def _unseen(character: str, before: str) -> str:
    """What is wrong with a character that a reader does not see, or not as what it is; else ""."""
    if character == " " or character.isalnum():
        return ""
    kind, name = unicodedata.category(character), unicodedata.name(character, "")
    if kind == "Cs" or character in _CONTROLS:
        return "which no prompt can have"
    if character == "\N{REPLACEMENT CHARACTER}":
        return "which stands for what another program could not read"
    if kind == "Zs" and character != "\N{IDEOGRAPHIC SPACE}":
        return f"which is {name} and looks like a space; write a plain one"
    joiner = character in "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}" and not before.isascii()
    if kind in ("Zl", "Zp") or (
        kind == "Cf" and not joiner
    ):  # joiners are spelling in some scripts
        return f"which is {name} and is not seen; leave it away"
    return ""


_CONTROLS = frozenset(map(chr, (*range(9), *range(11, 32), 127, *range(128, 160))))
"""Control characters but tab and line feed."""
