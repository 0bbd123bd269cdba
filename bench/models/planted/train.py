"""Trains a planted model with ordinary norms: `python -m bench.models.planted.train NAME FILE`.

All weights of a narrower GPT-2 (`bench.models.planted.narrow`) are trained until interchanges of
any point, and of pairs of planted ones, give the logits that they give in the planted model. That
keeps what carries nothing without effect: strict interchange intervention training (Gupta et al.
2024, "InterpBench: semi-synthetic transformers for evaluating mechanistic interpretability
techniques", section 3).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from bench.models.planted.circuit import CAUSAL, Kind
from bench.models.planted.interchange import Point, Seen, all_points, interchanged
from bench.models.planted.model import PlantedModel, build_planted
from bench.models.planted.narrow import D_MLP, D_MODEL, narrowed
from tasks.planted import FAMILIES, SUBJECTS, Planted, planted_name

DECOY_SIZES = (2.0, 3.0)
"""Smaller than in the planted model: a norm divides all that is read by what a decoy writes."""
VARIANCE = 1.5
"""Of what misleads, in units of the median causal point, unless the planted model has less."""


@dataclass(frozen=True)
class Recipe:
    """How long, and on what, a model is trained.

    Attributes:
        steps: of Adam; the rate falls to 0 as a cosine.
        rate: the learning rate at its largest.
        drawn: prompt pairs of every counterfactual, and a quarter as many of the shifted split.
        pairs: how many of them are run a step, clean and corrupted.
        interchanges: how many of these runs a step changes, in either direction.
        d_model: width.
        d_mlp: units of every MLP.
    """

    steps: int = 500
    rate: float = 1e-3
    drawn: int = 200
    pairs: int = 16
    interchanges: int = 128
    d_model: int = D_MODEL
    d_mlp: int = D_MLP


RECIPES: Mapping[str, Recipe] = {
    "backup": Recipe(steps=3000, drawn=120),
    "conflict": Recipe(steps=2000, drawn=120),
    "distractors": Recipe(steps=1000, drawn=120),
    "induction": Recipe(steps=2000, drawn=120),
    "ioi": Recipe(steps=800, drawn=120),
}
"""Of the families that need another one than lookup."""


@dataclass(frozen=True)
class Pool:
    """Prompt pairs: all clean prompts, then all corrupted ones, with answers and foils twice."""

    tokens: Tensor
    answers: Tensor
    foils: Tensor

    @staticmethod
    def of(name: str, planted: PlantedModel, drawn: int) -> Pool:
        """Draw the pairs of every counterfactual of a model."""

        def ids(text: str) -> list[int]:
            return [0, *planted.tokenizer(text, add_special_tokens=False)["input_ids"]]

        pairs = [
            pair
            for counterfactual in planted.circuits
            for split, count in (("train", drawn), ("shifted", drawn // 4))
            for pair in islice(Planted(name, counterfactual).candidates(split, SUBJECTS, 0), count)
        ]
        texts = [pair.clean for pair in pairs] + [pair.corrupted for pair in pairs]
        ends = [[ids(word)[-1] for word in (pair.answer, pair.foil)] for pair in pairs]
        answers, foils = torch.tensor(ends).repeat(2, 1).T
        return Pool(torch.tensor([ids(text) for text in texts]), answers, foils)

    def ld(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The logit difference of prompts of the pool, whose rows these are."""
        chosen = torch.stack([self.answers[rows], self.foils[rows]], dim=1)
        both = logits.gather(1, chosen)
        return both[:, 0] - both[:, 1]


def labelled(planted: PlantedModel) -> dict[Point, set[Kind]]:
    """What the circuits of a model say of points, those of the residual stream among them."""
    found: dict[Point, set[Kind]] = {}
    for circuit in planted.circuits.values():
        for part in circuit.parts:
            whole: Point = (part.site, part.layer, None, part.position)
            head: Point = ("z", part.layer, part.head, part.position)
            for point in [whole] if part.head is None else [whole, head]:
                found.setdefault(point, set()).add(part.kind)
        for one in circuit.carried:
            for layer in range(planted.model.config.n_layer - 1):
                if one.written <= 2 * layer + 1 < one.read:
                    found.setdefault(("resid_post", layer, None, one.position), set()).add("causal")
    return found


class Trainer:
    """A model in training.

    Attributes:
        model: the Hugging Face GPT-2, in float32.
        pool: prompts.
        interchanges: what is changed together: every point alone, and pairs of planted ones.
        wanted: (what has an effect, prompt, vocabulary), the logits of the planted model.
        which: row of `wanted` for every interchange.
        error: the last squared errors in LD of every interchange; the larger, the likelier drawn.
    """

    def __init__(self, name: str, recipe: Recipe) -> None:
        self.recipe = recipe
        planted = build_planted(name, DECOY_SIZES)
        self.pool = Pool.of(name, planted, recipe.drawn)
        self._generator = torch.Generator().manual_seed((planted_name(name) or ("", 0))[1])
        tokens = self.pool.tokens
        self.model = narrowed(
            planted.model, tokens[::4], self._generator, recipe.d_model, recipe.d_mlp
        )
        self._optimizer = torch.optim.Adam(self.model.parameters(), betas=(0.9, 0.99))
        clean, corrupted = tokens.chunk(2)
        first = int((clean != corrupted).any(0).nonzero()[0])
        kinds = labelled(planted)
        causal = {point for point, its in kinds.items() if its & {*CAUSAL}}
        outputs = [point for point in kinds if point[0] in ("attn_out", "mlp_out")]
        singles = all_points(planted.model.config, range(first, tokens.shape[1]))
        pairs = [
            (a, b) for a in outputs for b in outputs if b in causal and (a < b or a not in causal)
        ]
        self.interchanges: list[tuple[Point, ...]] = [*((one,) for one in singles), *pairs]
        planned = [bool({*chosen} & {*kinds}) for chosen in self.interchanges]
        self._planned = torch.tensor(planned).nonzero()[:, 0]
        self._teach(planted, causal)
        self.error = torch.ones(len(self.interchanges))
        self._causal = [point for point in outputs if point in causal]
        seen = interchanged(planted.model.float(), clean)[1]
        self._misleading = [point for point in kinds if point not in causal]
        self._least = self._variances(seen, len(clean)).clamp(max=VARIANCE)

    def _teach(self, planted: PlantedModel, causal: set[Point]) -> None:
        """Run the planted model with every interchange that has an effect there."""
        effective = [tuple(p for p in chosen if p in causal) for chosen in self.interchanges]
        rows: dict[tuple[Point, ...], int] = {(): 0}
        tokens, teacher = self.pool.tokens, planted.model.float()
        other = torch.arange(len(tokens)).roll(len(tokens) // 2)
        with torch.no_grad():
            logits, seen = interchanged(teacher, tokens)
            wanted = [logits]
            for chosen in effective:
                if chosen not in rows:
                    rows[chosen] = len(wanted)
                    changed = [chosen] * len(tokens)
                    wanted.append(interchanged(teacher, tokens, changed, other, seen)[0])
        self.wanted = torch.stack(wanted)
        self.which = torch.tensor([rows[chosen] for chosen in effective])
        clean, corrupted = self.pool.ld(logits, torch.arange(len(tokens))).chunk(2)
        self._scale = float((clean - corrupted).abs().mean())

    def _variances(self, seen: Seen, n: int) -> Tensor:
        """Over the first n prompts, of what misleads, in units of the median causal point."""

        def variance(point: Point) -> Tensor:
            site, layer, head, position = point
            values = seen[site, layer][:n, position]
            if head is not None:
                values = values.reshape(n, self.model.config.n_head, -1)[:, head]
            return values.var(dim=0).sum()

        middle = torch.stack([variance(point) for point in self._causal]).detach().median()
        ratios = [variance(point) / middle for point in self._misleading]
        return torch.stack(ratios) if ratios else torch.zeros(0)

    def step(self, done: float) -> float:
        """Train one step, of which a share of all is `done`; return the loss before it."""
        recipe, pool = self.recipe, self.pool
        n, half = recipe.pairs, len(pool.tokens) // 2
        drawn = torch.randint(half, (n,), generator=self._generator)
        rows = torch.cat([drawn, drawn + half])
        logits, seen = interchanged(self.model, pool.tokens[rows])
        base = torch.randint(2 * n, (recipe.interchanges,), generator=self._generator)
        chosen = self._draw(recipe.interchanges)
        points = [self.interchanges[one] for one in chosen.tolist()]
        changed, _ = interchanged(
            self.model, pool.tokens[rows[base]], points, (base + n) % (2 * n), seen
        )
        aims = self.wanted[self.which[chosen], rows[base]], self.wanted[0, rows]
        error = (pool.ld(changed, rows[base]) - pool.ld(aims[0], rows[base])) / self._scale
        plain = (pool.ld(logits, rows) - pool.ld(aims[1], rows)) / self._scale
        words = (changed - aims[0]).square().mean() + (logits - aims[1]).square().mean()
        loss = error.square().mean() + plain.square().mean() + words / self._scale**2
        loss = loss + 0.01 * torch.relu(self._least - self._variances(seen, n)).sum()
        for group in self._optimizer.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * done))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        # Half of what was known stays, so that one lucky draw is not trusted.
        seen_now = torch.zeros_like(self.error).index_add_(0, chosen, error.detach().square())
        counts = torch.zeros_like(self.error).index_add_(0, chosen, torch.ones(len(chosen)))
        mixed = (self.error + seen_now / counts.clamp(min=1)) / 2
        self.error = torch.where(counts > 0, mixed, self.error)
        return float(loss.detach())

    def _draw(self, count: int) -> Tensor:
        """Draw interchanges: a quarter of what is planted, the rest where the error is large."""
        size = self.error.sqrt()
        likely = size + 0.1 * size.mean()
        chosen = torch.multinomial(likely, count, replacement=True, generator=self._generator)
        few = torch.randint(len(self._planned), (count // 4,), generator=self._generator)
        chosen[: count // 4] = self._planned[few]
        return chosen

    def weights(self) -> Mapping[str, Tensor]:
        """What is kept of the model: its weights in fp16."""
        return {name: one.half().contiguous() for name, one in self.model.state_dict().items()}


def main(arguments: Sequence[str]) -> None:
    """Train the planted model of a name and write its weights into a safetensors file."""
    name, file = arguments
    family, _ = planted_name(name) or ("", 0)
    if family not in FAMILIES or Path(file).suffix != ".safetensors":
        raise SystemExit(
            "Give the name of a planted model and a file: planted-ioi-3 it.safetensors"
        )
    recipe = RECIPES.get(family, Recipe())
    trainer = Trainer(name, recipe)
    for step in range(recipe.steps):
        loss = trainer.step(step / recipe.steps)
        if step % 50 == 0 or step == recipe.steps - 1:
            print(
                f"step {step}: loss {loss:.6f}, largest error {trainer.error.max():.6f}", flush=True
            )
    save_file(dict(trainer.weights()), file)


if __name__ == "__main__":
    main(sys.argv[1:])
