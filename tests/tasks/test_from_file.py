"""Tasks from files: rows checked one by one, hostile files refused in bounded memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.file_scores import FileScores
from tasks import rows
from tasks.build import build_task, label_of
from tasks.encoding import encode
from tasks.errors import UserInputError
from tasks.fingerprint import fingerprint
from tasks.from_file import FromFile
from tests.tasks.words import BOS, WordTokenizer

WORDS = ("red", "green", "blue", "white", "black", "pink", "grey", "brown", "gold", "cyan")


def row(index: int, **changes: object) -> dict[str, object]:
    one, other = WORDS[index % 10], WORDS[(index + 1) % 10]
    return {
        "clean": f"It is {one} or {one}",
        "corrupted": f"It is {other} or {other}",
        "answer": f" {one}",
        "foil": f" {other}",
        "entity": one,
        **changes,
    }


def jsonl(folder: Path, rows: list[Any], name: str = "own.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(item) + "\n" for item in rows), "utf-8")
    return str(path)


def error_of(path: str | Path, **changes: object) -> str:
    with pytest.raises(UserInputError) as error:
        build_task("file", {"path": str(path), **changes})
    return str(error.value)


def test_jsonl_and_csv_give_the_same_task(tmp_path: Path) -> None:
    rows = [row(i) for i in range(10)]
    lines = [",".join(rows[0])] + [",".join(f'"{v}"' for v in r.values()) for r in rows]
    (tmp_path / "own.csv").write_text("\ufeff" + "\r\n".join(lines), "utf-8")
    ours = [build_task(jsonl(tmp_path, rows), {}), build_task(str(tmp_path / "own.csv"), {})]
    encoded = [
        encode(task, WordTokenizer(), {"train": 3, "test": 4, "shifted": 5}, BOS, seed=0)
        for _, task in ours
    ]
    assert encoded[0].batches["train"].pairs == encoded[1].batches["train"].pairs
    assert encoded[0].batches["test"].pairs == encoded[1].batches["test"].pairs
    # A file without splits has no shifted one; that is said and no error.
    assert list(encoded[0].batches) == ["train", "test"]
    assert encoded[0].dropped == {"split: the task has no shifted prompts": 5}
    entities = [{pair.entity for pair in b.pairs} for b in encoded[0].batches.values()]
    assert entities[0].isdisjoint(entities[1])
    assert [label_of(name, task) for name, task in ours] == ["own.jsonl", "own.csv"]
    assert ours[0][0] == "file"


def test_files_are_found_in_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what a matrix names no shell expands the ~; models' folders are found so too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = jsonl(tmp_path, [row(i) for i in range(4)])
    assert build_task("~/own.jsonl", {})[1].digest == build_task(path, {})[1].digest
    scores = {"cfg": {"n_layers": 1, "n_heads": 1}, "nodes": {"m0": {"score": 1.0}}, "edges": {}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    assert FileScores("~/scores.json").digest == FileScores(str(tmp_path / "scores.json")).digest
    assert "there is no such file" in error_of("~nobody-of-that-name/own.jsonl")


def test_rows_that_share_a_prompt_stay_together(tmp_path: Path) -> None:
    """Three prompts four times each, with other foils: without entities, yet never divided."""
    rows = [
        row(i % 3, foil=f" {WORDS[3 + i // 3]}", corrupted=f"It is {i} or {i}") for i in range(12)
    ]
    plain = [{k: v for k, v in item.items() if k != "entity"} for item in rows]
    task = FromFile(jsonl(tmp_path, plain))
    assert task.entities() == ("row 1", "row 2", "row 3")
    batches = encode(task, WordTokenizer(), {"train": 4, "test": 8}, BOS, seed=0).batches
    train, test = ({pair.clean for pair in batches[split].pairs} for split in ("train", "test"))
    assert train.isdisjoint(test)
    # Reversed pairs and chains of shared prompts are one entity too.
    there, other = row(0, entity="a"), row(4, entity="c")
    back = {**there, "clean": there["corrupted"], "corrupted": there["clean"], "entity": "b"}
    chained = {**other, "corrupted": back["corrupted"], "entity": "d"}
    assert FromFile(jsonl(tmp_path, [there, other, back, chained])).entities() == ("a",)


def test_a_prompt_of_train_in_another_split_is_named(tmp_path: Path) -> None:
    rows = [row(0, split="train"), row(0, split="test", foil=" gold"), row(1, split="test")]
    message = error_of(jsonl(tmp_path, rows))
    assert 'row 2 (line 2) has the clean prompt of row 1, which is in the split "train"' in message


def test_splits_of_the_file_are_kept(tmp_path: Path) -> None:
    splits = ["train"] * 4 + ["test"] * 4 + ["shifted"] * 2
    rows = [row(i, split=split) for i, split in enumerate(splits)]
    task = FromFile(jsonl(tmp_path, rows))
    sizes = {"train": 4, "test": 4, "shifted": 2}
    batches = encode(task, WordTokenizer(), sizes, BOS, seed=0).batches
    for split, batch in batches.items():
        assert {p.clean for p in batch.pairs} == {r["clean"] for r in rows if r["split"] == split}
    with pytest.raises(
        UserInputError, match=r'"own\.jsonl": the split "test" was to have 5 prompts'
    ):
        encode(task, WordTokenizer(), {"train": 4, "test": 5}, BOS, seed=0)
    without = FromFile(jsonl(tmp_path, rows[:4], "train.jsonl"))
    with pytest.raises(UserInputError, match=r'"train\.jsonl" has no prompts for the split "test"'):
        encode(without, WordTokenizer(), {"train": 4, "test": 5}, BOS, seed=0)


def test_an_edited_file_is_another_task(tmp_path: Path) -> None:
    rows = [row(i) for i in range(10)]
    before = FromFile(jsonl(tmp_path, rows))
    moved = FromFile(jsonl(tmp_path, rows, "moved.jsonl"))
    rows[9]["foil"] = " mauve"
    after = FromFile(jsonl(tmp_path, rows))
    assert before.digest == moved.digest != after.digest
    assert fingerprint(before) == fingerprint(moved) != fingerprint(after)
    assert len(before.digest) == 64


def test_bad_rows_are_all_named_up_to_a_limit(tmp_path: Path) -> None:
    rows: list[Any] = [row(i) for i in range(10)]
    rows[1].pop("foil")
    rows[3]["answer"], rows[4]["foil"] = 7, rows[4]["answer"]
    rows[5]["clean"], rows[6]["anser"], rows[7]["answer"] = rows[5]["corrupted"], " x", "  "
    rows[8], rows[9] = "text", row(0)
    message = error_of(jsonl(tmp_path, rows))
    for words in (
        "row 2 (line 2) has no foil",
        "row 4 (line 4) has 7 as answer, which is not text; write it in quotes",
        'row 5 (line 5) has " black" as answer and as foil',
        "row 6 (line 6) has the clean prompt as the corrupted one",
        'row 7 (line 7) has a column "anser". Did you mean "answer"?',
        "row 8 (line 8) has an empty answer",
        "row 9 (line 9) is str, not an object with clean, corrupted, answer, foil",
        "row 10 (line 10) is row 1 again",
    ):
        assert words in message
    assert "row 1 (" not in message
    assert ".;" not in message
    message = error_of(jsonl(tmp_path, [row(i, answer=" ") for i in range(25)]))
    assert message.count("empty answer") == 10
    assert message.endswith("; and 15 more.")


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    assert "there is no such file" in error_of(tmp_path / "none.jsonl")
    assert "that is no ordinary file" in error_of("/dev/zero")
    assert "that is a directory" in error_of(tmp_path)
    assert "cannot be read: File name too long" in error_of("a" * 5000)
    with pytest.raises(UserInputError, match=r"\.jsonl.: there is no such file"):
        build_task(str(tmp_path / "none.jsonl"), {})
    with pytest.raises(UserInputError, match='the setting "path" is required'):
        build_task("file", {})
    with pytest.raises(UserInputError, match=r'no setting "lenghts"\. Did you mean "lengths"'):
        build_task(jsonl(tmp_path, [row(0)]), {"lenghts": "one"})


def test_a_line_of_many_megabytes_ends_in_an_error_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"clean": "' + b"a" * 50 * 2**20)
    code = (
        "import resource; from tasks.build import build_task; from tasks.errors import *\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try: build_task({str(path)!r}, {{}})\n"
        "except UserInputError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, kilobytes = run.stdout.splitlines()
    assert message.endswith("line 1 is longer than 100000 bytes.")
    assert int(kilobytes) < 8_000
    with path.open("r+b") as file:
        file.truncate(100 * 2**20)
    assert error_of(path).endswith("has 100 MiB; at most 64 MiB are read.")


def test_too_many_rows_and_too_long_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "20001 characters as clean" in error_of(jsonl(tmp_path, [row(0, clean="a" * 20_001)]))
    monkeypatch.setattr(rows, "MAX_ROWS", 3)
    assert "it has more than 3 rows" in error_of(jsonl(tmp_path, [row(i) for i in range(4)]))


def benchmark_row(index: int, **changes: object) -> dict[str, object]:
    one, other, third = (WORDS[(index + step) % 10] for step in (0, 1, 2))
    return {
        "prompt": f"It is {one} or {other}, so {other}",
        "choices": [one, other],
        "answerKey": 0,
        "template": "It is {} or {}, so {}",
        "metadata": {"subject": other},
        "s2_io_flip_counterfactual": {
            **{"prompt": f"It is {one} or {other}, so {one}", "choices": [one, other]},
            "answerKey": 1,
        },
        "abc_counterfactual": {
            **{"prompt": f"It is {one} or {other}, so {third}", "choices": [one, other]},
            "answerKey": 0,
        },
        **changes,
    }


def test_rows_of_the_benchmark_are_pairs(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [benchmark_row(i) for i in range(0, 10, 2)])
    task = FromFile(path, counterfactual="abc")
    first = task.rows[0].pair
    assert first.clean == "It is red or green, so green"
    assert first.corrupted == "It is red or green, so blue"
    assert (first.answer, first.foil) == (" red", " green")
    assert label_of("file", task) == "own.jsonl[counterfactual=abc]"
    flipped = FromFile(path, counterfactual="s2_io_flip_counterfactual").rows[0].pair
    assert flipped.corrupted == "It is red or green, so red"
    said = error_of(path)
    assert "row 1 (line 1) has several counterfactuals: s2_io_flip_counterfactual, abc_" in said
    said = error_of(path, counterfactual="abd")
    assert 'has no "abd_counterfactual". Did you mean "abc_counterfactual"' in said
    said = error_of(jsonl(tmp_path, [row(0)]), counterfactual="abc")
    assert "row 1 (line 1) has no counterfactuals" in said
    own = [{**benchmark_row(i), "split": "test", "entity": f"e{i}"} for i in (0, 2)]
    task = FromFile(jsonl(tmp_path, own), counterfactual="abc")
    assert (task.splits, task.entities()) == (("test",), ("e0", "e2"))
    own[0]["split"] = "validation"
    assert 'has the split "validation"' in error_of(jsonl(tmp_path, own), counterfactual="abc")


def test_the_foil_is_what_the_counterfactual_is_answered_with(tmp_path: Path) -> None:
    labels = {"label": ["A", "B", "C", "D"], "text": list(WORDS[:4])}
    choice = {
        **{"prompt": "A. red B. green C. blue D. white. Blue is ", "choices": labels},
        "answerKey": 2,
        "symbol_counterfactual": {
            **{"prompt": "A. blue B. red C. green D. white. Blue is ", "choices": labels},
            "answerKey": 0,
        },
    }
    added = {
        **{"prompt": "The sum of 13 and 25 is ", "label": 38, "operator": "+"},
        "random_counterfactual": {"prompt": "The sum of 14 and 25 is ", "label": 39},
    }
    pairs = [row.pair for row in FromFile(jsonl(tmp_path, [choice, added])).rows]
    assert [(pair.answer, pair.foil) for pair in pairs] == [(" C", " A"), ("38", "39")]
    assert pairs[0].clean.endswith("Blue is")  # the space belongs to the letter
    assert pairs[1].corrupted == "The sum of 14 and 25 is "


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answerKey": 2}, "has 2 as answerKey of the row, of 2 choices"),
        ({"answerKey": "0"}, "has '0' as answerKey"),
        ({"choices": "red"}, "has 'red' as choices of the row"),
        ({"prompt": 3}, "has 3 as prompt of the row"),
        ({"abc_counterfactual": "x"}, "has 'x' as abc_counterfactual, not an object"),
        ({"abc_counterfactual": {"choices": ["a"]}}, "has None as prompt of abc_counterfactual"),
        ({"choices": ["red", "red"]}, 'has " red" as answer and as foil'),
    ],
)
def test_rows_of_the_benchmark_that_are_none_are_named(
    changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    path = jsonl(tmp_path, [benchmark_row(0, **changes)])
    assert f"row 1 (line 1) {words}" in error_of(path, counterfactual="abc")


NAMES = [
    "clean",
    "corrupted",
    "answer",
    "foil",
    "split",
    "x",
    "prompt",
    "choices",
    "answerKey",
    "label",
    "a_counterfactual",
]
SHORT = st.text(max_size=9)
VALUES = st.one_of(
    *(SHORT, st.integers(), st.none(), st.lists(SHORT, max_size=3)),
    st.dictionaries(st.sampled_from(["prompt", "label"]), SHORT),
)
JSON = st.lists(SHORT, max_size=6) | st.dictionaries(st.sampled_from(NAMES), VALUES)


@settings(max_examples=250)
@given(
    content=st.binary(max_size=300) | JSON.map(lambda found: json.dumps(found).encode()),
    ending=st.sampled_from([".jsonl", ".csv"]),
)
def test_any_content_is_a_task_or_an_error_of_the_users(
    content: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{ending}"
    path.write_bytes(content)
    message = ""
    try:
        task = FromFile(str(path))
    except UserInputError as error:
        message = str(error)
    assert len(message) < 20_000
    if message:
        assert str(path) in message
    else:
        assert all(row.pair.clean and row.pair.answer != row.pair.foil for row in task.rows)
