"""The tasks of a run: examples, sizes, lengths, and how the unsteered model does on them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.records import CellRecord
from bench.results import Tensors
from reports.load import Results

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = (
    *("model", "task", "split", "n_prompts", "tokens", "E_0_unsteered", "LD", "LD_error"),
    *("answer_ahead", "mass", "example", "answer", "foil", "dropped"),
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> "DataFrame":
    """Return a row a model, task and split, from one finished cell each.

    Columns: `tokens` (length of the prompts with the BOS, "12" or "14-20"), E_0_unsteered, LD (mean
    logit difference) with its standard error, answer_ahead (share of prompts with LD > 0), mass
    (mean P(answer) + P(foil)), the first prompt as an example, and how many pairs the tokenizer
    made drop.
    """
    from pandas import DataFrame

    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    for record in results.matching(model, task):
        if record.status != "done" or (record.model, record.task) in seen:
            continue
        tensors = results.small_tensors(record.id)
        seen.add((record.model, record.task))
        rows += [
            _row(record, tensors, split)
            for split in ("train", "test", "shifted")
            if record.prompts.get(split)
        ]
    return DataFrame(rows, columns=list(COLUMNS))


def _row(record: CellRecord, tensors: Tensors, split: str) -> dict[str, Any]:
    prompts = record.prompts[split]
    unsteered = int(np.flatnonzero(tensors[f"split.{split}.beta"] == 0)[0])

    def column(name: str) -> Any:
        return tensors[f"split.{split}.{name}"][:, unsteered].astype(float)

    ld, mass = column("ld"), column("p_answer") + column("p_foil")
    lengths = sorted({sum(bool(token) for token in prompt.tokens) for prompt in prompts})
    return {
        "model": record.model,
        "task": record.task,
        "split": split,
        "n_prompts": len(prompts),
        "tokens": str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]}-{lengths[-1]}",
        "E_0_unsteered": -float(np.abs(ld).mean()),
        "LD": float(ld.mean()),
        "LD_error": float(ld.std(ddof=1) / len(ld) ** 0.5) if len(ld) > 1 else float("nan"),
        "answer_ahead": float((ld > 0).mean()),
        "mass": float(mass.mean()),
        "example": prompts[0].clean,
        "answer": prompts[0].answer,
        "foil": prompts[0].foil,
        "dropped": sum(record.dropped.values()),
    }
