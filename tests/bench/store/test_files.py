"""Sealed JSON: what was written comes back, and not a byte can change unnoticed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.store.files import (
    DamagedError,
    dump,
    parse,
    replace_file,
    seal,
    seal_of,
    set_aside,
    set_aside_reasons,
    unseal,
)

OBJECTS = st.dictionaries(st.text(), st.text() | st.integers() | st.floats(), min_size=1)
DIGEST = "ab" * 32


@given(OBJECTS, st.sampled_from(["", DIGEST]), st.data())
def test_what_was_sealed_comes_back_and_every_change_is_noticed(
    data: dict[str, object], tensors: str, draw: st.DataObject
) -> None:
    content = seal(dump(data), tensors)
    text, beside = unseal(content)
    assert json.loads(text) == json.loads(dump(data))
    assert beside == tensors
    assert json.loads(content).keys() - data.keys() <= {"sha256", "tensors_sha256"}
    at = draw.draw(st.integers(0, len(content) - 1))
    byte = draw.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    altered = content[:at] + bytes([byte]) + content[at + 1 :]
    for damaged in (altered, content[:at], content + b"\n", content[:at] + content[at + 1 :]):
        with pytest.raises(DamagedError):
            unseal(damaged)


def test_the_seal_tells_versions_apart(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    seals = set()
    for value in range(3):
        replace_file(file, seal(dump({"a": value})))
        seals.add(seal_of(file))
    assert len(seals) == 3
    file.write_bytes(b"{}")
    assert seal_of(file) == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 200_000, "not valid JSON"),
        (b'{"a":' * 200_000, "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_hostile_json_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(DamagedError, match=words):
        parse(content)


def test_what_is_set_aside_keeps_its_name_and_gets_a_reason(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "note").write_text("mine")
        set_aside(tmp_path, tmp_path / "note", "why")
    assert not (tmp_path / "note").exists()
    folder = tmp_path / "set-aside"
    assert sorted(path.name for path in folder.iterdir()) == ["note", "note.2", "reasons.jsonl"]
    lines = (folder / "reasons.jsonl").read_text().splitlines()
    assert json.loads(lines[1]) == {"name": "note.2", "was": "note", "reason": "why"}
    with (folder / "reasons.jsonl").open("a") as stream:
        stream.write('not json\n"text"\n{}\n{"name": "old", "reason": "then"}\n')
    assert set_aside_reasons(tmp_path) == {"note": "why", "old": "then"}
    assert set_aside_reasons(tmp_path / "none") == {}
