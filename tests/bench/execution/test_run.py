"""Runs of small matrices on a tiny model: done once, resumed, failed cells and all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.execution import cell_runner as opened
from bench.execution.cell_runner import Watcher
from bench.execution.run import Outcome, run_matrix
from bench.matrix.cells import PlannedCell
from bench.models.tiny import save_tiny
from bench.store.cells import Cell
from bench.store.records import CellRecord
from bench.store.results import RunStore
from methods import METHODS
from methods.core.points import Site
from methods.core.subject import SubjectModel
from methods.grad_scalar import GradScalar
from tasks.errors import UserInputError
from tests.small import brief_matrix, small_matrix, task_texts

LABELS = {"grad_scalar", "activ_scalar[epochs=3]", "random", "shuffled[of=grad_scalar]"}


@pytest.fixture(scope="module")
def outcome(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_matrix(small_matrix(tiny_folder), tmp_path_factory.mktemp("runs") / "first")


def by_label(store: RunStore) -> dict[str, str]:
    return {store.record(cell_id).method: cell_id for cell_id in store.ids()}


def test_every_cell_is_stored_with_what_reports_need(outcome: Outcome) -> None:
    assert not outcome.failed
    assert not outcome.known
    cells = {cell.record.method: cell for cell in map(outcome.store.read, outcome.store.ids())}
    assert set(cells) == LABELS
    plan = outcome.store.plan
    assert {name: one.method for name, one in plan.items()} == {
        cell.record.id: label for label, cell in cells.items()
    }
    assert all(one.trained == cells[one.method].record.trained for one in plan.values())
    for label, cell in cells.items():
        record, tensors = cell.record, cell.tensors
        assert record.grid is not None
        shape = (2, record.grid.n_layers, len(record.grid.positions))
        assert tensors["scores"].shape == shape
        untrained = label != "activ_scalar[epochs=3]"
        assert (record.beta.star is not None) == untrained  # type: ignore[union-attr]
        kinds = {"one", "price", "star"} if untrained else {"one", "price"}
        rows = {(row.split, row.beta_kind) for row in record.metrics}
        assert rows == {(s, kind) for s in ("train", "test", "shifted") for kind in kinds}
        for split, size in (("train", 2), ("test", 3), ("shifted", 3)):
            assert len(record.prompts[split]) == size
            strengths = len({0.0, *(sign * row.beta for row in record.metrics for sign in (1, -1))})
            assert tensors[f"split.{split}.beta"].shape == (strengths,)
            for name in ("ld", "kl", "p_answer", "p_foil"):
                assert tensors[f"split.{split}.{name}"].shape == (size, strengths)
        for split in ("train", "test"):
            assert tensors[f"sweep.{split}.ld"].shape == (1, 5)
            assert tensors[f"sweep.{split}.beta"][2] == 0
            top = tensors[f"sweep.{split}.top_ids"]
            assert top.shape == (1, 5, 10)
            assert {str(token) for token in np.unique(top)} <= set(record.top_tokens)
        first = record.prompts["train"][0]
        assert len(first.tokens) == len(first.token_ids) == 12
        assert record.provenance["passes"]["forward_rows"] > 0
        assert set(record.provenance["seconds"]) == {"fit", "tune", "price", "evaluate"}
        assert record.provenance["versions"]["torch"] == torch.__version__
        assert record.settings["model"]["digest"] == record.provenance["model_digest"]


def test_stored_metrics_follow_from_what_is_stored_of_every_prompt(outcome: Outcome) -> None:
    for cell_id in outcome.store.ids():
        cell = outcome.store.read(cell_id)
        for row in cell.record.metrics:
            beta = cell.tensors[f"split.{row.split}.beta"]
            ld = cell.tensors[f"split.{row.split}.ld"].astype(float)
            plus, minus = np.abs(beta - row.beta).argmin(), np.abs(beta + row.beta).argmin()
            e_0 = -(np.maximum(0, -ld[:, plus]) + np.maximum(0, ld[:, minus])).mean()
            assert pytest.approx(e_0, abs=1e-6) == row.E_0
            zero = int(np.flatnonzero(beta == 0)[0])
            assert row.E_0_unsteered == pytest.approx(-np.abs(ld[:, zero]).mean(), abs=1e-5)


def test_further_draws_of_a_control_are_there_for_the_spread(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Measured on every split like the first, but neither swept nor searched for the smallest k."""
    matrix = small_matrix(tiny_folder, methods=["dla"], controls={"draws": 2})
    store = run_matrix(matrix, tmp_path).store
    cells = [store.read(cell_id) for cell_id in store.ids()]
    assert sorted(cell.record.draw for cell in cells) == [0, 0, 0, 1, 1]
    for cell in cells:
        first = cell.record.draw == 0
        assert any(name.startswith("sweep.") for name in cell.tensors) == first
        assert cell.record.minimality is not None
        assert cell.record.minimality.searched == first
        assert {row.split for row in cell.record.metrics} == {"train", "test", "shifted"}


def test_the_shuffled_control_has_its_parents_values_elsewhere(outcome: Outcome) -> None:
    ids = by_label(outcome.store)
    parent = outcome.store.read(ids["grad_scalar"]).tensors["scores"]
    shuffled = outcome.store.read(ids["shuffled[of=grad_scalar]"]).tensors["scores"]
    values = shuffled[shuffled != 0]
    assert len(values) > 10
    assert set(values.tolist()) <= set(parent.ravel().tolist())
    assert (parent != shuffled).any()


def test_a_second_run_computes_and_loads_nothing(
    outcome: Outcome, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "load_model", None)
    before = {file: file.stat().st_mtime_ns for file in outcome.store.directory.rglob("cells/*/*")}
    again = run_matrix(small_matrix(tiny_folder), outcome.store.directory)
    assert not again.computed
    assert len(again.known) == len(LABELS)
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_what_was_interrupted_is_completed_with_the_same_numbers(
    outcome: Outcome, tiny_folder: Path, tmp_path: Path
) -> None:
    class Interrupting(Watcher):
        finished_cells = 0

        def finished(self, cell: PlannedCell, record: CellRecord) -> None:
            self.finished_cells += 1
            if self.finished_cells == 2:
                raise KeyboardInterrupt

    matrix, directory = small_matrix(tiny_folder), tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_matrix(matrix, directory, Interrupting())
    resumed = run_matrix(matrix, directory)
    assert (len(resumed.known), len(resumed.computed)) == (2, len(LABELS) - 2)
    for cell_id in outcome.store.ids():
        first, second = outcome.store.read(cell_id), resumed.store.read(cell_id)
        assert first.record.metrics == second.record.metrics
        for name, tensor in first.tensors.items():
            np.testing.assert_array_equal(tensor, second.tensors[name], err_msg=name)


def test_another_matrix_in_the_directory_shares_cells_and_shows_its_own(
    outcome: Outcome, tiny_folder: Path
) -> None:
    directory = outcome.store.directory
    other = run_matrix(small_matrix(tiny_folder, methods=["grad_scalar", "dla"]), directory)
    assert len(other.known) == 3  # grad_scalar, its shuffled control, random
    assert set(other.store.table()["method"]) == {
        "grad_scalar", "dla", "random", "shuffled[of=grad_scalar]", "shuffled[of=dla]",
    }  # fmt: skip
    assert "activ_scalar" not in (directory / "results.csv").read_text()
    back = run_matrix(small_matrix(tiny_folder), directory)
    assert not back.computed
    assert set(back.store.table()["method"]) == LABELS
    assert "activ_scalar" in (directory / "results.csv").read_text()
    written = (directory / "results.csv").stat().st_mtime_ns
    run_matrix(small_matrix(tiny_folder), directory)
    assert (directory / "results.csv").stat().st_mtime_ns == written


def broken(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fit(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(GradScalar, "fit", fit)


def test_a_failed_cell_is_a_result_and_the_others_go_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = brief_matrix(tiny_folder)
    with monkeypatch.context() as patch:
        broken(patch, RuntimeError("no gradient today"))
        outcome = run_matrix(matrix, tmp_path / "run")
    errors = {r.method: r.error for r in outcome.failed}
    assert set(errors) == {"grad_scalar", "shuffled[of=grad_scalar]"}
    assert errors["grad_scalar"].kind == "RuntimeError"  # type: ignore[union-attr]
    assert "no gradient today" in errors["grad_scalar"].log  # type: ignore[union-attr]
    assert errors["shuffled[of=grad_scalar]"].kind == "ParentFailedError"  # type: ignore[union-attr]
    table = outcome.store.table()
    assert set(table.loc[table["status"] == "failed", "method"]) == set(errors)
    assert len(outcome.computed) == 2

    mended = run_matrix(matrix, tmp_path / "run")
    assert not mended.failed
    assert len(mended.computed) == 2


def test_a_parallel_block_has_no_resid_mid_and_says_so(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "gpt_neox", task_texts())
    matrix = brief_matrix(folder, sites=["resid_mid"], controls={"draws": 0})
    outcome = run_matrix(matrix, tmp_path / "run")
    assert len(outcome.failed) == 2
    assert all("run in parallel" in r.error.message for r in outcome.failed)  # type: ignore[union-attr]


def test_no_directory_is_an_error(tiny_folder: Path) -> None:
    with pytest.raises(UserInputError, match="output"):
        run_matrix(brief_matrix(tiny_folder))


def test_a_model_without_numbers_stops_before_any_cell(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SubjectModel.logits
    monkeypatch.setattr(SubjectModel, "logits", lambda *a, **k: real(*a, **k) * torch.nan)
    with pytest.raises(UserInputError, match="NaN or infinite logits for prompts"):
        run_matrix(brief_matrix(tiny_folder), tmp_path / "run")


def test_every_method_runs_in_a_matrix(tiny_folder: Path, tmp_path: Path) -> None:
    short = {"epochs": 2, "steps": 3, "samples": 4}
    names: list[dict[str, object]] = [
        {"name": name, **{key: n for key, n in short.items() if hasattr(entry.load(), key)}}
        for name, entry in METHODS.items()
        if not entry.load().control and Site.ATTN_OUT in entry.load().sites
    ]
    names += [
        {"name": "activ_patch", "direction": "denoising"},
        {"name": "attr_patch", "corruption": "mean"},
        {"name": "dla", "form": "strict"},
    ]
    sites = ["attn_out", "resid_mid", "mlp_out", "resid_post"]
    few: dict[str, object] = {
        **{"sites": sites, "positions": [-2, -1], "controls": {"draws": 0}},
        "prompts": {"train": 2, "test": 2, "shifted": 0},
    }
    outcome = run_matrix(small_matrix(tiny_folder, methods=names, **few), tmp_path / "run")
    assert not outcome.failed
    notes = {note for i in outcome.store.ids() for note in outcome.store.record(i).notes}
    assert any("resid_post of the last layer" in note for note in notes)


def test_a_mistake_leaves_an_earlier_run_as_it_is(outcome: Outcome, tiny_folder: Path) -> None:
    directory = outcome.store.directory
    run_matrix(small_matrix(tiny_folder), directory)
    before = (directory / "run.json").read_bytes()
    for mistake in ({"positions": [99]}, {"prompts": {"train": 5_000_000}}):
        with pytest.raises(UserInputError):
            run_matrix(small_matrix(tiny_folder, tasks=["ccc"], **mistake), directory)
        assert (directory / "run.json").read_bytes() == before
    assert set(RunStore.open(directory).table()["method"]) == LABELS


def test_a_task_that_cannot_be_had_fails_its_cells_and_the_others_go_on(
    tiny_folder: Path, tmp_path: Path
) -> None:
    tasks = [{"name": "ccc"}, {"name": "ioi"}]
    matrix = brief_matrix(
        tiny_folder, tasks=tasks, controls={"draws": 0}, positions=[20]
    )  # ccc has 24 tokens, ioi 12
    outcome = run_matrix(matrix, tmp_path / "run")
    assert {record.task for record in outcome.failed} == {"ioi"}
    assert all("outside a prompt of 12" in r.error.message for r in outcome.failed)  # type: ignore[union-attr]
    assert len(outcome.computed) == 2


def test_excluded_points_are_nan_wherever_scores_are_stored(
    tiny_folder: Path, tmp_path: Path
) -> None:
    matrix = brief_matrix(
        tiny_folder, methods=["dla", "steer_vec"], sites=["resid_post"], controls={"draws": 0}
    )
    store = run_matrix(matrix, tmp_path / "run").store
    for cell_id in store.ids():
        tensors = store.read(cell_id).tensors
        for name in ("scores", "prompt_scores", "extra.norm_change", "extra.cosine_distance"):
            if name in tensors:
                assert np.isnan(tensors[name][..., -1, -1]).all()
                assert np.isfinite(tensors[name][..., 0, 0]).all()


def test_tables_are_made_without_reading_tensors_that_they_do_not_need(
    outcome: Outcome, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four cells those two whose scores are compared, each once; of one method none."""
    reads: list[str] = []
    real = RunStore.read

    def read(store: RunStore, cell_id: str) -> Cell:
        reads.append(store.record(cell_id).method)
        return real(store, cell_id)

    monkeypatch.setattr(RunStore, "read", read)
    for methods, expected in (
        (["grad_scalar", {"name": "activ_scalar", "epochs": 3}],
         ["activ_scalar[epochs=3]", "grad_scalar"]),
        (["grad_scalar"], []),
    ):  # fmt: skip
        outcome.store.tables.forget()
        reads.clear()
        run_matrix(small_matrix(tiny_folder, methods=methods), outcome.store.directory)
        assert sorted(reads) == expected
