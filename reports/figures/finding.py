"""Does finding go with steering? AUROC for a known circuit against what scores steer."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import Panel, sheet
from reports.finding import GROUP, MEASURES, correlations, finding, headline
from reports.load import Results
from reports.text import interval, number
from tasks.errors import UserInputError

HEIGHT = 2.7
PANEL = Panel(3.2, 2.2)
AXES = {
    "steering": "E₀ made up for at one price",
    "localisation": "… by few points",
    "retrained": "… by few points, retrained",
}
SHOWN = ["auroc", *MEASURES]


def data(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a method: AUROC and measures of steering, means over models and tasks.

    `rho_<measure>` with `_low` and `_high` are as `reports.tables.finding.steering` has them.
    Raises UserInputError where no model's circuit is known, or nothing was measured of steering.
    """
    results.check(model=model, task=task)
    part = results.part([model] if model else [], [task] if task else [], [])
    frame = finding(part)
    frame = frame[frame["group"] == GROUP]
    if frame.empty:
        raise UserInputError(
            "finding needs models whose circuit is known (planted-lookup ...) and the task planted"
        )
    if not frame[[*MEASURES]].notna().any(axis=None):
        raise UserInputError("finding needs a measure of steering: prices, localisation, retrained")
    means = frame.groupby(["method", "control", "ranked"], sort=False)[SHOWN].mean().reset_index()
    for measure, (rho, _, _) in correlations(part).items():
        ends = {f"rho_{measure}_low": rho.low, f"rho_{measure}_high": rho.high}
        means = means.assign(**{f"rho_{measure}": rho.mean, **ends})
    return means.sort_values("auroc", ascending=False, ignore_index=True)


@style.drawing
def figure(
    results: Results,
    *,
    model: str | None = None,
    task: str | None = None,
    width: float | None = None,
) -> Figure:
    """Return a marker a method, a panel a measure of steering, means over models and tasks.

    Above each panel stands the rank correlation over methods within a model and task, with its 95 %
    interval over these; controls and ActivPatch are drawn and not part of it. Errors as `data`.
    """
    frame = data(results, model=model, task=task)
    part = results.part([model] if model else [], [task] if task else [], [])
    known = [measure for measure in MEASURES if frame[measure].notna().any()]
    lines = [headline(part), "over methods within a model and task; ActivPatch stands outside"]
    drawn = sheet(
        "does finding go with steering?",
        [*filter(None, lines)],
        [PANEL] * len(known),
        HEIGHT,
        width,
    )
    for axes, measure in zip(drawn.axes, known, strict=True):
        _draw(axes, results, frame, measure)
    drawn.legend()
    return drawn.canvas


def _draw(axes: Axes, results: Results, frame: DataFrame, measure: str) -> None:
    for row in frame.to_dict("records"):
        look = marker_of(look_of(results, row["method"]))
        axes.plot([row["auroc"]], [row[measure]], **look, linestyle="none", label=row["method"])
    axes.axvline(0.5, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.axhline(0, color=style.FAINT, linewidth=0.8, zorder=0)
    if f"rho_{measure}" in frame:
        rho, *ends = (frame[f"rho_{measure}{end}"].iloc[0] for end in ("", "_low", "_high"))
        title = f"rank correlation {number(rho, 2)} {interval(*ends)}"
        axes.set_title(title, loc="left", fontsize=style.SMALL, pad=3)
    axes.set_xlabel("AUROC for the circuit", labelpad=2, fontsize=style.SMALL)
    axes.set_ylabel(AXES[measure], labelpad=2, fontsize=style.SMALL)
    axes.tick_params(labelsize=style.TINY)
