"""How methods find known circuits, and whether that goes with steering."""

from pandas import DataFrame

from reports.finding import FOUND, MEASURED, MEASURES, correlations, finding, headline
from reports.load import Results
from reports.statistics import t_interval

COLUMNS = (
    *("family", "task", "group", "method", "ranked", "n_models", "auroc", "low", "high"),
    *MEASURED[1:],
    *MEASURES,
)
CORRELATED = ("finding", "measure", "n_blocks", "n_methods", "rho", "low", "high", "headline")


def table(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a family, counterfactual and method, largest AUROC first (COLUMNS).

    All is a mean over models (and draws of prompts), with Student's 95 % interval of the AUROC.
    `wrong_...` counts points among the strongest that are not causal, `missed_...` causal points
    that are not among them, by kind. `ranked` is no for controls and for ActivPatch. Raises
    UserInputError for unknown names.
    """
    results.check(model=model, task=task)
    frame = finding(results)
    for name, wanted in (("model", model), ("task", task)):
        frame = frame if wanted is None else frame[frame[name] == wanted]
    rows = []
    keys = ["family", "task", "group", "method"]
    for key, block in frame.groupby(keys, sort=False):
        auroc = t_interval(block["auroc"], (0, 1))
        rows.append(
            {
                **dict(zip(keys, key, strict=True)),
                **{"ranked": bool(block["ranked"].all()), "n_models": block["model"].nunique()},
                **{"auroc": auroc.mean, "low": auroc.low, "high": auroc.high},
                **block[[*MEASURED[1:], *MEASURES]].mean().to_dict(),
            }
        )
    rows.sort(key=lambda row: (row["family"], row["task"], row["group"], -row["auroc"]))
    return DataFrame(rows, columns=list(COLUMNS))


def steering(results: Results, *, model: str | None = None, task: str | None = None) -> DataFrame:
    """Return a row a measure of finding and of steering: their rank correlation over methods.

    Finding is the AUROC for circuits that are known, or CPR. `rho` is the mean over models, tasks
    and draws of prompts of Spearman's, with Student's 95 % interval over them. `headline` says
    whether models whose circuit is known can tell methods apart at all. Raises UserInputError for
    unknown names.
    """
    results.check(model=model, task=task)
    part = results.part([model] if model else [], [task] if task else [], [])
    said = headline(part)
    rows = [
        {
            **{"finding": found, "measure": measure, "n_blocks": blocks, "n_methods": methods},
            **{"rho": rho.mean, "low": rho.low, "high": rho.high},
            "headline": said if found == "auroc" else "",
        }
        for found in FOUND
        for measure, (rho, blocks, methods) in correlations(part, found).items()
    ]
    return DataFrame(rows, columns=list(CORRELATED))
