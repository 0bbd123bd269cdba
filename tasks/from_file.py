"""A task of the user's own: pairs of prompts in a JSONL or CSV file.

A file is not trusted: it is read line by line with bounds on everything, and nothing in it is
evaluated.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, BinaryIO, ClassVar, Literal

from tasks.errors import UserInputError, nearest
from tasks.task import SPLITS, PromptPair

REQUIRED = ("clean", "corrupted", "answer", "foil")
OPTIONAL = ("split", "entity")
MAX_FILE = 64 * 2**20
MAX_LINE = 100_000
"""Bytes of a line."""
MAX_TEXT = 20_000
"""Characters of a value."""
MAX_ROWS = 100_000
SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Row:
    """One pair of the file; `split` is None where the file has no such column."""

    pair: PromptPair
    split: str | None


@dataclass(frozen=True)
class FromFile:
    """Pairs from a file with the columns clean, corrupted, answer, foil; also split and entity.

    Without splits in the file, entities are divided as those of every task, and there is no shifted
    split. Without entities every row is its own.
    """

    path: str = field(repr=False)
    """A .jsonl or .csv file."""
    lengths: Literal["one", "several"] = "one"
    """Prompts of the most frequent length only, or of all lengths."""
    digest: str = field(init=False, repr=False, default="")
    """sha256 of the file."""

    name: ClassVar[str] = "file"

    def __post_init__(self) -> None:
        """Read the file.

        Raises `UserInputError` for a file that cannot be read or has rows that are no pairs of
        prompts: names the rows, and what would be right.
        """
        digest, rows = read_rows(Path(self.path))
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "_rows", rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the rows of the file."""
        rows: tuple[Row, ...] = self._rows  # type: ignore[attr-defined]
        return rows

    @property
    def title(self) -> str:
        """Return what the task is called in tables."""
        return Path(self.path).name

    @property
    def splits(self) -> tuple[str, ...]:
        """Return the splits that the file has; those of a file without any are train and test."""
        own = {row.split for row in self.rows}
        return SPLITS[:2] if own == {None} else tuple(name for name in SPLITS if name in own)

    @property
    def divided(self) -> bool:
        """Return whether the file says itself which rows are in which split."""
        return self.rows[0].split is not None

    @cached_property
    def _of_entity(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.pair.entity, []).append(row)
        return found

    def entities(self) -> Sequence[str]:
        """Return the entities, in the order of the file."""
        return tuple(self._of_entity)

    def probe(self, split: str, entity: str) -> PromptPair:
        """Return the first row about the entity, of the split where it has one there."""
        rows = self._of_entity[entity]
        return next((row.pair for row in rows if row.split == split), rows[0].pair)

    def candidates(self, split: str, entities: Sequence[str], seed: int) -> Iterator[PromptPair]:
        """Yield the rows of a split over the entities, a round of entities at a time."""
        draw = Random(f"file/{seed}")
        wanted = (split, None) if split in self.splits else ()
        queues = [
            draw.sample(rows, len(rows))
            for entity in draw.sample(list(entities), len(entities))
            for rows in [[row.pair for row in self._of_entity[entity] if row.split in wanted]]
        ]
        for turn in range(max(map(len, queues), default=0)):
            yield from (queue[turn] for queue in queues if turn < len(queue))


def read_rows(path: Path) -> tuple[str, tuple[Row, ...]]:
    """Return the digest and the rows of a file.

    Raises `UserInputError`.
    """
    where = f'Task file "{path}"'
    if not path.is_file():
        raise UserInputError(f"{where}: there is no such file.")
    if path.stat().st_size > MAX_FILE:
        raise UserInputError(
            f"{where} has {path.stat().st_size / 2**20:.0f} MiB; at most {MAX_FILE // 2**20} MiB "
            "are read."
        )
    digest = hashlib.sha256()
    rows: list[Row] = []
    problems: list[str] = []
    n_bad = 0
    seen: dict[PromptPair, int] = {}
    try:
        with path.open("rb") as file:
            lines = _lines(file, digest)
            records = _csv_records(lines) if path.suffix.lower() == ".csv" else _json_records(lines)
            for number, (line, record) in enumerate(records, 1):
                if number > MAX_ROWS:
                    raise _BadFileError(f"it has more than {MAX_ROWS} rows")
                try:
                    row = _row(record, number)
                    first = seen.setdefault(row.pair, number)
                    if first != number:
                        raise _BadRowError(f"is row {first} again")
                    if rows and (row.split is None) != (rows[0].split is None):
                        raise _BadRowError(
                            "has no split, as others have"
                            if row.split is None
                            else "has a split, as others have not"
                        )
                    rows.append(row)
                except _BadRowError as error:
                    n_bad += 1
                    if n_bad <= SHOWN_PROBLEMS:
                        problems.append(f"row {number} (line {line}) {error}")
    except _BadFileError as error:
        raise UserInputError(f"{where}: {error}.") from None
    except OSError as error:
        raise UserInputError(f"{where} cannot be read: {error.strerror}.") from None
    if problems:
        more = n_bad - len(problems)
        shown = "; ".join(problems) + (f"; and {more} more" if more else "")
        raise UserInputError(f"{where}: {shown}.")
    if not rows:
        raise UserInputError(
            f"{where} has no rows; each needs {', '.join(REQUIRED)}, and may have "
            f"{' and '.join(OPTIONAL)}."
        )
    return digest.hexdigest(), tuple(rows)


class _BadFileError(Exception):
    """What ends the reading of a file."""


class _BadRowError(Exception):
    """What is wrong with a row; the others are still looked at."""


def _lines(file: BinaryIO, digest: Any) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, none longer than `MAX_LINE` bytes."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise _BadFileError(f"line {number} is longer than {MAX_LINE} bytes")
        digest.update(line)
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
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
    """Yield (line, mapping) of every row below the header."""
    reader = csv.reader((line for _, line in lines), strict=True)
    try:
        header = next(reader, [])
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise _BadFileError(
                f"its first line has no column {', '.join(missing)}; it names the columns: "
                f"{', '.join(REQUIRED)}, and {' and '.join(OPTIONAL)} if wanted"
            )
        if len(set(header)) < len(header):
            raise _BadFileError("its first line names a column twice")
        for values in reader:
            if not values:
                continue
            if len(values) == len(header):
                yield reader.line_num, dict(zip(header, values, strict=True))
            else:
                problem = f"has {len(values)} values for {len(header)} columns"
                yield reader.line_num, _BadRowError(problem)
    except csv.Error as error:
        raise _BadFileError(f"line {reader.line_num} is not CSV: {error}") from None


def _row(record: object, number: int) -> Row:
    """Check one row."""
    if isinstance(record, _BadRowError):
        raise record
    if not isinstance(record, Mapping):
        raise _BadRowError(f"is {type(record).__name__}, not an object with {', '.join(REQUIRED)}")
    for name in record:
        if name not in REQUIRED + OPTIONAL:
            raise _BadRowError(f'has a column "{name[:80]}".{nearest(name, REQUIRED + OPTIONAL)}')
    missing = [name for name in REQUIRED if name not in record]
    if missing:
        raise _BadRowError(f"has no {', '.join(missing)}")
    text = {name: _text(name, value) for name, value in record.items()}
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
        surrogate = "\ud800" <= character <= "\udfff"
        if surrogate or (not character.isprintable() and character in _CONTROLS):
            raise _BadRowError(
                f"has the character U+{ord(character):04X} in {name} (place {at + 1}), which no "
                "prompt can have"
            )
    return value


_CONTROLS = frozenset(map(chr, (*range(9), 11, 12, *range(14, 32), 127, *range(128, 160))))
"""Control characters but tab, line feed and carriage return."""
