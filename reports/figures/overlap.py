"""Which points methods agree are the strongest: overlap of the k largest |scores| with k."""

from matplotlib.figure import Figure
from pandas import DataFrame, concat

from reports import style
from reports.figures.marks import look_of, marker_of
from reports.figures.panels import canvas_of, legend
from reports.load import Results, of_pair
from reports.scores import chosen, overlap, scored, shared, sizes_of
from reports.text import distinct
from tasks.errors import UserInputError

WIDTH, PLOT = 5.0, 3.1


@of_pair
def data(results: Results, model: str, task: str, reference: str | None = None) -> DataFrame:
    """Return reference, method, k, overlap (share of k) and chance (k / points), a row a k.

    `reference` is the method that all others are compared with, by label; by default the first in
    the order of the suite's list. Raises UserInputError for an unknown one and where fewer than
    two methods have scores.
    """
    methods = chosen(scored(results, model, task), None, f"{model} · {task}")
    if len(methods) < 2:
        raise UserInputError(f"overlap needs two methods of {model} · {task} with scores")
    first, *_ = chosen(methods, [reference] if reference else None, f"{model} · {task}")
    frames = []
    for other in methods:
        a, b, points = shared(first, other)
        if other is first or not points:
            continue
        sizes = sizes_of(len(points))
        columns = {"k": sizes, "overlap": overlap(a, b, sizes), "chance": sizes / len(points)}
        frames.append(DataFrame({"reference": first.label, "method": other.label, **columns}))
    if not frames:
        raise UserInputError(f"no two methods of {model} · {task} scored the same points")
    return concat(frames, ignore_index=True)


@of_pair
@style.drawing
def figure(
    results: Results,
    model: str,
    task: str,
    reference: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return a curve a method; dashed is what chance gives. Arguments and errors as `data`."""
    frame = data(results, model=model, task=task, reference=reference)
    methods = list(dict.fromkeys(frame["method"]))
    lines = [
        "share of the k largest |scores| that methods have in common with "
        f"{frame['reference'].iloc[0]}"
    ]
    canvas = canvas_of(width, PLOT + 0.08 * len(methods), f"{model} · {task}", lines)
    axes = canvas.add_subplot()
    names = distinct(methods, int(width * 9))
    for method, name in zip(methods, names, strict=True):
        curve = frame[frame["method"] == method]
        look = marker_of(look_of(results, method), 3.5)
        axes.plot(curve["k"], curve["overlap"], label=style.drawable(name), linewidth=1.2, **look)
    axes.plot(curve["k"], curve["chance"], color=style.MUTED, linestyle="--", label="chance")
    axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel="k largest |scores|")
    axes.set_ylabel("share in common")
    style.plain_numbers(axes.xaxis)
    legend(canvas, axes)
    return canvas
