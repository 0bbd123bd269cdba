"""The tasks of a run: examples, sizes, lengths, and how the unsteered model does on them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from pandas import DataFrame

from bench.store.cells import Tensors
from bench.store.records import CellRecord, PromptRecord
from reports.load import Results

Key = tuple[str, str, str]
COLUMNS = (
    *("model", "task", "split", "n_prompts", "tokens", "E_0_unsteered", "LD", "LD_error"),
    *("answer_ahead", "mass", "example", "answer", "foil", "dropped"),
)


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a model, task and split, over all draws of prompts of its finished cells.

    A prompt counts once in n_prompts and LD_error, and in means as often as draws have it.

    Columns: `tokens` (length of the prompts with the BOS, "12" or "14-20"), E_0_unsteered, LD (mean
    logit difference) with its standard error, answer_ahead (share of prompts with LD > 0), mass
    (mean P(answer) + P(foil)), the first prompt as an example, and how many pairs the tokenizer
    made drop.
    """
    rows: list[dict[str, Any]] = []
    done = [record for record in results.of(model, task) if record.status == "done"]
    for pair in dict.fromkeys((record.model, record.task) for record in done):
        own = [record for record in done if (record.model, record.task) == pair]
        for split in ("train", "test", "shifted"):
            if draws := draws_of(own, split):
                rows.append(_row(results, draws, split))
    return DataFrame(rows, columns=list(COLUMNS))


def draws_of(records: Iterable[CellRecord], split: str) -> list[CellRecord]:
    """Return a cell for every draw of the split's prompts."""
    found: dict[tuple[Key, ...], CellRecord] = {}
    for record in records:
        if prompts := record.prompts.get(split):
            found.setdefault(tuple(map(_key, prompts)), record)
    return list(found.values())


def _key(prompt: PromptRecord) -> Key:
    return prompt.clean, prompt.answer, prompt.foil


def _row(results: Results, draws: list[CellRecord], split: str) -> dict[str, Any]:
    record = draws[0]
    prompts = [prompt for draw in draws for prompt in draw.prompts[split]]
    columns = [_unsteered(results.small_tensors(draw.id), split) for draw in draws]
    ld, mass = np.concatenate(columns, axis=1)
    once = np.array(list(dict(zip(map(_key, prompts), ld, strict=True)).values()))
    lengths = sorted({sum(token >= 0 for token in prompt.token_ids) for prompt in prompts})
    return {
        "model": record.model,
        "task": record.task,
        "split": split,
        "n_prompts": len(once),
        "tokens": str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]}-{lengths[-1]}",
        "E_0_unsteered": -float(np.abs(ld).mean()),
        "LD": float(ld.mean()),
        "LD_error": float(once.std(ddof=1) / len(once) ** 0.5) if len(once) > 1 else float("nan"),
        "answer_ahead": float((ld > 0).mean()),
        "mass": float(mass.mean()),
        "example": prompts[0].clean,
        "answer": prompts[0].answer,
        "foil": prompts[0].foil,
        "dropped": sum(record.dropped.values()),
    }


def _unsteered(tensors: Tensors, split: str) -> Any:
    """(2, prompt): logit difference and P(answer) + P(foil)."""
    at = int(np.flatnonzero(tensors[f"split.{split}.beta"] == 0)[0])
    names = ("ld", "p_answer", "p_foil")
    ld, answer, foil = (tensors[f"split.{split}.{name}"][:, at].astype(float) for name in names)
    return np.stack([ld, answer + foil])
