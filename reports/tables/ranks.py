"""Mean ranks of methods over models and tasks, and how far apart they have to be."""

from collections.abc import Mapping

import numpy as np
from pandas import DataFrame

from reports.load import Results
from reports.outcomes import Outcome, outcomes
from reports.statistics import critical_difference, friedman, mean_ranks

COLUMNS = (
    *("method", "control", "mean_rank", "n_blocks", "critical_difference", "friedman_p"),
    "left_out",
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method, best mean rank of E_0 (test split) first, with the columns of COLUMNS.

    A block is one model and task. Methods whose mean ranks differ by less than
    `critical_difference` (Nemenyi's test at 5 %; NaN with one block) cannot be told apart.
    A method without a result in some block, or with an undefined one, has no rank, and `left_out`
    names those blocks.
    """
    pairs = results.pairs_of(model, task)
    blocks = [outcomes(results, *pair) for pair in pairs]
    blocks_of = {label: one.control for block in blocks for label, one in block.items()}
    complete = [label for label in blocks_of if all(_known(label, block) for block in blocks)]
    scores = np.array([[block[label].mean for label in complete] for block in blocks])
    ranks = mean_ranks(scores) if scores.size else np.array([])
    shared = {
        "n_blocks": len(blocks),
        "critical_difference": critical_difference(len(complete), len(blocks)),
        "friedman_p": friedman(scores) if scores.size else float("nan"),
    }
    rows = [
        {"method": label, "control": blocks_of[label], "mean_rank": float(rank), **shared}
        | {"left_out": ""}
        for rank, label in sorted(zip(ranks, complete, strict=True))
    ]
    for label in sorted(set(blocks_of).difference(complete)):
        row = {"method": label, "control": blocks_of[label], "mean_rank": float("nan"), **shared}
        gaps = [
            f"{'undefined' if label in block else 'no'} result for {' · '.join(pair)}"
            for pair, block in zip(pairs, blocks, strict=True)
            if not _known(label, block)
        ]
        rows.append(row | {"left_out": "; ".join(gaps)})
    return DataFrame(rows, columns=list(COLUMNS))


def _known(label: str, block: Mapping[str, Outcome]) -> bool:
    return label in block and bool(np.isfinite(block[label].mean))
