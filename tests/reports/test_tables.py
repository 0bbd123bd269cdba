"""The leaderboard says what the store holds, and no more."""

import io
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench.agreement.table import COLUMNS
from bench.store.results import RunStore
from bench.store.tidy import variant_labels
from reports.figures import FIGURES
from reports.load import Results, judged, load
from reports.outcomes import terms
from reports.present import UNSTEERED, formatted
from reports.tables import TABLES
from reports.tables.leaderboard import leaderboard
from reports.terminal import terminal_tables
from reports.text import number
from reports.write import ReportOptions, write_report
from tasks.errors import UserInputError
from tests.reports.cells import asked, make_cell, make_failure, stored, with_prompts


@pytest.fixture(scope="module")
def board(results: Results) -> pd.DataFrame:
    return leaderboard(results, "smollm2-135m", "ccc").set_index("method")


@pytest.mark.parametrize("method", ["attr_patch", "activ_scalar", "random"])
def test_a_row_has_the_means_and_ranges_of_its_cells(
    results: Results, board: pd.DataFrame, method: str
) -> None:
    """Untrained methods at beta*, trained ones at 1, controls over their draws."""
    records = [one for one in results.of("smollm2-135m", "ccc") if one.method == method]
    row = board.loc[method]
    assert row["n_cells"] == len(records) == (5 if method == "random" else 1)
    assert row["control"] == (method == "random")
    for split in ("train", "test", "shifted"):
        for name in ("E_0", "E_0_unsteered", "F", "flips_plus", "flips_minus", "mass"):
            values = [getattr(one, name) for cell in records for one in judged(cell, split)]
            assert row[f"{name}_{split}"] == pytest.approx(np.mean(values))
            ends = (min(values), max(values)) if len(values) > 1 else (None, None)
            assert (row[f"{name}_{split}_low"], row[f"{name}_{split}_high"]) == ends
        at_one = [
            row.E_0
            for cell in records
            for row in cell.metrics
            if (row.split, row.beta_kind) == (split, "one")
        ]
        assert row[f"E_0_{split}_at_one"] == pytest.approx(np.mean(at_one))
    if method == "attr_patch":
        (record,) = records
        assert record.beta is not None
        assert record.minimality is not None
        assert row["beta_star"] == record.beta.star
        assert row["minimality_count"] == record.minimality.count
        assert row["smallest_k"] == record.minimality.smallest_k
        assert (row["seconds"], row["forward_rows"]) == (20.75, 5520)


def test_the_unsteered_model_leads_with_its_range_and_undefined_results_are_called_so(
    small_store: RunStore,
) -> None:
    record, tensors = make_cell("ccc", "dla")
    shown = formatted(leaderboard(stored(small_store, (record, tensors))))
    assert (shown["method"][0], shown["E₀ test (B)"][0]) == (UNSTEERED, "\u22121.700")
    worse = {"E_0_unsteered": -9.0, "E_0": math.nan}
    metrics = [row.model_copy(update=worse) for row in record.metrics]
    other = record.model_copy(update={"id": "b", "method": "attr_patch", "metrics": metrics})
    shown = formatted(leaderboard(stored(small_store, (other, tensors))))
    assert shown["E₀ test (B)"][0] == "\u22125.350 [\u22129.000, \u22121.700]"
    assert shown.set_index("method").loc["attr_patch", "E₀ test (B)"] == "undefined"


def test_failures_are_rows_beside_results_or_alone(small_store: RunStore) -> None:
    results = stored(small_store, make_failure("ccc", "dla"))
    assert formatted(leaderboard(results))["method"].tolist() == ["dla"]
    assert len(list(terminal_tables(results))) == 2
    row = leaderboard(stored(small_store, make_cell("ccc", "dla"))).iloc[0]
    assert (row["status"], row["n_cells"]) == ("partly failed", 1)
    assert row["error"] == "NumericalError: out of memory"


def test_the_best_stands_first_the_failed_last_and_no_number_for_what_is_none(
    results: Results,
) -> None:
    board = leaderboard(results, task="hostile")
    known = [value for value in board["E_0_test"] if value is not None]
    assert known == sorted(known, reverse=True)
    last = board.iloc[-1]
    assert (last["method"], last["status"]) == ("dla", "failed")
    assert "NaN in logits" in last["error"]
    by_method = board.set_index("method")
    assert by_method.loc["steer_vec", "minimality_count"] is None
    assert math.isnan(by_method.loc["attr_patch", "E_0_train_at_one"])
    shown = formatted(board).set_index("method")
    assert shown.loc["steer_vec", "|θ| ≥ 0.01"] == "not meaningful"
    assert shown.loc["dla", "E₀ test (B)"] == "\u2013"
    assert "NaN in logits" in shown.loc["dla", "status"]


def test_cells_with_other_settings_get_their_own_rows(small_store: RunStore) -> None:
    cells = []
    for rate in (0.01, 0.001):
        for seed in (0, 1):
            method = {"name": "activ_scalar", "learning_rate": rate}
            settings = {**asked(margin=1.0, seed=seed), "method": method}
            name = f"{rate}-{seed}"
            cells.append(make_cell("ccc", "activ_scalar", seed=seed, id=name, settings=settings))
    results = stored(small_store, *cells)
    board = leaderboard(results).set_index("method")
    assert board["n_cells"].to_dict() == {
        "activ_scalar · learning_rate=0.001": 2,
        "activ_scalar · learning_rate=0.01": 2,
    }
    assert set(formatted(board.reset_index())["kind"]) == {"reference", "trained \u00d7 2"}
    assert len(variant_labels(results.records)) == 4


def test_an_empty_run_is_empty(small_store: RunStore) -> None:
    results = load(small_store.directory)
    assert leaderboard(results).empty
    assert list(results.agreement.columns) == list(COLUMNS)
    assert results.table.empty
    with pytest.raises(UserInputError, match="no model 'x'"):
        leaderboard(results, "x")


def test_unknown_names_are_refused_with_the_nearest(results: Results) -> None:
    for wrong, right in (({"task": "hostil"}, "hostile"), ({"model": "smol"}, "smollm2-135m")):
        with pytest.raises(UserInputError, match=f'Did you mean "{right}"'):
            leaderboard(results, **wrong)
    with pytest.raises(ValueError, match="one model and task"):
        formatted(leaderboard(results))


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_whole_numbers_and_no_escapes(results: Results, width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    for table in terminal_tables(results, width):
        console.print(table)
    text = stream.getvalue()
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    board = leaderboard(results, "smollm2-135m", "ccc")
    for value in board["E_0_test" if width == 80 else "E_0_shifted"]:
        assert number(value) in text
    for label in board["method"]:
        assert all(part in text for part in re.findall(r"\[?[^\[,]+[\],]?", label)), label
    said = board[["against_best", "against_controls", "localises"]].fillna("").to_numpy().ravel()
    words = re.sub(r" ?\[[^\]]*\]| \([^)]*\)|,", "", " ".join(said)).split()
    assert "best" in words
    assert set(words) <= set(re.sub("[;,]", "", text).split())


def test_the_terminal_shows_localisation_curves(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dla")
    _, shown = terminal_tables(stored(small_store, (record, tensors)), 80)
    ld = tensors["localisation.ld"]
    (unsteered,) = {row.E_0_unsteered for row in record.metrics if row.split == "test"}
    shares = 1 - terms(ld, tensors["localisation.kl"])[0].mean(axis=0) / unsteered
    cells = [next(iter(column.cells)) for column in shown.columns[1:]]
    assert (cells[0], cells[-1]) == (number(shares[0], 2), number(shares[-1], 2))
    assert len(cells) <= 6


def test_the_unsteered_model_is_averaged_over_draws_of_prompts(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "dla")
    same = record.model_copy(update={"id": "same"}), tensors
    first = TABLES["tasks"].table(stored(small_store, (record, tensors), same))
    other, _ = with_prompts((record, tensors), clean="another prompt")
    doubled = {name: 2 * of if name.endswith(".ld") else of for name, of in tensors.items()}
    other = other.model_copy(update={"id": "other"})
    both = TABLES["tasks"].table(stored(small_store, (other, doubled)))
    (first, both) = (one.set_index("split").loc["test"] for one in (first, both))
    assert both["n_prompts"] == 2 * first["n_prompts"]
    assert both["E_0_unsteered"] == pytest.approx(1.5 * first["E_0_unsteered"])


def test_what_else_a_figure_draws_has_a_file_of_its_own(
    small_store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_store.write(*make_cell("ccc", "dla"))
    entry = replace(FIGURES["leaderboard"], more=(("board", TABLES["leaderboard"].target),))
    monkeypatch.setitem(FIGURES, "leaderboard", entry)
    index = write_report(small_store.directory, options=ReportOptions(figures=["leaderboard"]))
    written = pd.read_csv(index.parent / "figures" / "leaderboard-smollm2-135m-ccc-board.csv")
    assert written["method"].tolist() == ["dla"]
