"""Whether a method says the same under another seed: Kendall's tau between its seeds."""

from pandas import DataFrame

from reports.load import Results
from reports.scores import scored, seed_pairs

COLUMNS = ("model", "task", "method", "prompts_seed", "seed_a", "seed_b", "tau", "n_points")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method and pair of its seeds, with the columns of COLUMNS; controls left out.

    Seeds are paired that saw the same train prompts; another draw of prompts is no other seed. tau
    is NaN where it is undefined (constant scores). Raises UserInputError for unknown names.
    """
    rows = [
        {"model": pair[0], "task": pair[1], **row}
        for pair in dict.fromkeys((one.model, one.task) for one in results.matching(model, task))
        for one in scored(results, *pair)
        for row in seed_pairs(one)
    ]
    return DataFrame(rows, columns=list(COLUMNS))
