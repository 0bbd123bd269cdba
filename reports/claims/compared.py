"""Claims that compare untrained methods with ActivScalar on one prompt or on heads (Fig. 7, 9)."""

import numpy as np

from bench.store.records import CellRecord
from reports.claims.claim import Measured, PaperResults
from reports.figures import heads
from reports.load import Results, finished, judged, plain_name, refit_of
from reports.statistics import SHARE
from reports.text import number
from tasks.errors import UserInputError

DRAWS = "draws of prompts"


def flips(source: PaperResults, method: str, *, at_price: bool = False) -> Measured:
    """The share of (prompt, sign) of train and test that flip at beta*; 0.5: no steering."""
    found, cells = [], []
    for record in source.finished("fig9", method):
        rows = judged(record, "train", "test", at_price=at_price)
        flipped = [(row.flips_plus + row.flips_minus) / 2 for row in rows]
        found.append(float(np.average(flipped, weights=[row.n_prompts for row in rows])))
        cells.append(record.id)
    return Measured.of(found, DRAWS, cells, possible=SHARE)


def scale_of_scores(source: PaperResults) -> Measured:
    """log10 of DLA's largest |score| over the largest of all others, draw by draw."""
    results = source.results("fig9")

    def largest(record: CellRecord) -> float:
        scores = results.small_tensors(record.id)["scores"]
        return float(np.nanmax(np.abs(scores)))

    ratios: list[float] = []
    cells: list[str] = []
    for records in _refits(results):
        own = finished(records, "dla")
        others = [record for record in records if plain_name(record.method) != "dla"]
        if own and others:
            ratios.append(np.log10(largest(own[0]) / max(map(largest, others))))
            cells += [record.id for record in (*own, *others)]
    if not ratios:
        raise UserInputError("no draw of fig9 has finished cells of dla and of another")
    typical = number(10 ** float(np.mean(ratios)), 1)
    return Measured.of(ratios, DRAWS, cells, f"{typical} times, as a geometric mean")


def common_heads(source: PaperResults) -> Measured:
    """The share of their ten largest heads that DLA and ActivScalar have in common, draw by draw.

    The note says in how many draws that is more than 95 % of random choices have, and under which
    penalty the heads were trained.
    """
    results = source.results("fig7")
    shared: list[float] = []
    notes: list[str] = []
    cells: list[str] = []
    for pair in results.pairs():
        found = heads.data(results, model=pair[0], task=pair[1])
        found = found[(found["method_a"] == "dla") & (found["method_b"] == "activ_scalar")]
        if found.empty:
            continue
        shared += list((found["overlap"] / found["k"]).astype(float))
        beyond = int((found["overlap"] > found["chance_high"]).sum())
        cells += [*found["cell_a"], *found["cell_b"]]
        weights = sorted(
            {
                f"{record.settings['objective']['lambda_m']:g}"
                for record in results.of(*pair)
                if record.id in cells and record.trained and "objective" in record.settings
            }
        )
        notes.append(
            f"beyond chance in {beyond} of {len(found)} draws; tau over all heads "
            f"{number(found['tau'].mean(), 2)}; λ_M = {', '.join(weights)}"
        )
    if not shared:
        raise UserInputError("no draw of fig7 has head scores of both dla and activ_scalar")
    return Measured.of(shared, DRAWS, cells, "; ".join(notes), SHARE)


def faster(source: PaperResults) -> Measured:
    """log10 of the seconds of ActivPatch's fit over those of ActivScalar's, draw by draw."""

    def spent(record: CellRecord) -> tuple[float, float]:
        """Seconds and rows."""
        passes = record.provenance["passes"]
        rows = passes["fit_forward_rows"] + passes["fit_backward_rows"]
        return record.provenance["seconds"]["fit"], rows

    logs, cells = [], []
    for records in _refits(source.results("fig9")):
        one, other = (finished(records, name)[-1:] for name in ("activ_patch", "activ_scalar"))
        if one and other:
            logs.append(np.log10(np.divide(spent(one[0]), spent(other[0]))))
            cells += [one[0].id, other[0].id]
    if not logs:
        raise UserInputError(
            "no draw of fig9 has finished cells of both activ_patch and activ_scalar"
        )
    ratios, work = np.transpose(logs).tolist()
    note = (
        f"{number(10 ** float(np.mean(ratios)), 1)} times as long here, where patching recomputes "
        f"only what a patch can reach; {number(10 ** float(np.mean(work)), 1)} times as many rows"
    )
    return Measured.of(ratios, DRAWS, cells, note)


def _refits(results: Results) -> list[list[CellRecord]]:
    """Finished cells that saw the same prompts of one model and task."""
    groups: dict[tuple[str, str, str], list[CellRecord]] = {}
    for record in results.records:
        if record.status == "done":
            key = (record.model, record.task, refit_of(record))
            groups.setdefault(key, []).append(record)
    return list(groups.values())
