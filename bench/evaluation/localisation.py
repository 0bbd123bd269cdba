"""Localisation: how well a method steers with its few strongest points alone, at one price.

For every k the intervention acts at the k points of largest |score| and nowhere else. Its strength
is chosen on train at one price (`bench.evaluation.price`), with both signs; E_0 and the price paid
are measured on test. A method that knows where a model does a task needs few points. All points
together are never among the k: whether they steer is another question.

Trained interventions are kept as trained at those points; their strength is chosen like that of
scores, so that all methods answer the same question.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import PriceSearch, made_up
from bench.evaluation.sparsity import area, strongest
from bench.evaluation.split import respond
from bench.matrix.stages import Localisation
from bench.store.cells import Tensors
from bench.store.records import LocalisationRecord
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness, faithfulness
from methods.core.subject import SubjectModel


def localise(
    subject: SubjectModel,
    task: PreparedTask,
    intervention: Intervention,
    scores: Float[Tensor, "place layer position"],
    setting: Localisation,
    seed: int,
) -> tuple[LocalisationRecord, Tensors]:
    """Measures E_0 at the k strongest points for every k.

    Args:
        subject: the model.
        task: strengths are chosen on its train split; E_0 and price are measured on its test split.
        intervention: activation scalars made from the scores, or what the method trained.
        scores: whose size ranks the points.
        setting: numbers of points, and the price. Numbers that the grid does not exceed are left
            out.
        seed: decides between points of equal score.

    Returns:
        The record, and per test prompt `localisation.ld` and `localisation.kl` (prompt, k, sign)
        at +beta and -beta.
    """
    train, test = task.train, task.splits["test"]
    ks = [k for k in sorted(setting.k) if k < intervention.grid.n_points]
    chosen, ld, kl = [], [], []
    guess = None
    for k in ks:
        kept = intervention.at_points(strongest(scores, k, seed)).to(subject.device)
        search = PriceSearch(subject, train, kept, guess=guess)
        strength, (guess, _) = search.at(setting.price), search.limit(setting.price)
        response = respond(subject, test, kept, torch.tensor([strength.beta, -strength.beta]))
        chosen.append(strength)
        ld.append(response.ld)
        kl.append(response.kl)
    if not ks:
        return LocalisationRecord(split=test.name, price=setting.price), {}
    all_ld, all_kl = torch.stack(ld), torch.stack(kl)
    e_0 = effectiveness(all_ld[..., 0], all_ld[..., 1], 0.0).tolist()
    record = LocalisationRecord(
        split=test.name,
        price=setting.price,
        k=ks,
        beta=[strength.beta for strength in chosen],
        E_0=e_0,
        paid=(-faithfulness(all_kl[..., 0], all_kl[..., 1])).tolist(),
        E_0_train=[strength.E_0 for strength in chosen],
        paid_train=[strength.paid for strength in chosen],
        area=area(ks, [made_up(one, test.unsteered_e_0) for one in e_0]),
    )
    stored = {"localisation.ld": all_ld, "localisation.kl": all_kl}
    return record, {name: values.movedim(0, 1).numpy() for name, values in stored.items()}
