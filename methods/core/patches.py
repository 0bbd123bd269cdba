"""Patches of a contrast: which can change something, and the edit that carries them out."""

from __future__ import annotations

from collections.abc import Collection

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.core.corruption import Contrast
from methods.core.hooks import SiteLayer
from methods.core.points import HEAD_SITES, PointGrid, Site
from methods.core.subject import SubjectModel

Patches = Int[Tensor, "patch prompt_place_layer_position"]
"""One patch a row, on the CPU: prompt, index of the place, layer, index of the position."""

Patch = tuple[tuple[Int[Tensor, " patch"], ...], Float[Tensor, "patch width"]]
"""Where in (row, position) or (row, position, head), and the activations to put there."""


class PatchedRows:
    """Activation patching: rows of the forward get other activations at some points.

    Args:
        patches: (site, layer) -> where, and what to put there; a row may appear once or at many
            points.
    """

    def __init__(self, patches: dict[SiteLayer, Patch]) -> None:
        self.patches = patches

    @property
    def points(self) -> Collection[SiteLayer]:
        """Every (site, layer) with a patch."""
        return self.patches.keys()

    def __call__(self, site: Site, layer: int, h: Tensor) -> Tensor:
        """`h` with its patched rows replaced."""
        where, values = self.patches[site, layer]
        return h.index_put(where, values.to(h.dtype))


def reachable_patches(subject: SubjectModel, grid: PointGrid, contrast: Contrast) -> Patches:
    """The patches that can change something, by layer: the two activations differ, and a path
    leads from the point to the answer position."""
    ours = contrast.receiver.activations(subject, grid.site_layers)
    wanted = grid.included & grid.reaches_answer
    patches = []
    for (site, layer), donated in contrast.donated.items():
        differs = grid.at_points(site, (ours[site, layer] != donated).any(dim=-1)).cpu()
        rows = grid.rows(site)
        index = (differs & wanted[rows, layer]).nonzero()
        at_layer = torch.full((len(index), 1), layer)
        place = index[:, 1:2] + rows.start
        patches.append(torch.cat([index[:, :1], place, at_layer, index[:, 2:]], dim=1))
    return torch.cat(patches)


def patched_rows(
    grid: PointGrid,
    contrast: Contrast,
    patches: Patches,
    rows: Int[Tensor, " patch"],
    skipped: int = 0,
) -> PatchedRows:
    """The edit that carries out each patch in its row of a forward.

    What says where is brought to the model's device once, not site by site.

    Args:
        grid: the points.
        contrast: what is patched, and the activations that are put there.
        patches: the patches.
        rows: the row of each, on the CPU.
        skipped: positions at the start of the prompt that the forward leaves out.
    """
    n_sites = len(grid.sites)
    site_of_place = torch.tensor([grid.sites.index(place.site) for place in grid.places])
    first_place = torch.tensor([grid.rows(site).start for site in grid.sites])
    site = site_of_place[patches[:, 1]]
    head = patches[:, 1] - first_place[site]
    position = torch.tensor(grid.positions)[patches[:, 3]]
    point = patches[:, 2] * n_sites + site
    order = point.argsort(stable=True)
    device = next(iter(contrast.donated.values())).device
    table = torch.stack([patches[:, 0], position, head, rows])[:, order].to(device)
    edits: dict[SiteLayer, Patch] = {}
    points, counts = point.unique(return_counts=True)  # type: ignore[no-untyped-call]
    parts = torch.split(table, counts.tolist(), dim=1)
    for at, of_point in zip(points.tolist(), parts, strict=True):
        key = (grid.sites[at % n_sites], at // n_sites)
        prompts, positions, heads, of_rows = of_point
        within = (heads,) if key[0] in HEAD_SITES else ()
        values = contrast.donated[key][(prompts, positions, *within)]
        edits[key] = (of_rows, positions - skipped, *within), values
    return PatchedRows(edits)
