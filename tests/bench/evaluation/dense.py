"""E_0 at a price by brute force: every strength of a dense grid, and no interpolation."""

from collections.abc import Iterator, Sequence

import torch

from bench.evaluation.prepare import PreparedTask
from bench.evaluation.price import unit_of
from bench.evaluation.split import respond
from methods.core.intervention import Intervention
from methods.core.objective import effectiveness, faithfulness
from methods.core.subject import SubjectModel

FINE, AT_ONCE = 1.004, 16
"""Of one strength to the next between the last that is affordable and the first that is not; how
many of them a forward has."""
SMALLEST, LARGEST = 0.01, 100.0
"""Of the grid, in units of 1 / max|alpha|."""


def dense_e_0(
    subject: SubjectModel,
    task: PreparedTask,
    of: Intervention,
    prices: Sequence[float],
    *,
    ratio: float = 1.02,
    both_signs: bool = True,
) -> Iterator[float]:
    """For each price the largest E_0 on train up to the first |beta| that costs more.

    Args:
        subject: the model.
        task: with its train split.
        of: what acts.
        prices: in nats, from the lowest on: what one affords the next one affords too.
        ratio: of one strength of the grid to the next.
        both_signs: whether beta may be negative.
    """
    assert list(prices) == sorted(prices)
    unit = unit_of(of)
    best, last = task.train.unsteered_e_0, SMALLEST * unit
    for price in prices:
        for step in (ratio, FINE):
            affordable = True
            while affordable and last < LARGEST * unit:
                sizes = [last * step**place for place in range(1, AT_ONCE + 1)]
                beta = torch.tensor([sign * size for size in sizes for sign in (1, -1)])
                response = respond(subject, task.train, of, beta)
                for place, size in enumerate(sizes):
                    pair = slice(2 * place, 2 * place + 2)
                    ld, kl = response.ld[:, pair].T, response.kl[:, pair].T
                    affordable = -float(faithfulness(*kl)) <= price
                    if not affordable:
                        break
                    last, signs = size, (ld, ld.flip(0)) if both_signs else (ld,)
                    best = max(best, *(float(effectiveness(*one, 0.0)) for one in signs))
        yield best
