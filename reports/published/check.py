"""Whether a file of published results says of itself what it holds."""

from collections.abc import Iterator, Sequence

import numpy as np

from reports.published.record import Published, PublishedCell


def problems(published: Published) -> list[str]:
    """Return what is wrong in a file whose fields are right, a sentence each; nothing if all is.

    Every mean is computed again from the numbers of the prompts, and every place in `parts` and
    `prompts` is looked up.
    """
    found = []
    for place, one in enumerate(published.prompts):
        where = f"prompts {place}"
        for name in ("ld", "p_answer", "p_foil"):
            if len(getattr(one, name)) != len(one.prompts):
                found.append(f"{where}: {name} has not one number a prompt")
        found += _mean(
            published.digits,
            f"{where}: E_0_unsteered",
            one.E_0_unsteered,
            [-abs(x) for x in one.ld],
        )
    seen = set()
    for cell in published.cells:
        found += _of_cell(published, cell)
        if cell.id in seen:
            found.append(f"{cell.id} is there twice")
        seen.add(cell.id)
    return found


def _of_cell(published: Published, cell: PublishedCell) -> Iterator[str]:
    places = {*cell.settings.values(), *cell.provenance.values()}
    if not places <= set(range(len(published.parts))):
        yield f"{cell.id}: a place in parts that there is not"
    if not 0 <= cell.prompts < len(published.prompts):
        yield f"{cell.id}: prompts {cell.prompts} are not there"
        return
    size = len(published.prompts[cell.prompts].prompts)
    for row in cell.measured:
        points = "" if row.k is None else f", k = {row.k}"
        at = "" if row.nats is None else f", {row.nats:.3g} nats"
        where = f"{cell.id}, {row.of}{points}{at}{row.support and f', {row.support}'}"
        if (len(row.e_0), len(row.price)) != (size, size):
            yield f"{where}: not one number a prompt"
            continue
        yield from _mean(published.digits, f"{where}: E_0", row.E_0, row.e_0)
        yield from _mean(published.digits, f"{where}: paid", row.paid, row.price)


def _mean(digits: int, what: str, stated: float, values: Sequence[float]) -> Iterator[str]:
    mean = float(np.mean(values)) if len(values) else float("nan")
    size = float(np.max(np.abs(values), initial=0.01))
    same = stated == mean or abs(stated - mean) <= 10 ** (1 - digits) * size
    if not same and not (np.isnan(stated) and np.isnan(mean)):
        yield f"{what} is {stated:.6g}, the mean over prompts {mean:.6g}"
