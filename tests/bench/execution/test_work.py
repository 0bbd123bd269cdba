"""The rows that a cell is estimated to take beside those that it took."""

from pathlib import Path

import pytest

from bench.execution.run import run_matrix
from bench.execution.work import Counting, Length, work_of_stored
from bench.matrix.cells import expand
from bench.models.load import model_digest
from bench.models.shape import OWN, ModelShape, model_shape
from tasks.task import PromptPair
from tests.small import small_matrix, task_texts
from tests.tiny import ARCHITECTURES, N_HEADS, N_KV_HEADS, save_tiny

CORRUPTIONS = ["counterfactual", "zero", "mean", "gaussian"]
METHODS = [
    {"name": "activ_patch", "corruption": CORRUPTIONS},
    {"name": "attr_patch", "corruption": CORRUPTIONS},
    "grad_scalar",
    "dla",
    {"name": "activ_scalar", "epochs": 3},
    {"name": "steer_vec", "epochs": 5, "batch_size": 1},
    {"name": "dyn_scalar", "epochs": 30},
]


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ("gpt2", {"tasks": ["ccc"], "sparsity": {"points": 2}, "grid": "alone"}),
        ("gpt2", {"positions": "last", "controls": {"draws": 2}}),
        ("gemma3", {"sites": ["z", "v"], "positions": [3, -2, -1], "transfer": ["capital"]}),
    ],
)
def test_a_cell_takes_about_as_many_rows_as_it_is_said_to(
    architecture: str, changes: dict[str, object], tmp_path: Path
) -> None:
    folder = save_tiny(tmp_path / "tiny", architecture, task_texts())
    settings = {"methods": METHODS, "agreement": {"resamples": 0}, **changes}
    matrix = small_matrix(folder, **settings)
    outcome = run_matrix(matrix, tmp_path / "run")
    cells = {cell.id: cell for cell in expand(matrix, model_digest, lambda device: "cpu")}
    count = Counting()
    assert len(outcome.computed) >= 11
    for cell in outcome.computed:
        said, took = count(cells[cell]), work_of_stored(outcome.store.record(cell))
        for one, other in ((said.forward, took.forward), (said.cost, took.cost)):
            assert other / 2 <= one <= 2 * other, (cell, said, took)
        assert took.patched / 2 <= said.patched <= 2 * took.patched, (cell, said, took)
        assert abs(said.backward - took.backward) <= max(2, took.backward / 2), (cell, said, took)


def test_lengths_are_counted_in_words_and_marks() -> None:
    pairs = [
        PromptPair(
            "Then Ann, who saw Bob, waved to", "Then Ann, who saw Tom, waved to", "", "", ""
        ),
        PromptPair(
            "Then Sue, who saw Tom, waved to", "Then Sue, who saw Jim, waved to", "", "", ""
        ),
    ]
    assert Length.of_pairs(pairs) == Length(whole=9, differing=4, varying=8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_models_shape_is_read_from_its_configuration(architecture: str, tmp_path: Path) -> None:
    shape = model_shape(str(save_tiny(tmp_path, architecture)))
    assert shape is not None
    assert shape.n_heads == N_HEADS
    assert shape.n_kv_heads in (N_HEADS, N_KV_HEADS)
    assert shape.n_layers >= 2


def test_a_model_that_is_not_here_has_a_known_shape_or_none(tmp_path: Path) -> None:
    assert model_shape("gpt2-xl") == OWN["gpt2-xl"]
    assert model_shape("somebody/model") is None
    for text in ("[1]", "{", '{"n_layer": 2}', '{"n_layer": "many", "n_head": 2}'):
        (tmp_path / "config.json").write_text(text)
        assert model_shape(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"text_config": {"n_layer": 2, "n_head": 4}}')
    assert model_shape(str(tmp_path)) == ModelShape(2, 4, 4)


def test_the_embedded_models_shape_is_its_configurations() -> None:
    from bench.models.embedded import embedded_folder

    folder = embedded_folder(weights=False)
    assert model_shape(str(folder)) == OWN["smollm2-135m"]
