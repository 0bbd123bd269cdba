"""Which kind of intervention a cell steers with is stored, and only known kinds are taken along."""

import dataclasses
from pathlib import Path

import pytest
import torch

from bench.execution.run import run_matrix
from bench.steering import intervention_of, save_intervention
from bench.store.cells import Cell
from bench.store.interventions import KINDS, kind_of
from bench.store.results import RunStore
from methods.core.points import PointGrid, Site
from methods.core.static_scaling import StaticScaling
from tasks.errors import UserInputError
from tests.command import output_of
from tests.small import brief_matrix

OWN = '''
from dataclasses import dataclass, replace
from methods.activ_scalar import ActivScalar
from methods.core.static_scaling import StaticScaling

class Clamped(StaticScaling):
    """Its own kind: never stronger than 2."""
    def bind(self, beta, start):
        return super().bind(beta.clamp(-2, 2), start)

@dataclass(frozen=True)
class Own(ActivScalar):
    """Trained scalars, clamped."""
    def fit(self, *given):
        found = super().fit(*given)
        scalars = found.intervention
        return replace(found, intervention=Clamped(scalars.grid, scalars.alpha.detach()))

METHODS = {"own": Own}
'''


@pytest.fixture(scope="module")
def store(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run of the suite's own kinds, and of one that a plug-in makes from one of them."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    trained = [{"name": name, "epochs": 2} for name in ("own", "activ_scalar", "dyn_scalar")]
    few = {"plugins": [str(folder / "own.py")], "controls": {"draws": 0}}
    matrix = brief_matrix(tiny_folder, methods=["grad_scalar", "steer_vec", *trained], **few)
    outcome = run_matrix(matrix, folder / "run")
    assert not outcome.failed
    return outcome.store


def cell_of(store: RunStore, method: str) -> Cell:
    (found,) = [name for name in store.ids() if store.record(name).method.startswith(method)]
    return store.read(found)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("grad_scalar", "static_scaling"),
        ("activ_scalar", "static_scaling"),
        ("steer_vec", "steering_vectors"),
        ("dyn_scalar", "dynamic_scaling"),
    ],
)
def test_a_cell_says_its_kind_and_older_ones_are_known_by_their_parameters(
    method: str, kind: str, store: RunStore
) -> None:
    cell = cell_of(store, method)
    assert cell.record.intervention == kind
    older = dataclasses.replace(cell, record=cell.record.model_copy(update={"intervention": ""}))
    for one in (cell, older):
        assert kind_of(intervention_of(one)) == kind
    wrong = next(name for name in KINDS if name != kind)
    other = cell.record.model_copy(update={"intervention": wrong})
    with pytest.raises(UserInputError, match="no intervention that is known here"):
        intervention_of(dataclasses.replace(cell, record=other))


def test_a_plug_ins_own_kind_is_never_taken_for_what_it_is_made_from(
    store: RunStore, tmp_path: Path
) -> None:
    cell = cell_of(store, "own")
    assert cell.record.intervention.endswith(":Clamped")
    assert "intervention.alpha" in cell.tensors
    words = 'steers with "Clamped", an intervention of its method\'s own'
    with pytest.raises(UserInputError, match=words):
        intervention_of(cell)
    file = tmp_path / "own.safetensors"
    for asked in (["export", cell.record.id, file], ["apply", cell.record.id, "--prompt", "x"]):
        assert words in " ".join(output_of(*asked, "--results", store.directory, code=2).split())
    assert not file.exists()


def test_a_file_holds_no_kind_that_is_made_from_a_known_one(tmp_path: Path) -> None:
    class Clamped(StaticScaling):
        """Another kind."""

    grid = PointGrid((Site.MLP_OUT,), 2, (1, 2), 3)
    with pytest.raises(UserInputError, match="Clamped is of no kind that a file can hold"):
        save_intervention(Clamped(grid, torch.ones(grid.shape)), tmp_path / "a")
