"""Whether a method says the same under another seed: Kendall's tau between its seeds."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from bench.agreement.table import kendall
from reports.load import Results, of_pairs, prompts_seed
from reports.outcomes import prompts_of
from reports.scores import scored

FITTED_ON = "train"


@of_pairs
def table(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a method and pair of its seeds; controls left out.

    Seeds are paired that saw the same train prompts; another draw of prompts is no other seed. tau
    is NaN where it is undefined (constant scores). Raises UserInputError for unknown names.
    """
    for one in scored(results, model, task):
        cells = zip((cell.record for cell in one.cells), one.values, strict=True)
        for (first, a), (second, b) in combinations(cells, 2):
            same = prompts_of(first, FITTED_ON) == prompts_of(second, FITTED_ON)
            if first.seed != second.seed and same:
                yield {
                    **{"method": one.label, "prompts_seed": prompts_seed(first)},
                    **{"seed_a": first.seed, "seed_b": second.seed},
                    **{"tau": kendall(a, b), "n_points": len(a)},
                }
