"""Scores that leave the suite and come back; and their CPR and CMD, by a loop of their own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from bench.evaluation import circuit
from bench.evaluation.circuit import measure_circuits
from bench.evaluation.prepare import prepare_task
from bench.execution.run import run_matrix
from bench.matrix.cells import expand
from bench.matrix.stages import Circuit
from bench.models.embedded import embedded_folder
from bench.store.records import CellRecord
from bench.store.results import RunStore
from methods.core.subject import SubjectModel
from tests.bench.cli.test_cli import command
from tests.methods.small import setting
from tests.small import brief_matrix

Shown = pytest.CaptureFixture[str]
SETTINGS: dict[str, Any] = {
    "sites": ["z", "mlp_out"],
    "circuit": {"draws": 0},
    "controls": {"draws": 0},
}


@pytest.fixture(scope="module")
def store(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    matrix = brief_matrix(tiny_folder, methods=["attr_patch"], **SETTINGS)
    with pytest.MonkeyPatch.context() as patched:  # a random model's two runs may be near
        patched.setattr(circuit, "LEAST_GAP", 0)
        return run_matrix(matrix, tmp_path_factory.mktemp("exchange") / "run").store


@pytest.fixture
def exported(store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "scores.json"
    place = ["attr_patch", "-r", str(store.directory)]
    assert command(monkeypatch, "export-scores", *place, "--format", "mib", "-o", str(file)) == 0
    return file


def record_of(store: RunStore) -> CellRecord:
    (cell_id,) = store.ids()
    return store.record(cell_id)


def patched_ld(
    model: Any, prompts: list[Any], corrupted: list[dict[str, torch.Tensor]], kept: set[str]
) -> float:
    """The mean LD where nodes outside `kept` have their activation of the corrupted run."""
    width = model.config.head_dim

    def heads(layer: int, of: dict[str, torch.Tensor]) -> Any:
        def edit(module: Any, args: Any) -> Any:
            z = args[0].clone()
            for head in range(model.config.num_attention_heads):
                if f"a{layer}.h{head}" not in kept:
                    part = slice(head * width, (head + 1) * width)
                    z[..., part] = of[f"z{layer}"][..., part]
            return (z,)

        return edit

    def mlp(layer: int, of: dict[str, torch.Tensor]) -> Any:
        return lambda module, args, out: out if f"m{layer}" in kept else of[f"m{layer}"]

    total = 0.0
    for prompt, of in zip(prompts, corrupted, strict=True):
        handles = []
        for n, layer in enumerate(model.model.layers):
            handles.append(layer.self_attn.o_proj.register_forward_pre_hook(heads(n, of)))
            handles.append(layer.mlp.register_forward_hook(mlp(n, of)))
        logits = model(torch.tensor([prompt.token_ids])).logits[0, -1]
        total += float(logits[prompt.answer_id] - logits[prompt.foil_id])
        for handle in handles:
            handle.remove()
    return total / len(prompts)


def run_of(model: Any, tokens: list[int]) -> dict[str, torch.Tensor]:
    """What a plain run has at o_proj's input and the MLP's output."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for n, layer in enumerate(model.model.layers):
        handles.append(
            layer.self_attn.o_proj.register_forward_pre_hook(
                lambda module, args, n=n: seen.update({f"z{n}": args[0]})
            )
        )
        handles.append(
            layer.mlp.register_forward_hook(
                lambda module, args, out, n=n: seen.update({f"m{n}": out})
            )
        )
    model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
def test_cpr_and_cmd_of_an_exported_file_are_the_cells_own(
    store: RunStore, exported: Path, tiny_folder: Path
) -> None:
    record = record_of(store)
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    prompts = record.prompts["test"]
    assert all(prompt.token_ids[-1] == prompt.corrupted_ids[-1] for prompt in prompts)
    corrupted = [run_of(model, prompt.corrupted_ids) for prompt in prompts]
    nodes = json.loads(exported.read_text())["nodes"]
    scores = {name: node["score"] for name, node in nodes.items() if name != "input"}
    shares = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    whole = patched_ld(model, prompts, corrupted, set(scores))
    empty = patched_ld(model, prompts, corrupted, set())
    for name, signed in (("CPR", True), ("CMD", False)):
        ranked = sorted(scores, key=lambda node: scores[node] if signed else abs(scores[node]))
        curve = []
        for share in shares:
            kept = set(ranked[::-1][: int(share * len(ranked))])
            f = (patched_ld(model, prompts, corrupted, kept) - empty) / (whole - empty)
            curve.append(f if signed else abs(1 - f))
        area = sum(
            (b - a) * (u + v) / 2
            for a, b, u, v in zip(shares, shares[1:], curve, curve[1:], strict=False)
        )
        assert record.circuit is not None
        stored = getattr(record.circuit.curve("signed" if signed else "absolute"), name)
        assert area == pytest.approx(stored, abs=1e-4)


def test_faithfulness_on_smollm2_is_that_of_the_loop(
    smollm2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "SHARES", (0.001, 0.2, 0.5, 1.0))
    changes = {**SETTINGS, "methods": ["attr_patch"]}
    changes["prompts"] = {"train": 1, "test": 2, "shifted": 0}
    matrix = brief_matrix("smollm2-135m", **changes)
    (cell,) = expand(matrix, lambda name: "d", lambda device: "cpu")
    subject = SubjectModel(smollm2.bridge)
    task = prepare_task(cell.task, cell, smollm2, subject)
    scores = cell.method.method.fit(subject, task.train.prompts, task.grid, setting()).scores
    record, _ = measure_circuits(subject, task, scores, Circuit(draws=0), 0)
    prompts = task.prompt_records["test"]
    assert all(prompt.token_ids[-1] == prompt.corrupted_ids[-1] for prompt in prompts)
    of_nodes = {
        f"a{layer}.h{place}" if place < smollm2.bridge.cfg.n_heads else f"m{layer}": float(value)
        for (place, layer), value in np.ndenumerate(scores.nan_to_num(nan=0).sum(dim=-1).numpy())
    }
    ranked = sorted(of_nodes, key=lambda node: -abs(of_nodes[node]))
    assert len(ranked) == record.n_nodes == 300
    with torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_pretrained(embedded_folder()).eval()
        corrupted = [run_of(model, prompt.corrupted_ids) for prompt in prompts]
        ld = {k: patched_ld(model, prompts, corrupted, {*ranked[:k]}) for k in {*record.k}}
    curve = record.curve("absolute").f
    assert (curve[0], curve[-1]) == pytest.approx((0, 1), abs=1e-4)
    assert 0.1 < curve[1] < curve[2] < 0.95
    expected = [(ld[k] - ld[0]) / (ld[record.n_nodes] - ld[0]) for k in record.k]
    assert curve == pytest.approx(expected, abs=1e-4)


def test_scores_that_come_back_are_the_same_circuits(
    store: RunStore, exported: Path, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(circuit, "LEAST_GAP", 0)
    methods = [{"name": "file_scores", "path": str(exported)}]
    matrix = brief_matrix(tiny_folder, methods=methods, **SETTINGS)
    again = run_matrix(matrix, tmp_path / "again").store
    before, after = record_of(store), record_of(again)
    assert after.status == "done"
    assert after.method == "file_scores[scores.json]"
    assert before.circuit is not None
    assert after.circuit is not None
    for order in ("signed", "absolute"):
        f = after.circuit.curve(order).f
        assert f == pytest.approx(before.circuit.curve(order).f, abs=1e-5)
    out = tmp_path / "back.json"
    place = ["file_scores", "-r", str(again.directory), "-o", str(out)]
    assert command(monkeypatch, "export-scores", *place) == 0
    first, second = (json.loads(file.read_text())["nodes"] for file in (exported, out))
    assert first.keys() == second.keys()
    for name in first.keys() - {"input"}:
        assert second[name]["score"] == pytest.approx(first[name]["score"], abs=1e-6)


def test_a_moved_file_is_the_same_cell_and_an_edited_one_another(
    exported: Path, tmp_path: Path
) -> None:
    def id_of(path: Path) -> str:
        method = {"name": "file_scores", "path": str(path)}
        matrix = brief_matrix("m", methods=[method], **SETTINGS)
        return expand(matrix, lambda name: "d", lambda device: "cpu")[0].id

    (tmp_path / "moved").mkdir()
    moved = tmp_path / "moved" / "scores.json"
    moved.write_text(exported.read_text())
    assert id_of(exported) == id_of(moved)
    content = json.loads(exported.read_text())
    content["nodes"]["m0"]["score"] += 1
    moved.write_text(json.dumps(content))
    assert id_of(exported) != id_of(moved)


def test_what_has_no_node_is_named_and_a_file_that_is_there_stays(
    store: RunStore, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: Shown,
) -> None:  # fmt: skip
    changes = {**SETTINGS, "sites": ["q", "z", "resid_post"], "circuit": None}
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar"], **changes)
    place = ["grad_scalar", "-r", str(run_matrix(matrix, tmp_path / "run").store.directory)]
    out = ["-o", str(tmp_path / "out.json")]
    assert command(monkeypatch, "export-scores", *place, *out) == 0
    said = capsys.readouterr().out
    assert "12 nodes with a score" in said
    assert "3 nodes of the model without one" in said
    assert "no node for them: q, resid_post" in said
    signed = json.loads((tmp_path / "out.json").read_text())["nodes"]
    assert command(monkeypatch, "export-scores", *place, *out) == 2
    assert "--force replaces it" in capsys.readouterr().err
    sizes = ["--over-positions", "sum_of_sizes", "--force"]
    assert command(monkeypatch, "export-scores", *place, *out, *sizes) == 0
    for name, node in json.loads((tmp_path / "out.json").read_text())["nodes"].items():
        assert node.get("score", 0) >= abs(signed[name].get("score", 0)) - 1e-6
