"""Scores that leave the suite and come back; and their CPR and CMD, by a loop of their own."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from bench.matrix.stages import Circuit
from bench.models.embedded import embedded_folder
from bench.store.records import CellRecord
from bench.store.results import RunStore
from methods.core.subject import SubjectModel
from tests.command import output_of
from tests.methods.small import setting
from tests.small import brief_matrix, planned

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


@pytest.fixture(scope="module")
def exported(store: RunStore) -> Path:
    file = store.directory.parent / "scores.json"
    output_of("export-scores", "attr_patch", "-r", store.directory, "--format", "mib", "-o", file)
    return file


def record_of(store: RunStore) -> CellRecord:
    (cell_id,) = store.ids()
    return store.record(cell_id)


def nodes_of(file: Path) -> dict[str, Any]:
    nodes: dict[str, Any] = json.loads(file.read_text())["nodes"]
    return nodes


@contextmanager
def hooked(model: Any, heads: Callable[[int], Any], mlp: Callable[[int], Any]) -> Iterator[None]:
    """Hooks by layer at o_proj's input and the MLP's output, for the block."""
    with ExitStack() as stack:
        for n, layer in enumerate(model.model.layers):
            handle = layer.self_attn.o_proj.register_forward_pre_hook(heads(n))
            stack.callback(handle.remove)
            stack.callback(layer.mlp.register_forward_hook(mlp(n)).remove)
        yield


def patched_ld(model: Any, prompts: list[Any], kept: set[str]) -> float:
    """The mean LD where nodes outside `kept` have their activation of the corrupted run."""
    width, n_heads = model.config.head_dim, model.config.num_attention_heads
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, value: torch.Tensor) -> None:
        seen[name] = value

    def heads(layer: int) -> Any:
        def edit(module: Any, args: Any) -> Any:
            z = args[0].clone()
            for head in range(n_heads):
                if f"a{layer}.h{head}" not in kept:
                    part = slice(head * width, (head + 1) * width)
                    z[..., part] = seen[f"z{layer}"][..., part]
            return (z,)

        return edit

    def mlp(layer: int) -> Any:
        return lambda module, args, out: out if f"m{layer}" in kept else seen[f"m{layer}"]

    total = 0.0
    for prompt in prompts:
        assert prompt.token_ids[-1] == prompt.corrupted_ids[-1]
        with hooked(
            model,
            lambda n: lambda module, args: note(f"z{n}", args[0]),
            lambda n: lambda module, args, out: note(f"m{n}", out),
        ):
            model(torch.tensor([prompt.corrupted_ids]))
        with hooked(model, heads, mlp):
            logits = model(torch.tensor([prompt.token_ids])).logits[0, -1]
        total += float(logits[prompt.answer_id] - logits[prompt.foil_id])
    return total / len(prompts)


@torch.no_grad()
def test_cpr_and_cmd_of_an_exported_file_are_the_cells_own(
    store: RunStore, exported: Path, tiny_folder: Path
) -> None:
    record = record_of(store)
    assert record.circuit is not None
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    prompts = record.prompts["test"]
    nodes = nodes_of(exported)
    scores = {name: node["score"] for name, node in nodes.items() if name != "input"}
    shares = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
    whole, empty = (patched_ld(model, prompts, kept) for kept in (set(scores), set()))
    for name, signed in (("CPR", True), ("CMD", False)):
        ranked = sorted(scores, key=lambda node: scores[node] if signed else abs(scores[node]))
        curve = []
        for share in shares:
            kept = set(ranked[::-1][: int(share * len(ranked))])
            f = (patched_ld(model, prompts, kept) - empty) / (whole - empty)
            curve.append(f if signed else abs(1 - f))
        area = np.trapezoid(curve, shares)
        stored = getattr(record.circuit.curve("signed" if signed else "absolute"), name)
        assert area == pytest.approx(stored, abs=1e-4)


def test_faithfulness_on_smollm2_is_that_of_the_loop(
    smollm2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "SHARES", (0.001, 0.2, 0.5, 1.0))
    few = {"methods": ["attr_patch"], "prompts": {"train": 1, "test": 2, "shifted": 0}}
    matrix = brief_matrix("smollm2-135m", **SETTINGS, **few)
    (cell,) = planned(matrix)
    subject = SubjectModel(smollm2.bridge)
    task = prepare_task(cell.task, cell, smollm2, subject)
    scores = cell.method.method.fit(subject, task.train.prompts, task.grid, setting()).scores
    record, _ = measure_circuits(subject, task, scores, Circuit(draws=0), 0)
    prompts = task.prompt_records["test"]
    of_nodes = {
        f"a{layer}.h{place}" if place < smollm2.bridge.cfg.n_heads else f"m{layer}": float(value)
        for (place, layer), value in np.ndenumerate(scores.nan_to_num(nan=0).sum(dim=-1).numpy())
    }
    ranked = sorted(of_nodes, key=lambda node: -abs(of_nodes[node]))
    assert len(ranked) == record.n_nodes == 300
    with torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_pretrained(embedded_folder()).eval()
        ld = {k: patched_ld(model, prompts, {*ranked[:k]}) for k in {*record.k}}
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
    assert (after.status, after.method) == ("done", "file_scores[scores.json]")
    assert before.circuit is not None
    assert after.circuit is not None
    for order in ("signed", "absolute"):
        f = after.circuit.curve(order).f
        assert f == pytest.approx(before.circuit.curve(order).f, abs=1e-5)
    out = tmp_path / "back.json"
    output_of("export-scores", "file_scores", "-r", again.directory, "-o", out)
    first, second = nodes_of(exported), nodes_of(out)
    assert first.keys() == second.keys()
    for name in first.keys() - {"input"}:
        assert second[name]["score"] == pytest.approx(first[name]["score"], abs=1e-6)


def test_a_moved_file_is_the_same_cell_and_an_edited_one_another(
    exported: Path, tmp_path: Path
) -> None:
    def id_of(path: Path) -> str:
        method = {"name": "file_scores", "path": str(path)}
        matrix = brief_matrix("m", methods=[method], **SETTINGS)
        return planned(matrix)[0].id

    moved = Path(shutil.copy(exported, tmp_path))
    assert id_of(exported) == id_of(moved)
    content = json.loads(moved.read_text())
    content["nodes"]["m0"]["score"] += 1
    moved.write_text(json.dumps(content))
    assert id_of(exported) != id_of(moved)


def test_what_has_no_node_is_named_and_a_file_that_is_there_stays(
    tiny_folder: Path, tmp_path: Path
) -> None:
    changes = {**SETTINGS, "sites": ["q", "z", "resid_post"], "circuit": None}
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar"], **changes)
    run, out = run_matrix(matrix, tmp_path / "run").store.directory, tmp_path / "out.json"
    export = ["export-scores", "grad_scalar", "-r", run, "-o", out]
    shown = output_of(*export)
    assert "12 nodes with a score" in shown
    assert "3 nodes of the model without one" in shown
    assert "no node for them: q, resid_post" in shown
    signed = nodes_of(out)
    assert "--force replaces it" in output_of(*export, code=2)
    output_of(*export, "--over-positions", "sum_of_sizes", "--force")
    for name, node in nodes_of(out).items():
        assert node.get("score", 0) >= abs(signed[name].get("score", 0)) - 1e-6
