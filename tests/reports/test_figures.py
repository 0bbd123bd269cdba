"""Figures show the stored numbers, legibly, whatever the strings and the user's own style."""

from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.store.layout import TENSOR_FILE
from bench.store.results import RunStore
from reports import palette
from reports.figures import agreement, comparison, marks, sweep
from reports.load import Results, load
from reports.text import number, token
from tasks.errors import UserInputError
from tests.reports.cells import LAYERS, SITES, make_cell, make_failure, stored

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def hostile(results: Results) -> Figure:
    before = dict(mpl.rcParams)
    drawn = comparison.figure(results.only(methods=["attr_patch", "dla"]), task="hostile")
    assert dict(mpl.rcParams) == before
    return drawn


def texts(figure: Figure) -> list[Text]:
    axes = [one for axes in figure.axes for one in (axes.xaxis, axes.yaxis)]
    unseen = [
        label
        for axis in axes
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        for label in (tick.label1, tick.label2)
    ]
    found = [one for one in figure.findobj(Text) if isinstance(one, Text) and one.get_visible()]
    return [one for one in found if one.get_text() and one not in unseen]


def assert_legible(figure: Figure) -> None:
    """No text leaves the figure, no two overlap; slanted ones are only checked for the first."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = []
    for text in texts(figure):
        box = text.get_window_extent(renderer)
        if box.width == 0:
            continue
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
        if text.get_rotation() in (0, 90):
            boxes.append((text.get_text(), box.padded(-1.0)))
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), (one, other)


@pytest.mark.parametrize("n_tokens", [3, 24, 300])
@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("wide", ["␣word", "中文", "a"])
def test_labels_of_many_tokens_stand_apart_and_the_answers_is_there(
    n_tokens: int, wide: str
) -> None:
    """Of heads the first one is."""
    for names in ([wide] * (n_tokens - 1) + ["␣end"], [str(head) for head in range(n_tokens)]):
        figure = Figure(figsize=(3.5, 2))
        axes = figure.add_axes((0.15, 0.4, 0.8, 0.5))
        marks.draw_map(axes, np.ones((4, n_tokens)), names, 1.0, room=2.8)
        figure.draw_without_rendering()
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        boxes = [label.get_window_extent().padded(-1.0) for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))
        known = [label.get_text() for label in labels]
        assert len(known) == n_tokens or n_tokens > 20
        assert known[-1] == "␣end" if "␣end" in names else known[0] == "0"


@pytest.mark.parametrize("method", ["attr_patch", "activ_scalar"])
def test_the_comparison_shows_the_stored_scores_on_a_scale_of_their_own(
    results: Results, method: str
) -> None:
    figure = comparison.figure(results, model=MODEL, task="ccc", methods=[method])
    cell = results.cell(f"ccc-{method}-0-0")
    per_prompt = "prompt_scores" in cell.tensors
    scores = cell.tensors["prompt_scores"][0] if per_prompt else cell.tensors["scores"]
    maps = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.texts[0].get_text() for axes in maps] == [*SITES]
    for axes, expected in zip(maps, scores, strict=True):
        (image,) = axes.get_images()
        np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), expected)
        assert image.get_clim() == (-np.nanmax(abs(scores)), np.nanmax(abs(scores)))
        assert axes.patch.get_hatch()
    said = "scores of the train prompt shown" if per_prompt else "one for all prompts"
    assert said in " ".join(text.get_text() for text in texts(figure))


def test_axes_name_tokens_layers_and_strengths(results: Results, hostile: Figure) -> None:
    record = next(one for one in results.of(MODEL, "hostile") if one.method == "attr_patch")
    tokens = [token(one) for one in record.prompts["train"][0].tokens[1:]]
    assert "$x_1$" in tokens
    first = hostile.axes[0]
    assert [text.get_text() for text in first.get_xticklabels()] == tokens
    assert [int(text.get_text()) for text in first.get_yticklabels()] == [*range(0, LAYERS, 5)]
    assert first.get_ylabel() == "layer"
    labels = [axes.get_xlabel() for axes in hostile.axes if axes.get_xlabel()]
    assert labels[:2] == ["strength β, train prompt", "strength β, test prompt"]
    assert "Not shown: dla (failed)" in [text.get_text() for text in hostile.texts]


@pytest.mark.parametrize(
    ("quantity", "curves"),
    {"logit": ("logit_answer", "logit_foil"), "probability": ("p_answer", "p_foil")}.items(),
)
def test_sweeps_show_what_is_stored_and_the_strengths(
    results: Results, quantity: Any, curves: tuple[str, str]
) -> None:
    figure = comparison.figure(
        results, model=MODEL, task="ccc", methods=["attr_patch"], quantity=quantity
    )
    cell = results.cell("ccc-attr_patch-0-0")
    assert cell.record.beta is not None
    star = cell.record.beta.star
    assert star is not None
    colours = palette.current()
    sweeps = [axes for axes in figure.axes if axes.get_legend()]
    for axes, split in zip(sweeps, ("train", "test"), strict=True):
        named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
        assert [str(line.get_label()).split()[0] for line in named] == ["answer", "foil"]
        assert [line.get_color() for line in named] == [colours.answer, colours.foil]
        for line, name in zip(named, curves, strict=True):
            np.testing.assert_allclose(line.get_ydata(), cell.tensors[f"sweep.{split}.{name}"][0])
        lines = {line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2}
        assert lines == {0.0, -1.0, 1.0, star, -star}
        assert axes.get_ylabel() == quantity
    assert "foil ␣Cairo" in [text.get_text() for text in texts(figure)]


def test_crossings_are_where_the_curves_meet() -> None:
    beta = np.array([-1.0, 0.0, 1.0, 2.0])
    where, value = sweep.crossings_of(
        beta, np.array([0.0, 1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0, 3.0])
    )
    np.testing.assert_allclose(where, [0.5, 2.0])
    np.testing.assert_allclose(value, [1.5, 3.0])


def test_controls_are_shown_when_asked_for(results: Results) -> None:
    shown = comparison.data(results, model=MODEL, task="ccc")["method"]
    assert "random" not in set(shown)
    asked = comparison.data(results, model=MODEL, task="ccc", methods=["random", "dla"])
    assert set(asked["method"]) == {"random", "dla"}


def test_unknown_methods_and_empty_figures_are_refused(small_store: RunStore) -> None:
    results = stored(small_store, make_failure("ccc", "dla"))
    for figure, methods, said in (
        (comparison.figure, {}, f"no method of {MODEL} · ccc has scores"),
        (comparison.figure, {"methods": ["dlaa"]}, 'Did you mean "dla"'),
        (agreement.figure, {}, "stores no agreement"),
    ):
        with pytest.raises(UserInputError, match=said):
            figure(results, model=MODEL, task="ccc", **methods)


def test_damaged_tensors_do_not_end_the_figure(small_store: RunStore) -> None:
    without = make_cell("ccc", "grad_scalar")
    del without[1]["scores"]
    stored(small_store, make_cell("ccc", "dla"), make_cell("ccc", "attr_patch"), without)
    file = small_store.cell_directory("ccc-attr_patch-0-0") / TENSOR_FILE
    file.write_bytes(file.read_bytes()[:-1])
    figure = comparison.figure(load(small_store.directory), model=MODEL, task="ccc")
    said = [text.get_text() for text in figure.texts]
    assert "Not shown: grad_scalar (no scores); attr_patch (damaged)" in said


@pytest.mark.parametrize(
    ("layers", "positions", "sites"), [(2, 1, 1), (2, 60, 3), (48, 1, 3), (48, 60, 1)]
)
def test_other_sizes_are_legible_too(
    small_store: RunStore, layers: int, positions: int, sites: int
) -> None:
    names = ["attn_out", "resid_mid", "mlp_out"][:sites]
    grid = {"sites": names, "n_layers": layers, "positions": range(positions)}
    record, _ = make_cell("ccc", "activ_patch[direction=denoising]", grid=grid)
    scores = np.zeros((sites, layers, positions), dtype=np.float32)
    figure = comparison.figure(stored(small_store, (record, {"scores": scores})))
    assert_legible(figure)
    missing = [text.get_text() for text in texts(figure) if text.get_text().startswith("no sweep")]
    assert len(missing) == 2
    image = next(axes.get_images()[0] for axes in figure.axes if axes.get_images())
    assert image.get_clim() == (-1.0, 1.0)


def test_a_single_long_name_is_legible(small_store: RunStore) -> None:
    record, tensors = make_cell("ccc", "activ_patch")
    name = "shuffled[of=activ_patch[direction=denoising,corruption=counterfactual]]" * 2
    results = stored(small_store, (record.model_copy(update={"method": name}), tensors))
    assert_legible(comparison.figure(results))


def test_no_text_is_mathematics_under_any_style(hostile: Figure) -> None:
    assert not any(text.get_parse_math() for text in texts(hostile))
    with mpl.rc_context({"axes.grid": True, "font.size": 30, "axes.facecolor": "red"}):
        hostile.canvas.draw()  # whoever draws it then
        assert_legible(hostile)


def test_agreement_shows_the_stored_numbers(results: Results) -> None:
    """Which way below the diagonal, where above it, in the row and column of the two methods."""
    figure = agreement.figure(results, model=MODEL, task="ccc")
    assert_legible(figure)
    (axes,) = (axes for axes in figure.axes if axes.get_images())
    shown: dict[tuple[int, ...], list[str]] = {}
    for text in axes.texts:
        shown.setdefault(tuple(map(round, text.get_position())), []).append(text.get_text())
    names = [label.get_text() for label in axes.get_yticklabels()]
    pairs = agreement.data(results, model=MODEL, task="ccc").to_dict("records")
    assert len(pairs) == 28
    for row in pairs:
        left, right = sorted((names.index(row["method_a"]), names.index(row["method_b"])))
        assert number(row["tau"], 2) in shown[left, right]
        assert number(row["size_tau"], 2) in shown[right, left]
    assert sum("undefined" in texts for texts in shown.values()) == 1
    assert axes.get_images()[0].get_clim() == (-1, 1)


def test_agreement_leaves_controls_out(results: Results) -> None:
    frame = pd.concat([results.agreement, results.agreement.iloc[[0]].assign(method_b="random")])
    changed = replace(results, agreement=frame, known={})
    assert "random" not in set(agreement.data(changed, task="ccc")["method_b"])
