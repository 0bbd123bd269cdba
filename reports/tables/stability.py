"""Whether a method says the same under another seed: Kendall's tau between its seeds."""

from itertools import combinations

from pandas import DataFrame

from bench.agreement.table import kendall
from reports.load import Results, prompts_seed
from reports.outcomes import prompts_of
from reports.scores import scored

FITTED_ON = "train"
COLUMNS = ("model", "task", "method", "prompts_seed", "seed_a", "seed_b", "tau", "n_points")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and pair of its seeds, with the columns of COLUMNS; controls left out.

    Seeds are paired that saw the same train prompts; another draw of prompts is no other seed. tau
    is NaN where it is undefined (constant scores). Raises UserInputError for unknown names.
    """
    rows = []
    for pair in results.pairs_of(model, task):
        for one in scored(results, *pair):
            for (first, a), (second, b) in combinations(
                zip(one.records, one.values, strict=True), 2
            ):
                same = prompts_of(first, FITTED_ON) == prompts_of(second, FITTED_ON)
                if first.seed != second.seed and same:
                    seeds = (prompts_seed(first), first.seed, second.seed)
                    rows.append((*pair, one.label, *seeds, kendall(a, b), len(a)))
    return DataFrame(rows, columns=list(COLUMNS))
