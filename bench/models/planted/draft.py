"""What all families of planted models have in common: words, codes, gains and decoys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import torch

from bench.models.planted.circuit import Carried, Kind, Part
from bench.models.planted.wiring import Attends, Moves, Rows, Wiring
from tasks.planted import FAMILIES, LONGEST, SUBJECTS, Layout

LOGIT = 2.5
"""The logit that a gain of 1 gives."""
GAINS, SHARPNESS, DECOY_SIZES = (0.3, 3.0), (14.0, 24.0), (5.0, 10.0)
LAYERS, DECOYS = (5, 6), (2, 4)
CODE_NOISE = 0.05


class Draft:
    """A planted model in the making.

    Attributes:
        layout: where its words stand.
        draw: of everything about it that is a choice: layers, gains, decoys.
        n_layers: of the model.
        sharp: how far apart the scores of what a head attends to and what it does not are; a head
            that finds nothing attends to the BOS, whose value is 0. e^-sharp leaks.
        tokens: id of every word, with its leading space.
        decoy_sizes: between which the norm of what a decoy writes is drawn.
        code: the code of every subject, and of what is known of it, (subject, subject).
        wiring: its weights.
        parts: of every counterfactual.
        carried: of every counterfactual.
    """

    def __init__(
        self,
        family: str,
        seed: int,
        tokens: Mapping[str, int],
        decoy_sizes: tuple[float, float] = DECOY_SIZES,
    ) -> None:
        self.decoy_sizes = decoy_sizes
        self.layout = Layout.of(family, seed)
        self.draw = Random(f"weights of planted/{family}/{seed}")
        self.n_layers = self.draw.randint(*LAYERS)
        self.sharp = self.draw.uniform(*SHARPNESS)
        self.tokens = tokens
        generator = torch.Generator().manual_seed(self.draw.getrandbits(32))
        self.wiring = Wiring(self.n_layers, len(tokens), generator)
        n = len(SUBJECTS)
        noise = torch.randn(n, n, generator=generator, dtype=torch.float64)
        code = torch.eye(n, dtype=torch.float64) + CODE_NOISE * noise
        self.code = code / code.norm(dim=1, keepdim=True)
        counterfactuals = FAMILIES[family].counterfactuals
        self.parts: dict[str, list[Part]] = {name: [] for name in counterfactuals}
        self.carried: dict[str, list[Carried]] = {name: [] for name in counterfactuals}
        self._positions = self.wiring.feature("position", LONGEST)
        self._embed()

    def _embed(self) -> None:
        for token in self.tokens.values():
            self.wiring.embed(token, self.wiring.feature("any"))
        self.wiring.embed(0, self.wiring.feature("bos"))
        for row, subject in zip(self.coded("token"), SUBJECTS, strict=True):
            self.wiring.embed(self.tokens[f" {subject}"], row[None])
        self.wiring.embed_positions(self._positions)

    def block(self, name: str) -> Rows:
        """Return a feature with room for the code of a subject, (subject, d_model)."""
        return self.wiring.feature(name, len(SUBJECTS))

    def coded(self, name: str) -> Rows:
        """Return every subject's code in a block, (subject, d_model)."""
        rows: Rows = self.code @ self.block(name)
        return rows

    def at(self, *places: str) -> Rows:
        """Return what tells the positions of places from all others, (1, d_model)."""
        rows = [self._positions[self.layout.places[place]] for place in places]
        return torch.stack(rows).sum(0, keepdim=True)

    @property
    def before(self) -> tuple[Rows, Rows]:
        """Query and key rows of a head that attends to the position before."""
        return self._positions[1:], self._positions[:-1]

    @property
    def same(self) -> tuple[Rows, Rows]:
        """Query and key rows of a head that attends to its own position."""
        return self._positions, self._positions

    def gain(self) -> float:
        """Draw a gain, evenly in its logarithm."""
        low, high = GAINS
        return float(low * (high / low) ** self.draw.random())

    def layers(self, count: int, start: int = 0) -> list[int]:
        """Draw different layers, ascending."""
        return sorted(self.draw.sample(range(start, self.n_layers), count))

    def answers(self) -> None:
        """Let the block "answer" give the logit of what is known of the subject."""
        for row, answer in zip(self.coded("answer"), self.layout.answers, strict=True):
            self.wiring.unembed(self.tokens[f" {answer}"], LOGIT * row[None])

    def repeats(self) -> None:
        """Let the block "answer" give the logit of the subject itself."""
        for row, subject in zip(self.coded("answer"), SUBJECTS, strict=True):
            self.wiring.unembed(self.tokens[f" {subject}"], LOGIT * row[None])

    def knows(self, layer: int) -> None:
        """Let an MLP write into "fact" what is known of the subject at its position."""
        known = self.coded("fact") + self.wiring.feature("known")
        self.wiring.mlp(layer, self.coded("token"), known)

    def head(
        self, layer: int, attends: Sequence[Attends], moves: Sequence[Moves], sink: float = 1.0
    ) -> int:
        """Wire a head that attends to the BOS where nothing reaches more than `sink`.

        Scores are in units of `sharp`. Returns which head it is.
        """
        first = (self.wiring.feature("any"), self.wiring.feature("bos"), sink)
        scaled = [(query, key, score * self.sharp) for query, key, score in [*attends, first]]
        return self.wiring.head(layer, scaled, moves)

    def adds(
        self,
        site: str,
        layer: int,
        place: str,
        sign: int = 0,
        *,
        kind: Kind = "causal",
        head: int | None = None,
        of: str | None = None,
    ) -> None:
        """Note a part of the circuit of one counterfactual, or of all."""
        part = Part(site, layer, self.layout.places[place], kind, head, sign)
        for name in [of] if of else self.parts:
            self.parts[name].append(part)

    def carries(self, place: str, written: int, read: int, of: str | None = None) -> None:
        """Note that the residual stream carries the difference at a place (see `Carried`)."""
        for name in [of] if of else self.carried:
            self.carried[name].append(Carried(self.layout.places[place], written, read))

    @property
    def end(self) -> int:
        """The time of the unembedding."""
        return 2 * self.n_layers


def add_decoys(draft: Draft, read: Rows) -> None:
    """Wire heads and MLPs that read the word that changes and write, large, what nothing reads.

    Args:
        draft: a model whose circuit is wired.
        read: the codes of the words that change, (word, d_model).
    """
    family = FAMILIES[draft.layout.family]
    changed = next(iter(family.counterfactuals.values()))[0]
    for number in range(draft.draw.randint(*DECOYS)):
        wire = _head_decoy if number % 2 == 0 else _mlp_decoy
        wire(draft, read, changed)


def _written(draft: Draft, rows: int) -> Rows:
    """Draw what a decoy writes for each of `rows` things, where nothing reads."""
    unread = draft.wiring.feature("unread", 6)
    mixed = torch.randn(rows, 6, generator=draft.wiring.generator, dtype=torch.float64)
    size = draft.draw.uniform(*draft.decoy_sizes)
    written: Rows = size * (mixed / mixed.norm(dim=1, keepdim=True)) @ unread
    return written


def _head_decoy(draft: Draft, read: Rows, changed: str) -> None:
    layer = _free_layer(draft, "attn_out", {draft.layout.places["last"]})
    if layer is None:
        return
    attends = [(draft.at("last"), draft.at(changed), 2.0)]
    written = _written(draft, len(read))
    size = float(written.norm(dim=1).mean())  # in the values already: heads are points too
    head = draft.head(layer, attends, [(size * read, written / size)])
    draft.adds("attn_out", layer, "last", kind="decoy", head=head)


def _mlp_decoy(draft: Draft, read: Rows, changed: str) -> None:
    family = FAMILIES[draft.layout.family]
    places = {name for names in family.counterfactuals.values() for name in names}
    layer = _free_layer(draft, "mlp_out", {draft.layout.places[place] for place in places})
    if layer is None:
        return
    draft.wiring.mlp(layer, read, _written(draft, len(read)))
    for name, own in family.counterfactuals.items():
        for place in own:
            draft.adds("mlp_out", layer, place, kind="decoy", of=name)


def _free_layer(draft: Draft, site: str, positions: set[int]) -> int | None:
    """Draw a layer in which no part of the model writes at these positions."""
    parts = [part for own in draft.parts.values() for part in own]
    taken = {one.layer for one in parts if one.site == site and one.position in positions}
    free = [layer for layer in range(draft.n_layers) if layer not in taken]
    return draft.draw.choice(free) if free else None
