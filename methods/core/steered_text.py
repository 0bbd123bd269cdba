"""An intervention on whatever a model is given: a prompt, padded or not, and what follows it.

The suite's own forwards are of prompts whose positions it knows. Elsewhere a forward may be of
prompts with padding on either side, or of what is generated behind one, with a cache or without. A
token's position is its place among its row's own tokens, so that a row is steered in a batch as it
is steered alone.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from methods.core.hooks import SiteLayer
from methods.core.intervention import EditFunction, Intervention
from methods.core.padding import Padded
from methods.core.points import Site
from tasks.errors import UserInputError


def takes_any_length(intervention: Intervention) -> bool:
    """Whether it is tied to no position, and was made at all of them."""
    grid = intervention.grid
    everywhere = set(grid.positions) >= set(range(int(grid.has_bos), grid.n_positions))
    return everywhere and intervention.on(grid) is not None


class SteeredText:
    """The `Edit` of one forward after another, each of which is announced by `starts`.

    Scalars and vectors belong to the positions of prompts of one length, and leave what is
    generated behind them alone; the prompt's activations stay as they were edited, in the cache.
    Gates that were trained at all positions act on every token but the BOS, whatever the length.

    Args:
        intervention: what is done, on the model's device.
        beta: how strongly.
    """

    def __init__(self, intervention: Intervention, beta: float) -> None:
        self.intervention, self.beta = intervention, beta
        self.points = intervention.grid.site_layers
        self.any_length = takes_any_length(intervention)
        self._prompt: tuple[Tensor, Tensor] | None = None
        self._edit: EditFunction | None = None

    def starts(
        self,
        tokens: Int[Tensor, "row token"] | Float[Tensor, "row token width"],
        past: int = 0,
        mask: Tensor | None = None,
    ) -> None:
        """A forward begins; `ends` ends it.

        Args:
            tokens: ids, or embeddings, of what is run.
            past: how many columns are in the cache before them.
            mask: (row, past + token), 0 at padding; None where there is none.

        Raises:
            UserInputError: for a mask that does not say which tokens are padding, and for a prompt
                of another length than the intervention was made for.
        """
        real = _real(tokens, past, mask)
        beta = torch.full((len(tokens),), self.beta, device=tokens.device)
        if self.any_length:
            self._edit = self._on_every_token(real, past, beta)
        else:
            self._require_prompt(tokens, past, real)
            self._edit = _nothing if past else self._on_the_prompt(real, beta)

    def ends(self) -> None:
        """The forward is over."""
        self._edit = None

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """The activation after the intervention.

        Raises:
            UserInputError: outside of a forward, where nobody knows which tokens these are.
        """
        if self._edit is None:
            raise UserInputError("A part of a steered model was run alone: run the whole model.")
        return self._edit(site, layer, h)

    def _on_every_token(
        self, real: Bool[Tensor, "row column"], past: int, beta: Float[Tensor, " row"]
    ) -> EditFunction:
        """All tokens but the BOS; the last layer's resid_post not at the answer position either."""
        own, length = self.intervention.grid, real.shape[1] - past
        grid = replace(
            own,
            positions=tuple(range(length)),
            n_positions=length,
            has_bos=False,
            keep_final_residual=True,
        )
        moved = self.intervention.on(grid)
        assert moved is not None  # `any_length`
        function = moved.to(beta.device).bind(beta, 0)
        position = real.cumsum(dim=1) - 1
        acts = real & (position >= int(own.has_bos))
        columns = torch.arange(real.shape[1], device=real.device)
        but_last = acts & (columns != Padded.of(real).last[:, None])
        final: SiteLayer | None = (Site.RESID_POST, own.n_layers - 1)
        final = None if own.keep_final_residual else final

        def edit(site: Site, layer: int, h: Tensor) -> Tensor:
            chosen = (but_last if (site, layer) == final else acts)[:, past:]
            chosen = chosen.view(*h.shape[:2], *[1] * (h.dim() - 2))
            return torch.where(chosen, function(site, layer, h), h)

        return edit

    def _on_the_prompt(
        self, real: Bool[Tensor, "row column"], beta: Float[Tensor, " row"]
    ) -> EditFunction:
        """Each row's first tokens, as many as the prompts had that the parameters belong to."""
        function = self.intervention.bind(beta, 0)
        own_first = (~real).int().argsort(dim=1, stable=True)
        columns = own_first[:, : self.intervention.grid.n_positions]
        at = torch.arange(len(real), device=real.device)[:, None], columns

        def edit(site: Site, layer: int, h: Tensor) -> Tensor:
            return h.index_put(at, function(site, layer, h[at]))

        return edit

    def _require_prompt(self, tokens: Tensor, past: int, real: Tensor) -> None:
        """Notes a prompt, which what is generated behind it is known by.

        Without a cache, what is generated comes with its whole prompt again.

        Raises:
            UserInputError: for anything else.
        """
        needed = self.intervention.grid.n_positions
        counts = real.sum(dim=1)
        if not past and bool((counts == needed).all()):
            self._prompt = tokens.detach().clone(), real
            return
        if self._prompt is not None and self._goes_on(*self._prompt, tokens, past, real):
            return
        if past:
            raise UserInputError(
                f"{past} positions are in the cache that were not run as one prompt of {needed} "
                "tokens under the intervention. Scalars and vectors belong to positions: run the "
                "whole prompt in one forward within the block."
            )
        found = ", ".join(map(str, sorted({int(count) for count in counts})))
        raise UserInputError(
            f"The intervention was made for prompts of {needed} tokens, and this one has {found} "
            "(BOS included, padding not). Scalars and vectors belong to positions; dynamic scalars "
            "take any length."
        )

    def _goes_on(
        self, prompt: Tensor, mask: Tensor, tokens: Tensor, past: int, real: Tensor
    ) -> bool:
        """Whether a forward is of what stands behind the prompt."""
        width = prompt.shape[1]
        if past:
            own = real[:, :width].sum(dim=1)
            return past >= width and bool((own == self.intervention.grid.n_positions).all())
        longer = tokens.shape[1] > width
        return longer and all(
            torch.equal(now[:, :width], then) for now, then in ((tokens, prompt), (real, mask))
        )


def _nothing(site: Site, layer: int, h: Tensor) -> Tensor:
    """Leaves what is generated behind a prompt as it is."""
    return h


def _real(tokens: Tensor, past: int, mask: Tensor | None) -> Bool[Tensor, "row column"]:
    """True at every column that holds a token, the cache's included.

    Raises:
        UserInputError: for a mask of another form.
    """
    shape = len(tokens), past + tokens.shape[1]
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=tokens.device)
    if not isinstance(mask, Tensor) or tuple(mask.shape) != shape:
        found = f"of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise UserInputError(
            f"attention_mask: steering needs one of shape {shape} (row, token; those in the cache "
            f"included) that is 0 at padding, and this is {found}. A cache of a fixed size makes "
            "others: take the usual one, which grows."
        )
    return mask.to(tokens.device).bool()
