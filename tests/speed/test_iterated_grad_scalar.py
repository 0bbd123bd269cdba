"""How many steps IteratedGradScalar takes to be ActivScalar on SmolLM2: docs/methods.md's table."""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluation.prepare import PreparedTask, prepare_task
from bench.evaluation.sparsity import strongest
from bench.evaluation.split import Split, respond
from bench.matrix.cells import expand
from bench.models.load import LoadedModel
from methods.activ_scalar import ActivScalar
from methods.core.objective import Objective, effectiveness
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.iterated_grad_scalar import IteratedGradScalar
from methods.method import Method, Setting
from tests.small import small_matrix

STEPS = (1, 2, 5, 10, 25)
PROMPTS = {"train": 4, "test": 8, "shifted": 0}


def test_steps_until_it_is_activ_scalar(smollm2: LoadedModel) -> None:
    matrix = small_matrix(
        "smollm2-135m", methods=["activ_scalar"], prompts=PROMPTS, controls={"draws": 0}
    )
    (cell,) = expand(matrix, lambda model: "digest", lambda device: "cpu")
    subject = SubjectModel(smollm2.bridge)
    task = prepare_task(cell.task, cell, smollm2, subject)

    def scores_of(method: Method) -> Float[Tensor, "place layer position"]:
        setting = Setting(Objective(), 0)
        return method.fit(subject, task.train.prompts, task.grid, setting).scores

    trained = scores_of(ActivScalar(epochs=25))
    psi = [_show(subject, task, "activ_scalar, 25 steps", trained, trained)]
    for steps in STEPS:
        scores = scores_of(IteratedGradScalar(steps=steps))
        psi.append(_show(subject, task, f"{steps} steps", scores, trained))
    _show(subject, task, "activ_scalar, 100 steps", scores_of(ActivScalar(epochs=100)), trained)
    assert psi[1:] == sorted(psi[1:])
    assert psi[STEPS.index(10) + 1] < psi[0] < psi[-1]


def _show(
    subject: SubjectModel,
    task: PreparedTask,
    name: str,
    scores: Float[Tensor, "place layer position"],
    trained: Float[Tensor, "place layer position"],
) -> float:
    """Prints a row of the table; gives Psi without M_1 on train."""
    psi, _ = _at_one(subject, task, task.train, scores)
    _, e_0 = _at_one(subject, task, task.splits["test"], scores)
    both = torch.stack([one.nan_to_num().flatten() for one in (scores, trained)])
    shared = int((strongest(scores, 16) & strongest(trained, 16)).sum())
    r = float(torch.corrcoef(both)[0, 1])
    print(f"\n{name}: Psi {psi:.2f}, r {r:.2f}, shared of 16 {shared}, E_0 on test {e_0:.2f}")
    return psi


def _at_one(
    subject: SubjectModel, task: PreparedTask, split: Split, scores: Tensor
) -> tuple[float, float]:
    """Psi without M_1, and E_0, of scores that are the scalars."""
    steering = StaticScaling(task.grid, scores.nan_to_num()).to(subject.device)
    response = respond(subject, split, steering, torch.tensor([1.0, -1.0]))
    psi = float(response.behaviour(Objective())[0])
    return psi, float(effectiveness(response.ld[:, 0], response.ld[:, 1], 0.0))
