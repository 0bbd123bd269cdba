"""Mean ranks of methods over models and tasks, and how far apart they have to be."""

from collections.abc import Mapping

import numpy as np
from pandas import DataFrame

from reports.load import Results
from reports.outcomes import Outcome, outcomes
from reports.statistics import critical_difference, friedman, mean_ranks


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method, best mean rank of E_0 (test split) first.

    A block is one model and task. Methods whose mean ranks differ by less than
    `critical_difference` (Nemenyi's test at 5 %; NaN with one block) cannot be told apart.
    A method without a result in some block, or with an undefined one, has no rank, and `left_out`
    names those blocks.
    """
    pairs = results.pairs_of(model, task)
    blocks = [outcomes(results, *pair) for pair in pairs]
    control = {label: one.control for block in blocks for label, one in block.items()}
    complete = [label for label in control if all(_known(label, block) for block in blocks)]
    scores = np.array([[block[label].mean for label in complete] for block in blocks])
    ranks = mean_ranks(scores) if scores.size else np.array([])
    ranked = dict(sorted(zip(complete, ranks, strict=True), key=lambda one: (one[1], one[0])))
    shared = {
        "n_blocks": len(blocks),
        "critical_difference": critical_difference(len(complete), len(blocks)),
        "friedman_p": friedman(scores) if scores.size else float("nan"),
    }
    rows = []
    for label in (*ranked, *sorted(set(control).difference(ranked))):
        gaps = [
            f"{'undefined' if label in block else 'no'} result for {' · '.join(pair)}"
            for pair, block in zip(pairs, blocks, strict=True)
            if not _known(label, block)
        ]
        rank = float(ranked.get(label, np.nan))
        row = {"method": label, "control": control[label], "mean_rank": rank, **shared}
        rows.append(row | {"left_out": "; ".join(gaps)})
    return DataFrame(rows)


def _known(label: str, block: Mapping[str, Outcome]) -> bool:
    return label in block and bool(np.isfinite(block[label].mean))
