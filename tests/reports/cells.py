"""Cells made up as the suite would leave them, and what can be done to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.store.records import CellRecord
from bench.store.results import RunStore
from reports.load import Results, load
from reports.registry import Scope

LAYERS, POSITIONS, SITES = 30, 23, ("attn_out", "mlp_out")
SIZES = {"train": 4, "test": 12, "shifted": 12}
BETAS = np.linspace(-1, 1, 21)
SPARSE = [1, 6, 37, 228, 1379]
HOSTILE = ("<script>alert(1)</script>", "$x_1$", "\x1b[31mred\x1b[0m")
UNTRAINED = ("activ_patch", "activ_patch[direction=denoising]", "attr_patch", "dla", "grad_scalar")
TRAINED = ("activ_scalar", "steer_vec", "dyn_scalar")
PER_PROMPT = {*UNTRAINED, "dyn_scalar"}
QUALITY = {"activ_scalar": 0.95, "grad_scalar": 0.9, "steer_vec": 0.97, "dyn_scalar": 0.8}
CLEAN = "The capital of {} is {}. Q: What is the capital of {}? A: The capital of {} is"
CITIES = ["Paris", "Rome", "Tokyo", "Cairo", "Lima", "Oslo", "Kingston", "Washington", "Madrid"]
LANDS = ["France", "Italy", "Japan", "Egypt", "Peru", "Norway", "Jamaica", "Spain", "Greece"]


def _tokens(text: str) -> list[str]:
    """BOS, then words with their leading space; sentence signs are tokens of their own."""
    for sign in ".?:":
        text = text.replace(sign, f"\0{sign}")
    words = [f" {word}" for word in text.split(" ")]
    return ["<|endoftext|>", *"".join(words)[1:].replace(" ", "\0 ").split("\0")]


def _prompt(number: int, hostile: bool) -> dict[str, Any]:
    land, answer = LANDS[number % 9], CITIES[number % 9]
    foil = CITIES[(number + 3) % 9]
    clean = CLEAN.format(land, foil, land, land)
    tokens = _tokens(clean)
    if hostile:
        clean = clean.replace("What", " ".join(HOSTILE))
        tokens[3:6] = HOSTILE
        answer = "$x_1$ <b>"
    ids = list(range(len(tokens)))
    return {
        "clean": clean,
        "corrupted": CLEAN.format("Chile", foil, "Chile", "Chile"),
        "answer": f" {answer}",
        "foil": f" {foil}",
        "entity": land,
        "tokens": tokens,
        "token_ids": ids,
        "corrupted_ids": ids,
        "answer_id": 100 + number,
        "foil_id": 200 + number,
    }


def _scores(generator: np.random.Generator, method: str) -> NDArray[np.float32]:
    """Scores with a few strong places, as real ones have, over (site, layer, position)."""
    shape = (len(SITES), LAYERS, POSITIONS)
    scores = generator.normal(0, 0.04, shape)
    if not method.startswith(("random", "shuffled")):
        layer, position = np.ogrid[:LAYERS, :POSITIONS]
        for site, (at, where, size) in enumerate([(18, 22, 1.0), (9, 12, -0.7)]):
            blob = np.exp(-(((layer - at) / 4) ** 2) - ((position - where) / 1.2) ** 2)
            scores[site] += size * blob
    scores[1, -1, -1] = np.nan
    return scores.astype(np.float32)


def _weights(generator: np.random.Generator, count: int) -> NDArray[np.float64]:
    """How a mean spreads over prompts: positive numbers with mean 1."""
    weights = generator.uniform(0.2, 1.8, count)
    return weights / weights.mean()


def _sweep(generator: np.random.Generator, ld: float, gain: float) -> dict[str, NDArray[Any]]:
    answer = 14 + ld / 2 + gain * BETAS + generator.normal(0, 0.05, len(BETAS))
    foil = 14 - ld / 2 - 0.7 * gain * BETAS - 0.4 * BETAS**2
    odds = np.exp(answer - foil)
    return {
        "logit_answer": answer,
        "logit_foil": foil,
        "ld": answer - foil,
        "p_answer": 0.4 * odds / (1 + odds),
        "p_foil": 0.4 / (1 + odds),
        "kl": BETAS**2,
    }


def asked(method: str = "any", **settings: Any) -> dict[str, Any]:
    """Settings of a cell, with what none is without."""
    return {"model": {"name": "smollm2-135m"}, "method": {"name": method}, **settings}


StoredCell = tuple[CellRecord, dict[str, NDArray[Any]]]


def make_cell(
    task: str, method: str, *, seed: int = 0, draw: int = 0, **changes: Any
) -> StoredCell:
    """Return one finished cell; `changes` replace fields of its record."""
    name = f"{task}-{method}-{seed}-{draw}"
    generator = np.random.default_rng(list(name.encode()))
    control = method.startswith(("random", "shuffled"))
    trained = method in TRAINED
    quality = QUALITY.get(method, 0.2 if control else 0.5) + generator.uniform(-0.05, 0.05)
    star = None if trained else float(np.round(generator.choice([-1, 1]) * 0.316, 4))
    prompts = {
        split: [_prompt(n + 10 * place, task == "hostile" and n == 0) for n in range(size)]
        for place, (split, size) in enumerate(SIZES.items())
    }
    metrics = []
    for place, (split, size) in enumerate(SIZES.items()):
        unsteered = -(1.5 + 0.2 * place)
        for kind in ("one",) if trained else ("one", "star"):
            share = quality if kind == "star" or trained else quality - 0.4
            flips = {"flips_plus": round(share, 2), "flips_minus": round(share / 2, 2)}
            metrics.append(
                {
                    **{"split": split, "beta_kind": kind, "n_prompts": size},
                    **{"beta": 1.0 if kind == "one" else star, "E_0_unsteered": unsteered},
                    **{"E_0": unsteered * (1 - share), "E_m": -2.5 * (1 - share)},
                    **{"F": -0.5 - share, "M_1": -12.5, "Psi": -3 - share, **flips},
                    **{"mass": 0.31, "mass_unsteered": 0.4},
                }
            )
    vector = method == "steer_vec"
    fields: dict[str, Any] = {
        **{"id": name.replace("[", "_").replace("]", "_"), "status": "done", "seed": seed},
        **{"model": "smollm2-135m", "task": task, "method": method, "draw": draw},
        **{"trained": trained, "control": control, "prompts": prompts, "metrics": metrics},
        "settings": asked(margin=1.0, lambda_f=1.0, sites=SITES, seed=seed, draw=draw),
        "provenance": {
            "seconds": {"fit": 10.5, "tune": 0.0 if trained else 4.25, "evaluate": 6.0},
            "passes": {"forward_rows": 5520, "backward_rows": 100 if trained else 0},
            "peak_memory_bytes": 2 * 1024**3,
            "versions": {"torch": "2.13.0"},
            "device": "cpu",
        },
        "grid": {
            "sites": SITES,
            "n_layers": LAYERS,
            "positions": range(1, POSITIONS + 1),
            "excluded": [("mlp_out", LAYERS - 1, POSITIONS)],
            "notes": ["mlp_out of the last layer at the answer position is left out"],
        },
        "dropped": {"answer is not one token": 3},
        "beta": {"star": star, "grid": [-1.0, 0.0, 1.0], "objective": [-3.0, -2.0, -2.5]},
        "minimality": {
            "count": 0 if vector else int(400 * generator.uniform(0.5, 1)),
            "n_parameters": 794_880 if vector else 1379,
            "meaningful": not vector,
            "smallest_k": None if control else int(1 + 90 * generator.uniform()),
            "unit": "vector" if vector else "scalar",
        },
        "top_tokens": {"7": " the"},
        "notes": [f"{method}: corrupted by counterfactual prompts"],
    }
    record = CellRecord.model_validate(fields | changes)
    tensors: dict[str, NDArray[Any]] = {"scores": _scores(generator, method)}
    if method in PER_PROMPT:
        tensors["prompt_scores"] = np.stack([_scores(generator, method) for _ in range(4)])
    for row in record.metrics:
        stored = tensors.setdefault(
            f"split.{row.split}.ld", np.zeros((row.n_prompts, 3 if trained else 5))
        )
        place = 1 if row.beta_kind == "one" else 3
        stored[:, place] = row.E_0 * _weights(generator, row.n_prompts)
        stored[:, place + 1] = -0.5  # the foil wins at -beta: nothing is missing there
        stored[:, 0] = row.E_0_unsteered
        strengths = [0.0, 1.0, -1.0, *([] if star is None else [star, -star])]
        tensors[f"split.{row.split}.beta"] = np.array(strengths, dtype=np.float32)
        kl = tensors.setdefault(f"split.{row.split}.kl", np.zeros(stored.shape))
        kl[:, place : place + 2] = -row.F / 2
        for name in ("p_answer", "p_foil"):
            tensors[f"split.{row.split}.{name}"] = np.full(stored.shape, row.mass / 2)
    shape = (SIZES["test"], len(SPARSE), 2)
    share = np.linspace(0.1, quality, len(SPARSE))
    for name in ("sparsity", "localisation", "price_curve"):
        tensors[f"{name}.ld"] = np.full(shape, -0.5)
        tensors[f"{name}.ld"][..., 0] = -1.7 * (1 - share) * _weights(generator, shape[0])[:, None]
        tensors[f"{name}.kl"] = np.full(shape, 0.2) * share[:, None]
    e_0 = tensors["sparsity.ld"][..., 0].mean(axis=0).tolist()
    shared = {"split": "test", "beta": [1.0] * len(SPARSE), "E_0": e_0, "area": -1.0}
    paid = (0.4 * share).tolist()
    of_train = {"E_0_train": e_0, "paid_train": paid}
    curves: dict[str, Any] = {
        "sparsity": {**shared, "k": SPARSE, "F": (-0.4 * share).tolist(), "E_0_train": e_0},
        "localisation": {**shared, **of_train, "k": SPARSE, "price": 0.3, "paid": paid},
        "price_curve": {
            **{**shared, "price": np.geomspace(0.03, 3, len(SPARSE)).tolist(), "paid": paid},
            "reached": [True] * len(SPARSE),
        },
    }
    supports = ("strongest",) if control else ("strongest", "other positions", "other layers")
    of_one = {"k": 16, "draw": 0, "price": 0.3, "beta": 1.0, "E_0_train": -1.0, "paid_train": 0.3}
    curves["retrained"] = [
        {**of_one, "support": support, "E_0": e_0[-place], "paid": paid[-place]}
        for place, support in enumerate(supports, start=1)
    ]
    for kind in ("ld", "kl"):
        tensors[f"retrained.{kind}"] = tensors[f"sparsity.{kind}"][:, : -len(supports) - 1 : -1]
    record = CellRecord.model_validate(record.model_dump() | curves)
    for split, ld, prompt in (("train", -1.2, 0), ("test", -1.8, 1)):
        tensors[f"sweep.{split}.prompt"] = np.array([prompt])
        tensors[f"sweep.{split}.beta"] = BETAS
        tensors[f"sweep.{split}.top_ids"] = np.tile([7, 8], (1, len(BETAS), 1))
        tensors[f"sweep.{split}.top_p"] = np.tile(np.float32([0.5, 0.25]), (1, len(BETAS), 1))
        for key, values in _sweep(generator, ld, 2 * quality).items():
            tensors[f"sweep.{split}.{key}"] = values[None].astype(np.float32)
    return record, tensors


def make_failure(task: str, method: str, message: str = "out of memory") -> StoredCell:
    """Return a cell that could not be computed."""
    named = {"id": f"{task}-{method}-failed", "model": "smollm2-135m", "task": task}
    error = {"kind": "NumericalError", "message": message, "log": "log"}
    fields = {"status": "failed", "error": error, "method": method, "seed": 0, "settings": {}}
    return CellRecord.model_validate(named | fields | {"trained": False, "control": False}), {}


OF_PROMPTS = [f"{name}.{kind}" for name in ("split.test", "sparsity") for kind in ("ld", "kl")]


def with_prompts(cell: StoredCell, chosen: slice = slice(None), **changes: Any) -> StoredCell:
    """Return the cell as it would be with some of its test prompts, which may be changed."""
    record, tensors = cell
    kept = {name: tensors[name][chosen] for name in OF_PROMPTS}
    prompts = [one.model_copy(update=changes) for one in record.prompts["test"][chosen]]
    changed = record.model_copy(update={"prompts": record.prompts | {"test": prompts}})
    return changed, tensors | kept


def stored(store: RunStore, *cells: StoredCell) -> Results:
    """Return what a run holds when these cells, too, have been written."""
    for cell in cells:
        store.write(*cell)
    return load(store.directory)


def make_agreement(task: str, methods: Sequence[str]) -> pd.DataFrame:
    """Return rows as `bench.agreement.table` makes them; tau of the last pair is undefined."""
    generator = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for place, method_a in enumerate(methods):
        for method_b in methods[place + 1 :]:
            tau = float(generator.uniform(-0.3, 0.9))
            rows.append(
                {
                    "model": "smollm2-135m",
                    "task": task,
                    "method_a": method_a,
                    "method_b": method_b,
                    "tau": tau,
                    "low": tau - 0.08,
                    "high": tau + 0.06,
                    "interval_from": "prompts / prompts",
                    "n_points": 1314,
                    "status": "ok",
                    **{"size_tau": tau / 2, "size_low": tau / 2 - 0.05, "size_high": tau / 2 + 0.1},
                }
            )
    rows[-1] |= {"tau": np.nan, "low": np.nan, "high": np.nan, "status": "undefined: constant"}
    return pd.DataFrame(rows)


MISSING: dict[str | tuple[str, str], str] = {
    ("stability", "ccc"): "two seeds",
    "circuit": "stores no circuits",
    "fig2": "no grid of settings",
    "fig3": "trained on a single prompt",
    "fig4": "several seeds",
    "fig5": "taken to no other task",
    "fig6": "taken to other tasks",
    "fig7": "no scores of heads",
    "sensitivity": "varied alone",
    "corruption": "one corruption at most",
    "finding": "circuit is known",
}
"""What the synthetic run does not hold, of a figure or of one of its tasks; all else is drawn."""


def what_lacks(name: str, scope: Scope) -> str | None:
    """Return why the run has nothing to show of a figure; None where it is drawn."""
    return MISSING.get(name) or MISSING.get((name, scope.get("task", "")))
