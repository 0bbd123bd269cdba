"""SubjectModel: a TransformerBridge behind the few verbs that attribution methods need."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.core.hooks import (
    Activations,
    Edit,
    GradientTaps,
    HookFunction,
    Recorder,
    SiteLayer,
    attached,
    in_full,
    layer_hooks,
)
from methods.core.memory import require_memory
from methods.core.padding import Padded, check_padding
from methods.core.points import Heads, Site
from methods.core.prompts import Prompts
from methods.core.sites import Sites, find_sites, heads_of, unheeded_hooks
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint
    from transformer_lens.model_bridge import TransformerBridge


class NonFiniteLogitsError(UserInputError):
    """The model's logits hold NaN or infinity."""


@dataclass
class Passes:
    """Rows (one prompt each) that went through the model, forward and backward.

    A patched run that is resumed at its layer and position counts as a whole one.
    """

    forward: int = 0
    backward: int = 0


@dataclass
class SubjectModel:
    """The model under study: frozen, in eval mode, read at the answer position.

    Attributes:
        bridge: the model; its weights are frozen and dropout is off from here on.
        rows_per_forward: largest number of rows (prompts times strengths or points) of a forward.
        passes: rows counted so far.
        goes_on_from_a_cache: whether a run over cached positions gives the same logits; None as
            long as nobody has tried (see `methods.core.prefix`).
        heeds_padding: rows with padding were seen to give the same logits as alone.
        autocast: dtype of matrix products in a forward; None leaves them in the model's own.
    """

    bridge: TransformerBridge
    rows_per_forward: int = 32
    passes: Passes = field(default_factory=Passes)
    goes_on_from_a_cache: bool | None = None
    heeds_padding: bool = False
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        self.bridge.eval().requires_grad_(False)

    @cached_property
    def points_by_name(self) -> dict[str, HookPoint]:
        """Where the bridge can be hooked, by name and alias."""
        return dict(self.bridge.hook_dict)

    @property
    def n_layers(self) -> int:
        """Number of transformer layers."""
        return int(self.bridge.cfg.n_layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.bridge.cfg.d_model)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.bridge.original_model.parameters())).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of weights and activations; logits and scores are fp32 whatever it is."""
        return next(iter(self.bridge.original_model.parameters())).dtype

    @property
    def tolerance(self) -> float:
        """Relative difference that rounding explains between two ways to the same logits."""
        return 1e-3 if self.is_exact else 0.1

    @property
    def is_exact(self) -> bool:
        """Forwards are computed in fp32 or better."""
        return self.autocast is None and self.dtype in (torch.float32, torch.float64)

    def precision(self) -> AbstractContextManager[object]:
        """What every forward runs under, so also callers that drive blocks themselves."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.autocast)

    @cached_property
    def heads(self) -> Heads | None:
        """The attention heads, if every layer's values and weighted values can be hooked."""
        return heads_of(self.bridge)

    @cached_property
    def _found(self) -> Sites:
        return find_sites(self)

    @property
    def sites(self) -> frozenset[Site]:
        """The sites that every layer of this model has, and that are what their name says."""
        return self._found.offered

    @cached_property
    def _called_hooks(self) -> Collection[str]:
        """The bridge's hooks but those at sites that a forward does not call."""
        return self.points_by_name.keys() - self._found.silent

    @cached_property
    def unheeded_hooks(self) -> Collection[str]:
        """Hooks of attention scores and patterns that can be read, and changed to no effect."""
        return unheeded_hooks(self)

    def check_sites(self, sites: Iterable[Site]) -> None:
        """Looks whether the model has these sites.

        Raises:
            UserInputError: for those that it has not; says why, and in which layers.
        """
        self._found.check(set(sites))

    def logits(
        self,
        tokens: Int[Tensor, "row position"],
        edit: Edit | None = None,
        embedding_noise: Float[Tensor, "row position d_model"] | None = None,
        past_key_values: Any | None = None,
        mask: Bool[Tensor, "row position"] | None = None,
    ) -> Float[Tensor, "row vocab"]:
        """f(x): logits at the last token, fp32, of one forward under the caller's grad mode.

        Args:
            tokens: ids, BOS included.
            edit: what is done to activations on the way.
            embedding_noise: added to the token embeddings of each row.
            past_key_values: a Hugging Face cache of the positions before `tokens`, which is filled.
            mask: False where a row has padding, left or right of its tokens.

        Raises:
            UserInputError: for padding that is not left out by this model.
        """
        if mask is not None:
            check_padding(self, tokens, mask)
        padded = None if mask is None else Padded.of(mask)
        with self._hooked(edit, embedding_noise), self.precision():
            output = self.bridge(
                tokens if padded is None else tokens.masked_fill(~padded.mask, 0),
                logits_to_keep=1 if padded is None else padded.n_kept,
                use_cache=past_key_values is not None,
                past_key_values=past_key_values,
                **({} if padded is None else padded.arguments),
            )
        self.passes.forward += len(tokens)
        logits: Tensor = (output[:, -1] if padded is None else padded.at_answer(output)).float()
        return logits

    def backward(self, loss: Float[Tensor, ""], rows: int) -> None:
        """Back-propagates `loss`, whose forward had `rows` rows, and counts the pass."""
        loss.backward()  # type: ignore[no-untyped-call]
        self.passes.backward += rows

    @torch.no_grad()
    def unsteered_logits(
        self,
        tokens: Int[Tensor, "row position"],
        embedding_noise: Float[Tensor, "row position d_model"] | None = None,
        mask: Bool[Tensor, "row position"] | None = None,
    ) -> Float[Tensor, "row vocab"]:
        """Logits of the unmodified model for any number of rows.

        Raises:
            NonFiniteLogitsError: if the model gives NaN or infinity.
        """
        parts = [
            self.logits(
                tokens[rows],
                None,
                None if embedding_noise is None else embedding_noise[rows],
                mask=None if mask is None else mask[rows],
            )
            for rows in self.chunks(len(tokens))
        ]
        logits = torch.cat(parts)
        if not bool(torch.isfinite(logits).all()):
            rows_hit = (~torch.isfinite(logits)).any(dim=1).nonzero()[:, 0].tolist()
            raise NonFiniteLogitsError(
                f"The unsteered model gives NaN or infinite logits for prompts {rows_hit} of "
                f"{len(tokens)} (dtype {self.dtype}); a wider dtype or sound weights are needed."
            )
        return logits

    def activations(
        self,
        tokens: Int[Tensor, "row position"],
        points: Collection[SiteLayer],
        embedding_noise: Float[Tensor, "row position d_model"] | None = None,
        mask: Bool[Tensor, "row position"] | None = None,
    ) -> Activations:
        """The activations that the points hold in an unsteered run, on the model's device.

        At `o` that is z, from which W_O makes it.

        Raises:
            NotEnoughMemoryError: if they do not fit.
        """
        return self.activations_and_logits(tokens, points, embedding_noise, mask)[0]

    @torch.no_grad()
    def activations_and_logits(
        self,
        tokens: Int[Tensor, "row position"],
        points: Collection[SiteLayer],
        embedding_noise: Float[Tensor, "row position d_model"] | None = None,
        mask: Bool[Tensor, "row position"] | None = None,
    ) -> tuple[Activations, Float[Tensor, "row vocab"]]:
        """The same with the logits of the answer position, from one forward.

        Raises:
            NotEnoughMemoryError: if the activations do not fit.
        """
        self._require_activations(len(tokens), tokens.shape[1], len(points), copies=1)
        chunks: dict[SiteLayer, list[Tensor]] = {point: [] for point in points}
        logits: list[Tensor] = []
        for rows in self.chunks(len(tokens)):
            recorder = Recorder(points)
            noise = None if embedding_noise is None else embedding_noise[rows]
            of_rows = None if mask is None else mask[rows]
            logits.append(self.logits(tokens[rows], recorder, noise, mask=of_rows))
            for point, h in recorder.seen.items():
                chunks[point].append(h)
        joined = {point: torch.cat(parts) for point, parts in chunks.items()}
        return joined, torch.cat(logits)

    @torch.no_grad()
    def embeddings(
        self, tokens: Int[Tensor, "row position"]
    ) -> Float[Tensor, "row position d_model"]:
        """Token embeddings as they enter the network (scaled, where the embedding does that)."""
        embedded: Tensor = self.bridge.embed(tokens)
        return embedded

    def activations_and_gradients(
        self,
        prompts: Prompts,
        points: Collection[SiteLayer],
        embedding_noise: Float[Tensor, "row position d_model"] | None = None,
        edit_of: Callable[[slice], Edit] | None = None,
    ) -> dict[SiteLayer, tuple[Tensor, Tensor]]:
        """h and dLD/dh of every point, both at the same hook, from one forward and one backward.

        Runs over `prompts.tokens`. Works within `torch.no_grad` and `torch.inference_mode`.

        Args:
            prompts: the prompts.
            points: where.
            embedding_noise: added to the token embeddings.
            edit_of: gives what is done to activations of some prompts, at some of the points: h is
                the activation before that, the gradient the one behind it.

        Returns:
            (site, layer) -> (activation, gradient), each (prompt, position, d_model), or with heads
            (prompt, position, head, d_head).

        Raises:
            NotEnoughMemoryError: if activations and gradients do not fit.
        """
        self._require_activations(len(prompts), prompts.n_positions, len(points), copies=4)
        parts: dict[SiteLayer, list[tuple[Tensor, Tensor]]] = {point: [] for point in points}
        with torch.inference_mode(False), torch.enable_grad():
            for rows in self.chunks(len(prompts)):
                chunk = prompts.take(rows)
                noise = None if embedding_noise is None else embedding_noise[rows].clone()
                taps = GradientTaps(points, None if edit_of is None else edit_of(rows))
                ld = chunk.logit_difference(self.logits(chunk.tokens, taps, noise, mask=chunk.mask))
                for point, gradient in taps.gradients(ld.sum()).items():
                    parts[point].append((taps.seen[point], gradient))
                self.passes.backward += len(chunk)
        return {
            point: (torch.cat([h for h, _ in pairs]), torch.cat([g for _, g in pairs]))
            for point, pairs in parts.items()
        }

    def chunks(self, n_rows: int) -> Iterator[slice]:
        """Slices of at most `rows_per_forward` rows that cover `n_rows`."""
        for start in range(0, n_rows, self.rows_per_forward):
            yield slice(start, min(start + self.rows_per_forward, n_rows))

    def _require_activations(self, rows: int, positions: int, points: int, copies: int) -> None:
        size = copies * rows * positions * points * self.d_model * self.dtype.itemsize
        require_memory(
            size,
            self.device,
            f"the activations of {points} (site, layer) pairs for {rows} prompts of "
            f"{positions} tokens",
            "fewer sites or fewer train prompts",
        )

    def _hooked(self, edit: Edit | None, noise: Tensor | None) -> AbstractContextManager[None]:
        """Hooks for one forward; the bridge removes exactly these when the block ends."""
        # The last position's states are a slice, which torch would multiply row by row.
        hooks: list[tuple[str, HookFunction]] = [
            ("unembed.hook_in", lambda h, hook: h.contiguous())
        ]
        if noise is not None:
            added = noise
            hooks.append(("hook_embed", lambda h, hook: h + added.to(h.dtype)))
        if edit is not None:
            self.check_sites(site for site, _ in edit.points)
            hooks += [
                (name, function if self.autocast is None else in_full(function, self.device))
                for layer in range(self.n_layers)
                for name, function in layer_hooks(edit, layer, self._called_hooks)
            ]
        return attached(self.points_by_name, hooks)

    def attached(self, hooks: Iterable[tuple[str, HookFunction]]) -> AbstractContextManager[None]:
        """Hooks of a caller's own in the forwards of a block, called before those of an edit."""
        return attached(self.points_by_name, hooks)

    def edited_layer(self, edit: Edit, layer: int) -> AbstractContextManager[None]:
        """The edit's hooks of one layer, for callers that drive a block themselves."""
        return attached(self.points_by_name, layer_hooks(edit, layer, self._called_hooks))
