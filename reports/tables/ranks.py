"""Mean ranks of methods over models and tasks, and how far apart they have to be."""

from typing import TYPE_CHECKING

import numpy as np

from reports.load import Results
from reports.outcomes import outcomes
from reports.statistics import critical_difference, friedman, mean_ranks

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    *("method", "control", "mean_rank", "n_blocks", "critical_difference", "friedman_p"),
    "left_out",
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a method, best mean rank of E_0 (test split) first, with the columns of COLUMNS.

    A block is one model and task. Methods whose mean ranks differ by less than
    `critical_difference` (Nemenyi's test at 5 %; NaN with one block) cannot be told apart.
    A method without a result in some block has no rank, and `left_out` names those blocks.
    """
    from pandas import DataFrame

    pairs = list(dict.fromkeys((one.model, one.task) for one in results.matching(model, task)))
    blocks = [outcomes(results, *pair) for pair in pairs]
    blocks_of = {label: one.control for block in blocks for label, one in block.items()}
    complete = [label for label in blocks_of if all(label in block for block in blocks)]
    scores = np.array([[block[label].mean for label in complete] for block in blocks])
    ranks = mean_ranks(scores) if scores.size else np.array([])
    shared = {
        "n_blocks": len(blocks),
        "critical_difference": critical_difference(len(complete), len(blocks)),
        "friedman_p": friedman(scores) if scores.size else float("nan"),
    }
    rows = [
        {"method": label, "control": blocks_of[label], "mean_rank": float(rank), **shared}
        for rank, label in sorted(zip(ranks, complete, strict=True))
    ]
    for label in sorted(set(blocks_of).difference(complete)):
        gaps = [" · ".join(p) for p, block in zip(pairs, blocks, strict=True) if label not in block]
        rows.append(
            {"method": label, "control": blocks_of[label], "mean_rank": float("nan"), **shared}
            | {"left_out": "no result for " + "; ".join(gaps)}
        )
    return DataFrame(rows, columns=list(COLUMNS))
