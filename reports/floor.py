"""The floor of a task: the least price at which its prompts can be flipped at all."""

import numpy as np
from numpy.typing import NDArray

from bench.store.records import CellRecord
from reports.load import Results, once
from reports.outcomes import main_split


def least_price(p_answer: NDArray[np.float64], p_foil: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least divergence in nats at which answer and foil are equally likely.

    -log(1 - (sqrt(p_answer) - sqrt(p_foil))^2), where all else of the distribution stays in
    proportion: the smallest KL(q || p) over distributions q with q(answer) = q(foil). One of the
    two signs of an intervention has to pay it.

    Args:
        p_answer: probabilities of the answers in the unsteered model.
        p_foil: of the foils.
    """
    return np.asarray(-np.log1p(-((np.sqrt(p_answer) - np.sqrt(p_foil)) ** 2)))


@once
def floor_of(results: Results, model: str, task: str) -> float:
    """Return the mean of `least_price` over the prompts of the main split; NaN if not stored."""
    records = [record for record in results.of(model, task) if record.status == "done"]
    split = main_split(records)
    found = [_of_cell(results, record, split) for record in records]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _of_cell(results: Results, record: CellRecord, split: str) -> float | None:
    tensors = results.small_tensors(record.id)
    names = ("beta", "p_answer", "p_foil")
    beta, p_answer, p_foil = (tensors.get(f"split.{split}.{name}") for name in names)
    if beta is None or p_answer is None or p_foil is None or not (beta == 0).any():
        return None
    unsteered = int(np.flatnonzero(beta == 0)[0])
    columns = [values[:, unsteered].astype(np.float64) for values in (p_answer, p_foil)]
    return float(least_price(columns[0], columns[1]).mean())
