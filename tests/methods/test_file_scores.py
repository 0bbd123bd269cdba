"""Score files: read as they were written, refused in words where they are none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.conformance.small import grid_on, tiny_prompts, tiny_subject
from methods.core.objective import Objective
from methods.core.score_file import read_score_file, score_file
from methods.file_scores import FileScores
from methods.method import Setting
from tasks.errors import UserInputError

CFG = {"n_layers": 3, "n_heads": 4, "parallel_attn_mlp": False, "d_model": 32}
SCORES = {f"a{n}.h{h}": n - 0.3 * h + 0.1 for n in range(3) for h in range(4)}
SCORES |= {f"m{n}": 0.5 - n for n in range(3)}


def written(folder: Path, content: Any, name: str = "scores.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return str(path)


def file_with(**changes: Any) -> dict[str, Any]:
    return {**score_file(CFG, SCORES), **changes}


def fitted(method: FileScores, model: Any, sites: list[str]) -> Any:
    return method.fit(model, tiny_prompts(), grid_on(model, sites), Setting(Objective(), 0))


def test_what_is_written_is_read_in_both_formats(tmp_path: Path) -> None:
    read = read_score_file(Path(written(tmp_path, score_file(CFG, SCORES))))
    assert (read.n_layers, read.n_heads, read.d_model) == (3, 4, 32)
    assert read.scores == pytest.approx(SCORES)
    names = ["input", *SCORES]
    values = torch.tensor([float("nan"), *SCORES.values()])
    saved = {"cfg": CFG, "src_nodes": names, "nodes_scores": values}
    torch.save(saved, tmp_path / "scores.pt")
    assert read_score_file(tmp_path / "scores.pt").scores == pytest.approx(SCORES)


def test_a_nodes_score_is_the_sum_of_its_points_where_these_could_matter(tmp_path: Path) -> None:
    subject, sites = tiny_subject("qwen2"), ["z", "mlp_out"]
    method = FileScores(written(tmp_path, score_file(CFG, SCORES)))
    found, grid = fitted(method, subject, sites), grid_on(subject, sites)
    assert method.signed
    assert not found.notes
    for row, place in enumerate(grid.places):
        for layer in range(3):
            name = f"m{layer}" if place.head is None else f"a{layer}.h{place.head}"
            assert float(found.scores[row, layer].sum()) == pytest.approx(SCORES[name], abs=1e-6)
    assert not found.scores[:, :, :2].any()  # before the first token that differs
    assert not found.scores[:, -1, :-1].any()  # no path to the answer


def test_nodes_without_a_score_are_named(tmp_path: Path) -> None:
    some = {name: abs(SCORES[name]) for name in ("a0.h1", "m2")}
    method = FileScores(written(tmp_path, score_file(CFG, some)))
    assert not method.signed
    (note,) = fitted(method, tiny_subject(), ["o", "mlp_out"]).notes
    assert "no score of a0.h0, a1.h0" in note
    assert "and 5 more" in note


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ("[]", "the file is list, not an object"),
        ({"nodes": {}}, "it has no cfg, edges; it needs cfg, nodes and edges"),
        (file_with(cfg={"n_layers": 3}), "cfg.n_heads is None"),
        (file_with(cfg={**CFG, "n_heads": True}), "cfg.n_heads is True"),
        (file_with(nodes={"a3.h0": {"score": 1}}), "it names a3.h0, which a model of 3 layers"),
        (file_with(nodes={"a0.h4": {"score": 1}}), "it names a0.h4"),
        (file_with(nodes={"head 3": {"score": 1}}), "'head 3' is no node"),
        (file_with(nodes={"m0": {"score": "1"}}), "the score of m0 is '1', which is no number"),
        (file_with(nodes={"m0": 1}), "'m0' is int, not an object"),
        (file_with(nodes={"m0": {"score": 10**400}}), "the score of m0 is infinite"),
        (file_with(nodes={"m0": {"in_graph": True}}), "no node has a score"),
        ('{"cfg": 1, "cfg": 2}', "a name stands twice"),
    ],
)
def test_what_is_no_score_file_is_an_error_in_words(
    content: Any, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserInputError) as error:
        FileScores(path)
    assert words in str(error.value)
    assert path in str(error.value)


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    for change, words in (({"n_layers": 4}, "layers 4; this one has layers 3"),
                          ({"d_model": 64}, "d_model 64; this one has d_model 32")):  # fmt: skip
        method = FileScores(written(tmp_path, score_file({**CFG, **change}, SCORES)))
        with pytest.raises(UserInputError, match=words):
            fitted(method, tiny_subject(), ["z"])


class Harm:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def test_a_pt_file_with_code_in_it_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"cfg": CFG, "src_nodes": Harm(), "nodes_scores": 1}, tmp_path / "evil.pt")
    (tmp_path / "other.pt").write_bytes(b"not torch's")
    for name in ("evil.pt", "other.pt"):
        with pytest.raises(UserInputError, match="more than numbers, or is no file of torch's"):
            FileScores(str(tmp_path / name))
    assert not (tmp_path / "harm").exists()


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.file_size.MAX_FILE", 10)
    with pytest.raises(UserInputError, match="at most 0 MiB are read"):
        FileScores(written(tmp_path, score_file(CFG, SCORES)))
    with pytest.raises(UserInputError, match="no ordinary file"):
        FileScores("/dev/zero")


@settings(max_examples=25)
@given(
    nodes=st.dictionaries(
        st.sampled_from(["a0.h0", "m0", "m9", "input", "x"]) | st.text(max_size=6),
        st.none() | st.floats() | st.fixed_dictionaries({"score": st.none() | st.floats()}),
        max_size=4,
    )
)
def test_any_nodes_are_finite_scores_or_an_error_of_the_users(
    nodes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), file_with(nodes=nodes), "any.json")
    message, scores = "", {}
    try:
        scores = dict(read_score_file(Path(path)).scores)
    except UserInputError as error:
        message = str(error)
    assert bool(message) != bool(scores)
    assert path in (message or path)
    assert all(abs(score) < float("inf") for score in scores.values())
