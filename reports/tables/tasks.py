"""The tasks of a run: examples, sizes, lengths, and how the unsteered model does on them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.store.records import CellRecord, PromptRecord
from reports.load import Results, of_pairs
from reports.outcomes import unsteered_values

Key = tuple[str, str, str]


@of_pairs
def table(results: Results, model: str, task: str) -> Iterator[dict[str, Any]]:
    """Return a row a model, task and split, over all draws of prompts of its finished cells.

    A prompt counts once in n_prompts and LD_error, and in means as often as draws have it.

    Columns: `tokens` (length of the prompts with the BOS, "12" or "14-20"), E_0_unsteered, LD (mean
    logit difference) with its standard error, answer_ahead (share of prompts with LD > 0), mass
    (mean P(answer) + P(foil)), the first prompt as an example, and how many pairs the tokenizer
    made drop.
    """
    done = [record for record in results.of(model, task) if record.status == "done"]
    for split in ("train", "test", "shifted"):
        draws: dict[tuple[Key, ...], CellRecord] = {}
        for record in done:
            if prompts := record.prompts.get(split):
                draws.setdefault(tuple(map(_key, prompts)), record)
        if draws:
            yield _row(results, [*draws.values()], split)


def _key(prompt: PromptRecord) -> Key:
    return prompt.clean, prompt.answer, prompt.foil


def _row(results: Results, draws: list[CellRecord], split: str) -> dict[str, Any]:
    record = draws[0]
    prompts = [prompt for draw in draws for prompt in draw.prompts[split]]
    found = [one for draw in draws if (one := unsteered_values(results, draw, split))]
    ld, answer, foil = (np.concatenate([one[name] for one in found]) for name in found[0])
    mass = answer + foil
    once = np.array(list(dict(zip(map(_key, prompts), ld, strict=True)).values()))
    lengths = sorted({sum(token >= 0 for token in prompt.token_ids) for prompt in prompts})
    return {
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
