"""Rows as the benchmark MIB writes them, turned into a clean and a corrupted prompt.

A row has `prompt`, `choices` with `answerKey` (or `label`, the answer itself), and counterfactuals:
columns whose names end in `_counterfactual`, each with a prompt, and choices or a label, of its
own. Other columns (`metadata`, `template`, ...) say nothing that is needed.

Source: 'MIB: A Mechanistic Interpretability Benchmark' (Mueller et al. 2025).
"""

from collections.abc import Mapping, Sequence

from tasks.errors import nearest, shown
from tasks.records import OPTIONAL

ENDING = "_counterfactual"


def is_benchmark_row(record: Mapping[str, object]) -> bool:
    """Return whether a row is one of the benchmark's, and none with clean and corrupted prompt."""
    return "prompt" in record and "clean" not in record


def plain_row(record: Mapping[str, object], counterfactual: str | None) -> dict[str, object]:
    """Return clean, corrupted, answer and foil of a row, and its split and entity, if it has them.

    The foil is the other choice where there are two, else what the counterfactual prompt is
    answered with. A word gets the space in front of it that belongs to it.

    Args:
        record: the row.
        counterfactual: the name of a column, with or without its ending; None: the only one.

    Raises:
        ValueError: for what cannot be one; says why.
    """
    name = _counterfactual(record, counterfactual)
    other = record[name]
    if not isinstance(other, Mapping):
        raise ValueError(f"has {shown(other)} as {name}, not an object with a prompt")
    choices, answer = _answer(record, "the row")
    if len(choices) == 2:
        (foil,) = [choice for choice in choices if choice != answer] or [answer]
    else:
        foil = _answer(other, name)[1]
    clean, corrupted = _prompt(record, "the row"), _prompt(other, name)
    if all(text.strip()[:1].lower() != text.strip()[:1].upper() for text in (answer, foil)):
        clean, corrupted = clean.removesuffix(" "), corrupted.removesuffix(" ")
        answer, foil = f" {answer.strip()}", f" {foil.strip()}"
    own = {name: record[name] for name in OPTIONAL if record.get(name) is not None}
    return {"clean": clean, "corrupted": corrupted, "answer": answer, "foil": foil, **own}


def _counterfactual(record: Mapping[str, object], wanted: str | None) -> str:
    """The column of the counterfactual."""
    known = [name for name, value in record.items() if name.endswith(ENDING) and value is not None]
    if not known:
        raise ValueError(f'has no counterfactual: a column whose name ends in "{ENDING}"')
    if wanted is None:
        if len(known) > 1:
            raise ValueError(
                f"has several counterfactuals: {', '.join(known)[:300]}; the setting "
                '"counterfactual" says which is meant'
            )
        return known[0]
    name = wanted if wanted.endswith(ENDING) else f"{wanted}{ENDING}"
    if name not in known:
        raise ValueError(f'has no "{name[:80]}".{nearest(name, known)}')
    return name


def _answer(record: Mapping[str, object], where: str) -> tuple[Sequence[str], str]:
    """The choices, if there are any, and the answer."""
    if "choices" not in record:
        if record.get("label") is None:
            raise ValueError(f"has neither choices nor a label in {where}")
        return (), str(record["label"])[:1000]
    choices, key = record["choices"], record.get("answerKey")
    if isinstance(choices, Mapping):  # with a label for every text, and the label is asked
        choices = choices.get("label")
    if not isinstance(choices, list) or not all(isinstance(one, str) for one in choices):
        raise ValueError(f"has {shown(choices)} as choices of {where}, which are no list of texts")
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(choices):
        raise ValueError(f"has {shown(key)} as answerKey of {where}, of {len(choices)} choices")
    return choices, choices[key]


def _prompt(record: Mapping[str, object], where: str) -> str:
    prompt = record.get("prompt")
    if not isinstance(prompt, str):
        raise ValueError(f"has {shown(prompt)} as prompt of {where}, which is no text")
    return prompt
