"""Circuit faithfulness f over the share of nodes: of the highest nodes alone, and without them."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from bench.store.circuit_record import Order
from reports import style
from reports.figures.curves import draw_curve, has_bands, say_bands
from reports.figures.panels import Panel, legend, sheet
from reports.load import Results, of_pair
from reports.tables.circuit import Circuits, circuits
from reports.text import number
from tasks.errors import UserInputError

KINDS = ("with these nodes alone", "without these nodes")
LIMITS = (-0.5, 1.5)
"""Of the axis of f, which is not clipped itself."""


@of_pair
def data(results: Results, model: str, task: str, order: Order = "signed") -> DataFrame:
    """Return method, control, order, kind, share, k, and f with its 95 % over prompts, a row each.

    `order` is `signed` (the largest score first) or `absolute` (the largest |score|). Raises
    UserInputError where no cell stores circuits: they are measured on request.
    """
    rows: list[dict[str, Any]] = []
    for one in _known(results, model, task, order):
        for kind, name in enumerate(KINDS):
            low, high = one.interval_of_f(kind)
            for place, share in enumerate(one.first.share):
                rows.append(
                    {
                        **{"method": one.label, "control": one.control, "order": order},
                        **{"kind": name, "share": share, "k": one.first.k[place]},
                        **{"f": one.mean_f(kind)[place], "low": low[place], "high": high[place]},
                    }
                )
    return DataFrame(rows)


def _known(results: Results, model: str, task: str, order: Order) -> list[Circuits]:
    found = circuits(results, model, task, order)
    if not found:
        raise UserInputError(
            f"{model} · {task} stores no circuits; a matrix with `circuit: {{}}` measures them"
        )
    return sorted(found, key=lambda one: -one.area("CPR"))


@of_pair
@style.drawing
def figure(
    results: Results, model: str, task: str, order: Order = "signed", width: float | None = None
) -> Figure:
    """Return f against the share of nodes (log axis): of circuits, and of all other nodes.

    The legend has CPR, the area under the left curve over a linear share, best first; dotted are
    controls. Arguments and errors as `data`.
    """
    known = _known(results, model, task, order)
    ranked = "largest score" if order == "signed" else "largest |score|"
    lines = [
        f"the nodes of {ranked} run as they are, all others hold the corrupted run's activations; "
        f"f = 1: as the model does{say_bands(known)}; dotted: controls"
    ]
    height = 2.4 + 0.155 * (len(known) + 1) / 2
    panels = [Panel(3.1, 2.6)] * 2
    drawn = sheet(f"{model} · {task}", lines, panels, height, width)
    for kind, axes in enumerate(drawn.axes):
        for place in (0, 1):
            axes.axhline(place, color=style.FAINT, linewidth=0.8, zorder=0)
        axes.set_title(KINDS[kind], loc="left", fontsize=style.SMALL, pad=2)
        axes.set(xscale="log", xlabel="share of nodes", ylim=LIMITS)
        if drawn.leads[kind]:
            axes.set_ylabel("faithfulness f")
        style.plain_numbers(axes.xaxis)
        for one in known:
            k = np.asarray(one.first.k)
            x = k[k > 0] / one.first.n_nodes
            values = [f[k > 0] for f in (one.mean_f(kind), *one.interval_of_f(kind))]
            total = drawn.canvas.get_figwidth()
            area = number(one.area("CPR"), 2)
            draw_curve(axes, results, one, x, values, area, total, has_bands(known))
    legend(
        drawn.canvas,
        drawn.axes[0],
        title="CPR (area under f, left)",
        title_fontsize=style.letters(drawn.canvas.get_figwidth()),
    )
    return drawn.canvas
