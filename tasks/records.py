"""Records of a JSONL or CSV file, before anything is known of what they should hold.

A file is not trusted: it is read line by line with bounds on everything, and nothing in it is
evaluated.
"""

import csv
import io
import json
from collections.abc import Iterator
from typing import BinaryIO

from tasks.errors import nearest
from tasks.text import visible

REQUIRED = ("clean", "corrupted", "answer", "foil")
OPTIONAL = ("split", "entity")
MAX_LINE = 100_000
"""Bytes of a line."""
DELIMITERS = ",;\t|"
"""Of a table of text; which one its first line says."""
SHOWN_NAMES = 8
_UTF_16 = "UTF-16; save it as UTF-8"
_COMPRESSED = "compressed; unpack it first"
FOREIGN = {
    **dict.fromkeys((b"\xff\xfe", b"\xfe\xff"), _UTF_16),
    **dict.fromkeys((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), _COMPRESSED),
    b"PK\x03\x04": "a ZIP archive or a spreadsheet (.xlsx); save its table as CSV, in UTF-8",
    b"PAR1": "Parquet; save its table as CSV, in UTF-8",
    b"ARROW1": "Arrow or Feather; save its table as CSV, in UTF-8",
    b"\xd0\xcf\x11\xe0": "a spreadsheet (.xls); save its table as CSV, in UTF-8",
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the file itself",
}
"""How files begin that are no text in UTF-8, and what is to be done with them."""


class BadFileError(Exception):
    """What ends the reading of a file."""


class BadRowError(Exception):
    """What is wrong with a row; the others are still looked at."""


def text_lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, none longer than `MAX_LINE` bytes.

    They end in a line feed, however they do in the file: CR LF and CR alone too. A byte order mark
    in front of one is left away: files that were put together have one each.
    """
    beginning = file.read(32)
    for mark, what in FOREIGN.items():
        if beginning.startswith(mark):
            raise BadFileError(f"it is {what}")
    if b"\0" in beginning[:4]:
        raise BadFileError(f"it is {_UTF_16}")
    file.seek(0)
    # One character a byte: lines are divided before anything is decoded.
    texts, number = io.TextIOWrapper(file, "latin-1", newline=None), 0
    while line := texts.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise BadFileError(f"line {number} is longer than {MAX_LINE} bytes")
        try:
            yield number, line.encode("latin-1").decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise BadFileError(
                f"line {number} is not UTF-8 (byte {error.start + 1} of the line); save it as UTF-8"
            ) from None


def json_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    """Yield (line, value) of every line that is not empty."""
    found = False
    for number, line in lines:
        text = line.strip()
        if not text:
            continue
        if not found and (text == "{" or text[0] == "["):
            raise BadFileError(
                "it is one JSON value as a whole; it has to have an object in each line, without "
                "brackets and commas around them (`jq -c '.[]'` writes a list so)"
            )
        if not found and _delimiter(text)[1]:
            raise BadFileError("it is a table; call it .csv or .tsv")
        found = True
        try:
            yield number, json.loads(text, object_pairs_hook=_without_repeats)
        except BadRowError as error:
            yield number, error
        except json.JSONDecodeError as error:
            at = f'column {error.colno}, at "{text[error.pos :][:20]}"'
            yield number, BadRowError(f"is not JSON: {error.msg} ({at})")
        except RecursionError:
            yield number, BadRowError("is not JSON: it is nested too deeply")
        except ValueError:  # of no other kind than what Python does not read as a whole number
            yield number, BadRowError("has a number of thousands of digits")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRowError(f'has the column "{twice[:80]}" twice')
    return found


def csv_records(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, object]]:
    """Yield (line, mapping) of every row below the header; that again, or nothing, is no row."""
    number = begun = 1

    def texts() -> Iterator[str]:
        nonlocal number
        for item in lines:
            number = item[0]
            yield item[1]

    text = texts()
    first = next((line for line in text if line.strip()), "")
    if first.lstrip().startswith("{"):
        raise BadFileError("it is lines of JSON; call it .jsonl")
    kept, delimiter = _delimiter(first)
    reader = csv.reader(_behind(kept, text), delimiter=delimiter or DELIMITERS[0], strict=True)
    header: list[str] = []
    try:
        for values in reader:
            names = [_name(value) for value in values]
            begun, line = number + 1, number
            if not any(names) or names == header:
                continue
            if not header:
                header = names
                _check_header(header)
            elif sorted(names) == sorted(header):
                yield line, BadRowError("names the columns again, in another order")
            else:
                yield line, _record(header, values)
    except csv.Error as error:
        what = "a quote is never closed" if "end of data" in str(error) else error
        raise BadFileError(
            f"the row that begins in line {begun} is not CSV ({what}); a quote within quotes is "
            "written twice"
        ) from None
    if not header:
        _check_header(header)


def _behind(first: list[str], rest: Iterator[str]) -> Iterator[str]:
    yield from first
    yield from rest


def _delimiter(line: str) -> tuple[list[str], str]:
    """What divides the columns that the first line names; the line, unless it says only that.

    "" where it does not name them.
    """
    said = line.strip('\n"')
    if said.lower().startswith("sep=") and len(said) == 5:  # as a spreadsheet writes it
        return [], said[-1]
    for delimiter in DELIMITERS:
        if {*REQUIRED} <= {_name(name) for name in said.split(delimiter)}:
            return [line], delimiter
    return [line], ""


def _name(value: str) -> str:
    return value.strip().strip('"').strip().lower()


def _check_header(header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    if missing:
        shown = ", ".join(f'"{visible(name[:40])}"' for name in header[:SHOWN_NAMES])
        raise BadFileError(
            f"its first line has no column {', '.join(missing)}, but {shown or 'nothing'}; it has "
            f"to name {', '.join(REQUIRED)}, and {' and '.join(OPTIONAL)} if wanted"
        )
    for name in header:
        if name not in REQUIRED + OPTIONAL:
            raise BadFileError(f"its first line has {unknown_column(name)}")
        if header.count(name) > 1:
            raise BadFileError(f'its first line names the column "{name}" twice')


def unknown_column(name: str) -> str:
    """Say which column is not known, and which are."""
    if not name:
        return "a column without a name, as an index has or a delimiter at the end makes one"
    return f'a column "{visible(name[:80])}".{nearest(name, REQUIRED + OPTIONAL)}'


def _record(header: list[str], values: list[str]) -> dict[str, str] | BadRowError:
    """A row by its columns, or what is wrong with it."""
    whole = len(values) == len(header)
    for value in values:
        text = value.strip()
        if (
            value[:1] == " "
            and text[:1] == '"'
            and len(text) > 1
            and (not whole or text[-1] == '"')
        ):
            return BadRowError(
                f"has a space between delimiter and quotes ({value[:40]}), which would be a part "
                "of the value; leave that space away"
            )
    if not whole:
        return BadRowError(f"has {len(values)} values for {len(header)} columns")
    return dict(zip(header, values, strict=True))
