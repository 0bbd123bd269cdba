"""Files of other people: what is unambiguous is read, the rest named with row and code point."""

import gzip
import json
import re
from pathlib import Path

import pytest

from tasks.build import build_task
from tasks.errors import UserInputError
from tasks.from_file import FromFile

HEADER = "clean,corrupted,answer,foil"
ROW = "It is red or,It is blue or, red, blue"
OTHER = "It was red or,It was blue or, red, blue"
EXPECTED = [tuple(line.split(",")) for line in (ROW, OTHER)]


def pairs_of(folder: Path, content: str | bytes, name: str = "own.csv") -> list[tuple[str, ...]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = FromFile(str(path)).rows
    return [(r.pair.clean, r.pair.corrupted, r.pair.answer, r.pair.foil) for r in rows]


def test_tables_of_every_kind_are_the_same_rows(tmp_path: Path) -> None:
    """However lines end and columns are divided, with byte order marks and repeated headers."""
    lines = [HEADER, ROW, OTHER]
    for end in ("\n", "\r\n", "\r"):
        assert pairs_of(tmp_path, end.join(lines)) == EXPECTED
        assert pairs_of(tmp_path, "\ufeff" + end.join(lines) + end) == EXPECTED
        again = [HEADER, ROW, "\ufeff" + HEADER.replace(",", ", "), OTHER]
        assert pairs_of(tmp_path, end.join(again)) == EXPECTED
        spread = ["", HEADER.title().replace(",", '","').join('""'), ROW, ",,,", OTHER, ", ,,"]
        assert pairs_of(tmp_path, end.join(spread)) == EXPECTED
        for divider in ";\t|":
            text = end.join(lines).replace(",", divider)
            assert pairs_of(tmp_path, text) == EXPECTED
            assert pairs_of(tmp_path, f"sep={divider}{end}{text}") == EXPECTED
            assert pairs_of(tmp_path, text, "own.tsv") == EXPECTED
    assert build_task(str(tmp_path / "own.tsv"), {})[0] == "file"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_break_in_a_quoted_cell_is_a_line_feed(tmp_path: Path, end: str) -> None:
    text = end.join([HEADER, f'"One;{end}it is red or","One;{end}it is blue or", red, blue'])
    ((clean, corrupted, *_),) = pairs_of(tmp_path, text)
    assert (clean, corrupted) == ("One;\nit is red or", "One;\nit is blue or")


def test_lines_of_json_may_end_in_any_way_too(tmp_path: Path) -> None:
    line = '{"clean": "It is {} or", "corrupted": "It is x or", "answer": " red", "foil": " blue"}'
    lines = [line.replace("{}", word) for word in ("a", "b")]
    for end in ("\n", "\r\n", "\r", "\n\ufeff"):
        assert len(pairs_of(tmp_path, end.join(lines), "own.jsonl")) == 2


UNSEEN = {
    "It is\u00a0red or,It is blue or, red, blue": "U+00A0 in clean (place 6)",
    "It is red or,It is blue or,\u00a0red, blue": "NO-BREAK SPACE and looks like a space",
    "It is red or,It is blue or, red,\u200b blue": "U+200B in foil (place 1), which is ZERO",
    "It is red or,It is\u2060 blue or, red, blue": "U+2060 in corrupted",
    "It is\u00ad red or,It is blue or, red, blue": "SOFT HYPHEN and is not seen",
    "It is\u200d red or,It is blue or, red, blue": "U+200D in clean",
    "It is\u2028red or,It is blue or, red, blue": "U+2028 in clean",
    "It is \ufffd or,It is blue or, red, blue": "another program could not read",
    "foil,clean,corrupted,answer": "names the columns again, in another order",
    "It is red or,It is blue or,red, blue": 'no space between clean and answer; write " red"',
    "It is red or ,It is blue or , red, blue": "a space at the end of clean, which belongs",
    "It is\u3164red or,It is blue or, red, blue": "U+3164 in clean (place 6), which is HANGUL",
    "It is\U000e0067 red or,It is blue or, red, blue": "TAG LATIN SMALL LETTER G and is not",
    "It is\ufe0f red or,It is blue or, red, blue": "VARIATION SELECTOR-16 and is not seen",
    "It is red or, It is blue or, red, blue": "other white space in front of clean than in",
    "It is red or,It is blue or\t, red, blue": "other white space behind clean than behind",
    "It is \u2800 or,It is blue or, red, blue": "BRAILLE PATTERN BLANK and is not seen",
    "It is,It was, caf\u00e9, cafe\u0301": "as answer and as foil, its accents written in two",
    'It is, "It was", red, blue': 'between delimiter and quotes ( "It was")',
    'It is, "It, was", red, blue': 'between delimiter and quotes ( "It)',
    "It is red or ,It is blue or ,red,blue": 'the answer; write " red"',
    "It is red or,It is blue or, red, blue ": 'has white space behind the foil; write " blue"',
}


@pytest.mark.parametrize("row", UNSEEN)
def test_what_nobody_sees_is_named(tmp_path: Path, row: str) -> None:
    with pytest.raises(UserInputError) as error:
        pairs_of(tmp_path, f"{HEADER}\n{OTHER}\n{row}\n")
    assert "row 2 (line 3) " in str(error.value)
    assert UNSEEN[row] in str(error.value)


@pytest.mark.parametrize(
    "row",
    [
        "2 + 2 = ,2 + 3 = ,4,5",
        "the year 17,the year 18,4,5",
        "法国的首都是,意大利的首都是,巴黎,罗马",
        "print(,write(,a,b",
        "می\u200cروم,می\u200cروی,آ,ب",
        "It is 1\ufe0f\u20e3 or,It is \u2764\ufe0f or, red, blue",
        "a \U0001f3f4\U000e0067\U000e0062\U000e007f is,a \U0001f3f4 is, good, bad",
        "a 👩\u200d💻 is,a 👨\u200d💻 is, good, bad",
        "法国\u3000首都,意大利\u3000首都,巴黎,罗马",
        'x\ty,x\tz," a"," b"',
    ],
)
def test_what_has_no_space_there_in_its_script_is_taken(tmp_path: Path, row: str) -> None:
    assert len(pairs_of(tmp_path, f"{HEADER}\n{row}\n")) == 1


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (HEADER.encode("utf-16-le"), "UTF-16; save it as UTF-8"),
        (HEADER.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (HEADER.encode("utf-32"), "UTF-16; save it as UTF-8"),
        (gzip.compress(HEADER.encode(), mtime=0), "compressed; unpack it first"),
        (b"PK\x03\x04\x14\x00", "a spreadsheet (.xlsx); save its table as CSV"),
        (b"ARROW1\0\0", "Arrow or Feather; save its table as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet (.xls); save its table as CSV"),
        (b"PAR1\x15\x04", "Parquet; save its table as CSV"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    ],
)
def test_files_of_other_formats_are_named(tmp_path: Path, content: bytes, named: str) -> None:
    for name in ("own.csv", "own.jsonl"):
        with pytest.raises(UserInputError, match=re.escape(named)):
            pairs_of(tmp_path, content, name)


def line(**changes: object) -> str:
    """A row of JSON; NaN stands for itself."""
    return json.dumps({"clean": "a", "corrupted": "b", "answer": " c", "foil": " d", **changes})


TABLE = [
    ("", "its first line has no column clean, corrupted, answer, foil"),
    ("clean,corrupted,answer\na,b,c", "its first line has no column foil"),
    (f"{HEADER},foil\n", 'its first line names the column "foil" twice'),
    (
        f"{HEADER}\na,b, c\n{ROW}, e",
        "row 1 (line 2) has 3 values for 4 columns; row 2 (line 3) has",
    ),
    (f"sep=,\n{HEADER}\n{ROW}\n{OTHER},", "row 2 (line 4) has 5 values for 4"),
    (f'{HEADER}\n"a,b, c, d', "the row that begins in line 2 is not CSV (a quote is never closed)"),
    (f'sep=,\n{HEADER}\n{ROW}\n"{OTHER}\n', "begins in line 4 is not CSV (a quote is n"),
    (f"\u200b{HEADER}", 'line has no column clean, but "\\u200bclean", "corrupted"'),
    (f"|{HEADER.replace(',', '|')}|\n", "a column without a name"),
    (f",{HEADER}\n0,{ROW}", "a column without a name, as an index has"),
    (f"{HEADER},notes\n{ROW},x", 'line has a column "notes". Known: '),
    (line(), "it is lines of JSON; call it .jsonl"),
]
LINES = [
    ("", "has no rows; each needs clean, corrupted, answer, foil"),
    ("\n\n", "has no rows"),
    (b'{"clean": "\xff"}', "line 1 is not UTF-8 (byte 12 of the line)"),
    (f"{line()},", 'row 1 (line 1) is not JSON: Extra data (column 63, at ",")'),
    # Nested too deeply for Python 3.13, and not for 3.14, which misses its end.
    ('{"a":' * 18_000, "row 1 (line 1) is not JSON: "),
    (f"[{line()}]", "it is one JSON value as a whole"),
    (json.dumps([json.loads(line())], indent=1), "it is one JSON value as a whole"),
    (json.dumps(json.loads(line()), indent=1), "an object in each line"),
    (f"{HEADER}\n{ROW}", "it is a table; call it .csv or .tsv"),
    ('{"clean": 1' + "0" * 5000 + "}", "a number of thousands of digits"),
    ('{"clean": "a", "clean": "b"}', 'row 1 (line 1) has the column "clean" twice'),
    (f"{line(split='test')}\n{line(clean='e')}", "row 2 (line 2) has no split, as others have"),
    (line(split="trian"), 'has the split "trian". Did you mean "train"?'),
    (line(clean="\ud800"), "U+D800 in clean"),
    (line(clean="a\x1b[2J"), "U+001B in clean (place 2)"),
    (line(clean="a\r\nb"), "U+000D in clean"),
    (line(clean=float("nan")), "NaN as clean, which is not text"),
    (line(answer=None), "has null as answer, which is not text."),
    (line(anser=" x"), 'has a column "anser". Did you mean "answer"?'),
]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [*(("own.csv", *one) for one in TABLE), *(("own.jsonl", *one) for one in LINES)],
)
def test_what_is_wrong_with_a_file_is_said_where_it_is(
    tmp_path: Path, name: str, content: str | bytes, named: str
) -> None:
    with pytest.raises(UserInputError) as error:
        pairs_of(tmp_path, content, name)
    assert str(tmp_path / name) in str(error.value)
    assert named in str(error.value)
    assert not str(error.value).endswith("..")


def test_another_ending_is_said(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("")
    with pytest.raises(UserInputError, match=r"ends in \.jsonl, \.csv, \.tsv"):
        build_task(str(tmp_path / "own.txt"), {})
