"""Does finding go with steering? AUROC for a known circuit, or CPR, against what scores steer."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, concat

from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import Panel, sheet
from reports.load import Results, of_part
from reports.tables.finding import FOUND, MEASURES, correlations, found_by, headline
from reports.text import interval, number
from tasks.errors import UserInputError

HEIGHT = 2.7
PANEL = Panel(3.2, 2.2)
AXES = {
    "steering": "E₀ made up for at one price",
    "localisation": "… by few points",
    "retrained": "… by few points, retrained",
}
NAMES = {"auroc": "AUROC for the circuit", "CPR": "CPR of the scores' nodes"}
CHANCE = {"auroc": 0.5}
NEEDED = (
    "finding needs models whose circuit is known (planted-lookup ...) and the task planted, or "
    "`circuit: {}` in the matrix"
)


@of_part
def data(results: Results) -> DataFrame:
    """Return a row a measure of finding and method: means over models and tasks of both.

    `found` is what the row's `finding` (auroc, CPR) measures; `rho_<measure>` with `_low` and
    `_high` are as `reports.tables.finding.steering` has them. Raises UserInputError where nothing
    was measured of finding, or nothing of steering.
    """
    frames = [_means(results, found) for found in FOUND]
    known = [frame for frame in frames if not frame.empty]
    if not known:
        raise UserInputError(NEEDED)
    frame = concat(known, ignore_index=True)
    if not frame[[*MEASURES]].notna().any(axis=None):
        raise UserInputError("finding needs a measure of steering: prices, localisation, retrained")
    return frame


def _means(part: Results, found: str) -> DataFrame:
    frame = found_by(part, found).rename(columns={found: "found"})
    keys, values = ["method", "control", "ranked"], ["found", *MEASURES]
    means = frame.groupby(keys, sort=False)[values].mean().reset_index()
    means.insert(0, "finding", found)
    for measure, (rho, _) in correlations(part, found).items():
        ends = {f"rho_{measure}_low": rho.low, f"rho_{measure}_high": rho.high}
        means = means.assign(**{f"rho_{measure}": rho.mean, **ends})
    return means.sort_values("found", ascending=False, ignore_index=True)


@of_part
@style.drawing
def figure(results: Results, width: float | None = None) -> Figure:
    """Return a marker a method, a panel a measure of finding and of steering, means over tasks.

    Above each panel stands the rank correlation over methods within a model, task and draw of
    prompts, with its 95 % interval over these; controls are drawn and not part of it, nor is
    ActivPatch where the AUROC is of circuits that it checked. Errors as `data`.
    """
    frame = data(results)
    panels = [
        (found, measure)
        for found, of_found in frame.groupby("finding", sort=False)
        for measure in MEASURES
        if of_found[measure].notna().any()
    ]
    outside = "; ActivPatch stands outside" if "auroc" in set(frame["finding"]) else ""
    lines = [headline(results), f"over methods within a model and task{outside}"]
    title, wanted = "does finding go with steering?", [PANEL] * len(panels)
    drawn = sheet(title, [*filter(None, lines)], wanted, HEIGHT, width)
    for axes, (found, measure) in zip(drawn.axes, panels, strict=True):
        _draw(axes, results, frame[frame["finding"] == found], str(found), measure)
    drawn.legend()
    return drawn.canvas


def _draw(axes: Axes, results: Results, frame: DataFrame, found: str, measure: str) -> None:
    for row in frame.to_dict("records"):
        look = marker_of(look_of(results, row["method"]))
        axes.plot([row["found"]], [row[measure]], **look, linestyle="none", label=row["method"])
    if found in CHANCE:
        axes.axvline(CHANCE[found], color=style.FAINT, linewidth=0.8, zorder=0)
    axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    if f"rho_{measure}" in frame and frame[f"rho_{measure}"].notna().any():
        rho, low, high = (frame[f"rho_{measure}{end}"].iloc[0] for end in ("", "_low", "_high"))
        title = f"rank correlation {number(rho, 2)} {interval(low, high, 2)}"
        axes.set_title(title, loc="left", fontsize=style.SMALL, pad=3)
    axes.set_xlabel(NAMES[found], labelpad=2, fontsize=style.SMALL)
    axes.set_ylabel(AXES[measure], labelpad=2, fontsize=style.SMALL)
    axes.tick_params(labelsize=style.TINY)
