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
from tasks.errors import UserInputError
from tests.bench.store.test_upkeep import numbers
from tests.small import RunOf, brief_matrix, matrix_of, small_matrix, task_texts

LABELS = ["grad_scalar", "activ_scalar[epochs=3]", "random", "shuffled[of=grad_scalar]"]


@pytest.fixture(scope="module")
def outcome(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_matrix(small_matrix(tiny_folder), tmp_path_factory.mktemp("runs") / "first")


def by_label(store: RunStore) -> dict[str, Cell]:
    return {cell.record.method: cell for cell in map(store.read, store.ids())}


def test_every_cell_is_stored_with_what_reports_need(outcome: Outcome) -> None:
    assert (outcome.failed, outcome.known) == ([], [])
    cells, plan = by_label(outcome.store), outcome.store.plan
    assert set(cells) == set(LABELS)
    assert {name: (one.method, one.trained) for name, one in plan.items()} == {
        cell.record.id: (label, cell.record.trained) for label, cell in cells.items()
    }
    sizes = {"train": 2, "test": 3, "shifted": 3}
    for label, (record, tensors) in {k: (c.record, c.tensors) for k, c in cells.items()}.items():
        assert record.grid is not None
        assert record.beta is not None
        shape = (2, record.grid.n_layers, len(record.grid.positions))
        assert tensors["scores"].shape == shape
        untrained = label != "activ_scalar[epochs=3]"
        assert (record.beta.star is not None) == untrained
        kinds = {"one", "price", "star"} if untrained else {"one", "price"}
        rows = {(row.split, row.beta_kind) for row in record.metrics}
        assert rows == {(split, kind) for split in sizes for kind in kinds}
        assert {split: len(prompts) for split, prompts in record.prompts.items()} == sizes
        strengths = {0.0, *(sign * row.beta for row in record.metrics for sign in (1, -1))}
        for split, size in sizes.items():
            assert tensors[f"split.{split}.beta"].shape == (len(strengths),)
            for name in ("ld", "kl", "p_answer", "p_foil"):
                assert tensors[f"split.{split}.{name}"].shape == (size, len(strengths))
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
    labels = ("grad_scalar", "shuffled[of=grad_scalar]")
    parent, shuffled = (cells[label].tensors["scores"] for label in labels)
    assert {*shuffled[shuffled != 0].tolist()} <= {*parent.ravel().tolist()}
    assert (shuffled != 0).sum() > 10


def test_stored_metrics_follow_from_what_is_stored_of_every_prompt(outcome: Outcome) -> None:
    for cell in by_label(outcome.store).values():
        for row in cell.record.metrics:
            beta = cell.tensors[f"split.{row.split}.beta"]
            ld = cell.tensors[f"split.{row.split}.ld"].astype(float)
            plus, minus = np.abs(beta - row.beta).argmin(), np.abs(beta + row.beta).argmin()
            e_0 = -(np.maximum(0, -ld[:, plus]) + np.maximum(0, ld[:, minus])).mean()
            assert pytest.approx(e_0, abs=1e-6) == row.E_0
            zero = int(np.flatnonzero(beta == 0)[0])
            assert row.E_0_unsteered == pytest.approx(-np.abs(ld[:, zero]).mean(), abs=1e-5)


def test_further_draws_of_a_control_are_there_for_the_spread(run_of: RunOf) -> None:
    """Measured on every split like the first, but neither swept nor searched for the smallest k."""
    store = run_of("dla", controls={"draws": 2}, smallest_k=True).store
    cells = [*map(store.read, store.ids())]
    assert sorted(cell.record.draw for cell in cells) == [0, 0, 0, 1, 1]
    for cell in cells:
        first = cell.record.draw == 0
        assert any(name.startswith("sweep.") for name in cell.tensors) == first
        assert cell.record.minimality is not None
        assert cell.record.minimality.searched == first
        assert {row.split for row in cell.record.metrics} == {"train", "test", "shifted"}


def test_a_second_run_computes_and_loads_nothing_and_a_mistake_changes_nothing(
    outcome: Outcome, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = outcome.store.directory
    files = [directory / "run.json", *directory.rglob("cells/*/*")]
    before = [file.stat().st_mtime_ns for file in files[1:]]
    with monkeypatch.context() as patch:
        patch.setattr(opened, "load_model", None)
        again = run_matrix(small_matrix(tiny_folder), directory)
    assert not again.computed
    assert len(again.known) == len(LABELS)
    content = files[0].read_bytes()
    with pytest.raises(UserInputError):
        run_matrix(small_matrix(tiny_folder, tasks=["ccc"], positions=[99]), directory)
    assert files[0].read_bytes() == content
    assert before == [file.stat().st_mtime_ns for file in files[1:]]
    assert set(RunStore.open(directory).table()["method"]) == set(LABELS)


def test_what_was_interrupted_is_completed_with_the_same_numbers(
    tiny_folder: Path, whole: Path, tmp_path: Path
) -> None:
    class Interrupting(Watcher):
        def finished(self, cell: PlannedCell, record: CellRecord) -> None:
            if cell.method.name == "activ_scalar":
                raise KeyboardInterrupt

    matrix = brief_matrix(tiny_folder)
    with pytest.raises(KeyboardInterrupt):
        run_matrix(matrix, tmp_path, Interrupting())
    resumed = run_matrix(matrix, tmp_path)
    assert (len(resumed.known), len(resumed.computed)) == (2, 2)
    assert numbers(tmp_path) == numbers(whole / "run")


def test_another_matrix_in_the_directory_shares_cells_and_shows_its_own(
    outcome: Outcome, tiny_folder: Path
) -> None:
    directory = outcome.store.directory
    other = run_matrix(small_matrix(tiny_folder, methods=["grad_scalar", "dla"]), directory)
    assert len(other.known) == 3  # grad_scalar, its shuffled control, random
    labels = {"grad_scalar", "dla", "random", "shuffled[of=grad_scalar]", "shuffled[of=dla]"}
    assert set(other.store.table()["method"]) == labels
    assert "activ_scalar" not in (directory / "results.csv").read_text()
    back = run_matrix(small_matrix(tiny_folder), directory)
    assert not back.computed
    assert set(back.store.table()["method"]) == set(LABELS)
    assert "activ_scalar" in (directory / "results.csv").read_text()
    written = (directory / "results.csv").stat().st_mtime_ns
    run_matrix(small_matrix(tiny_folder), directory)
    assert (directory / "results.csv").stat().st_mtime_ns == written


def test_a_parallel_block_has_no_resid_mid_and_says_so(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model", "gpt_neox", task_texts())
    (failed,) = run_matrix(matrix_of(folder, sites=["resid_mid"]), tmp_path / "run").failed
    assert failed.error is not None
    assert "run in parallel" in failed.error.message


def test_no_directory_is_an_error(tiny_folder: Path) -> None:
    with pytest.raises(UserInputError, match="output"):
        run_matrix(matrix_of(tiny_folder))


def test_a_model_without_numbers_stops_before_any_cell(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SubjectModel.logits
    monkeypatch.setattr(SubjectModel, "logits", lambda *a, **k: real(*a, **k) * torch.nan)
    with pytest.raises(UserInputError, match="NaN or infinite logits for prompts"):
        run_of()


def test_every_method_runs_in_a_matrix(run_of: RunOf) -> None:
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
    few: dict[str, object] = {
        **{"prompts": {"train": 2, "test": 1, "shifted": 0}, "sweep": {"points": 3}},
        **{"prices": {"at": [0.3], "curve": False}, "smallest_k": True, "positions": [-2, -1]},
    }
    outcome = run_of(*names, sites=["attn_out", "resid_mid", "mlp_out", "resid_post"], **few)
    assert not outcome.failed
    notes = {note for i in outcome.store.ids() for note in outcome.store.record(i).notes}
    assert any("resid_post of the last layer" in note for note in notes)


def test_a_task_that_cannot_be_had_fails_its_cells_and_the_others_go_on(run_of: RunOf) -> None:
    outcome = run_of(tasks=["ccc", "ioi"], positions=[20])
    (failed,) = outcome.failed
    assert failed.error is not None
    assert failed.task == "ioi"  # 12 tokens; ccc has 24
    assert "outside a prompt of 12" in failed.error.message
    assert len(outcome.computed) == 1


def test_excluded_points_are_nan_wherever_scores_are_stored(run_of: RunOf) -> None:
    store = run_of("dla", "steer_vec", sites=["resid_post"]).store
    for cell in by_label(store).values():
        tensors = cell.tensors
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
    compared = ["grad_scalar", {"name": "activ_scalar", "epochs": 3}]
    for methods, expected in ((compared, LABELS[:2]), (compared[:1], [])):
        outcome.store.tables.forget()
        reads.clear()
        run_matrix(small_matrix(tiny_folder, methods=methods), outcome.store.directory)
        assert sorted(reads) == sorted(expected)
