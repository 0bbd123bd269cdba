"""Which sites a model has: hooks that are there, and activations that are what their name says.

`attn_out` and `mlp_out` are what is added to the residual stream, `resid_mid` is the stream between
the two. Where a multiplier, a norm or a second branch stands between a module and the stream, what
the module gives is none of these, so it is looked at: resid_pre + attn_out + mlp_out = resid_post.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from methods.core.hooks import attached
from methods.core.points import HEAD_SITES, Heads, Site
from tasks.errors import UserInputError

if TYPE_CHECKING:
    from methods.core.subject import SubjectModel

N_POSITIONS = 6
WIDE = (Site.ATTN_OUT, Site.RESID_MID, Site.MLP_OUT, Site.RESID_POST)
HOOKS = {
    "pre": "hook_resid_pre",
    "mid": "hook_resid_mid",
    Site.ATTN_OUT: "hook_attn_out",
    Site.MLP_OUT: "hook_mlp_out",
    Site.RESID_POST: "hook_resid_post",
    Site.Q: "attn.hook_q",
    "q_normed": "attn.hook_q_normed",
    Site.K: "attn.hook_k",
    "k_normed": "attn.hook_k_normed",
    Site.V: "attn.hook_v",
    Site.Z: "attn.hook_z",
}

ABSENT = "does not exist"
NOT_ADDED = "is not what is added to the residual stream (resid_pre + attn_out + mlp_out is not "
NOT_ADDED += "resid_post)"
NOT_MID = "is not resid_pre + attn_out, the stream between attention and MLP"
NOT_NEXT = "is not what the next layer starts from"
NO_HEADS = "has not the axis of heads that its configuration states"


@dataclass(frozen=True)
class Sites:
    """What was found.

    Attributes:
        offered: the sites that every layer has.
        missing: site -> why it is not offered, with the layers.
        silent: names of hooks that are there and are not called.
    """

    offered: frozenset[Site]
    missing: dict[Site, str]
    silent: frozenset[str]

    def check(self, wanted: Collection[Site]) -> None:
        """Looks whether these sites are among them.

        Raises:
            UserInputError: for those that are not; says why, and in which layers.
        """
        if why := [self.missing[site] for site in Site if site in wanted and site in self.missing]:
            offered = ", ".join(site for site in Site if site in self.offered)
            raise UserInputError(f"sites: {'; '.join(why)}; it has {offered or 'no site'}.")


def length_in(subject: SubjectModel, wanted: int = N_POSITIONS) -> int:
    """As many tokens as are wanted, or as the context of a model of fewer has."""
    return max(2, min(wanted, int(getattr(subject.bridge.cfg, "n_ctx", 0) or wanted)))


def heads_of(bridge: Any) -> Heads | None:
    """The attention heads, if every layer's values and weighted values can be hooked."""
    cfg = bridge.cfg
    attention = [getattr(block, "attn", None) for block in bridge.blocks]
    needed = ("hook_v", "hook_z", "W_O")
    if not all(_has(at, name) for at in attention for name in needed):
        return None
    n_kv_heads = getattr(cfg, "n_key_value_heads", None) or cfg.n_heads
    return Heads(int(cfg.n_heads), int(n_kv_heads), int(cfg.d_head))


def _has(module: Any, name: str) -> bool:
    try:
        return hasattr(module, name)
    except Exception:  # the bridge works some out, and not of every kind of layer
        return False


def has_queries_by_head(bridge: Any) -> bool:
    """Queries and keys can be hooked head by head, behind any norm of theirs.

    Not where that norm acts on all heads at once (OLMo 2), nor where a query comes with a gate.
    """
    if getattr(bridge.cfg, "gated_q_proj", False):
        return False
    for block in bridge.blocks:
        attention: Any = getattr(block, "attn", None)
        if not (_has(attention, "hook_q") and _has(attention, "hook_k")):
            return False
        phase = getattr(attention, "_qk_norm_phase", None)
        if "q_norm" in attention.submodules and phase != "post_reshape":
            return False
    return True


def find_sites(subject: SubjectModel) -> Sites:
    """Looks at every site in one forward of a few tokens."""
    seen = _activations(subject)
    missing: dict[Site, dict[str, list[int]]] = {}
    judges: list[Callable[[_Layer], Iterable[tuple[Site, str]]]] = [_streams, _heads]
    for layer in range(subject.n_layers):
        of = _Layer(subject, seen, layer)
        for judge in judges:
            for site, why in judge(of):
                missing.setdefault(site, {}).setdefault(why, []).append(layer)
    everywhere = list(range(subject.n_layers))
    for site in HEAD_SITES if subject.heads is None else ():
        missing.setdefault(site, {"whose heads cannot be hooked": everywhere})
    for site in () if has_queries_by_head(subject.bridge) else (Site.Q, Site.K):
        missing.setdefault(site, {"whose heads cannot be hooked": everywhere})
    if subject.bridge.cfg.parallel_attn_mlp:
        missing[Site.RESID_MID] = {"whose attention and MLP run in parallel": everywhere}
    architecture = str(subject.bridge.cfg.architecture)
    return Sites(
        frozenset(Site) - set(missing),
        {site: _in_words(site, why, architecture) for site, why in missing.items()},
        frozenset(name for name, key in _hook_names(subject).items() if key not in seen),
    )


def _hook_names(subject: SubjectModel) -> dict[str, tuple[Any, int]]:
    """Every hook that is looked at, where the bridge has it."""
    names = {
        f"blocks.{layer}.{hook}": (key, layer)
        for layer in range(subject.n_layers)
        for key, hook in HOOKS.items()
    }
    return {name: key for name, key in names.items() if name in subject.points_by_name}


def _in_words(site: Site, why: dict[str, list[int]], architecture: str) -> str:
    parts = []
    for reason, layers in why.items():
        if reason.startswith("whose"):
            parts.append(f"{site} does not exist in {architecture}, {reason}")
        else:
            word = "layer" if len(layers) == 1 else "layers"
            parts.append(
                f"{site} {reason} in {word} {', '.join(map(str, layers))} of {architecture}"
            )
    return "; ".join(parts)


def _streams(of: _Layer) -> Iterable[tuple[Site, str]]:
    """What is wrong with the sites of width d_model."""
    pre, mid, post = of.wide("pre"), of.wide("mid"), of.wide(Site.RESID_POST)
    attention, mlp = of.wide(Site.ATTN_OUT), of.wide(Site.MLP_OUT)
    whole = None not in (pre, attention, mlp, post) and of.same(
        pre + attention + mlp, post, attention + mlp
    )
    between = pre is not None and mid is not None and attention is not None
    between = between and of.same(pre + attention, mid, attention)
    behind = mid is not None and mlp is not None and post is not None
    behind = behind and of.same(mid + mlp, post, mlp)
    if attention is None or not (whole or between):
        yield Site.ATTN_OUT, ABSENT if attention is None else NOT_ADDED
    if mlp is None or not (whole or behind):
        yield Site.MLP_OUT, ABSENT if mlp is None else NOT_ADDED
    if not between:
        yield Site.RESID_MID, ABSENT if attention is None or mid is None else NOT_MID
    following = of.next_pre()
    if post is None:
        yield Site.RESID_POST, ABSENT
    elif following is not None and not of.same(following, post, post):
        yield Site.RESID_POST, NOT_NEXT


def _heads(of: _Layer) -> Iterable[tuple[Site, str]]:
    """What is wrong with the sites of heads, where there are heads."""
    heads = of.subject.heads
    if heads is None:
        return
    for hook in (Site.Q, Site.K, Site.V, Site.Z):
        h, normed = of.once(hook), of.once(f"{hook}_normed")
        h = h if normed is None or normed.dim() != 4 else normed.transpose(1, 2)
        expected = (2, length_in(of.subject), heads.count(hook), heads.d_head)
        if h is None or tuple(h.shape) != expected:
            why = ABSENT if h is None else NO_HEADS
            yield from ((site, why) for site in ((Site.Z, Site.O) if hook is Site.Z else (hook,)))


class _Layer:
    """What the hooks of a layer saw."""

    def __init__(self, subject: SubjectModel, seen: dict[Any, list[Any]], layer: int) -> None:
        self.subject, self.seen, self.layer = subject, seen, layer
        self.dtype = subject.autocast or subject.dtype

    def once(self, hook: Any, layer: int | None = None) -> Tensor | None:
        """What a hook saw; None where it is not called, or more often than once."""
        values = self.seen.get((hook, self.layer if layer is None else layer), [])
        return values[0] if len(values) == 1 and isinstance(values[0], Tensor) else None

    def wide(self, hook: Any, layer: int | None = None) -> Any:
        """The same in fp32, None also where it is not of width d_model."""
        h = self.once(hook, layer)
        right = h is not None and h.shape == (2, length_in(self.subject), self.subject.d_model)
        return h.float() if right and h is not None else None

    def next_pre(self) -> Tensor | None:
        """What the next layer starts from, as far as it is seen."""
        found: Tensor | None = self.wide("pre", self.layer + 1)
        return found

    def same(self, found: Tensor, expected: Tensor, part: Tensor) -> bool:
        """Equal but for rounding, which goes with the stream; an error with the `part` of it."""
        rounding = 4 * torch.finfo(self.dtype).eps * expected.norm(dim=-1)
        share = 1e-3 if self.subject.is_exact else 0.02
        allowed = share * part.norm(dim=-1) + rounding
        error = (found - expected).norm(dim=-1)
        return bool(((error <= allowed) | ~torch.isfinite(error)).all())


@torch.no_grad()
def _activations(subject: SubjectModel) -> dict[Any, list[Any]]:
    """(hook, layer) -> what it saw, call by call."""
    seen: dict[Any, list[Any]] = {}

    def note(key: Any) -> Callable[..., None]:
        def keep(h: Any, hook: Any) -> None:
            seen.setdefault(key, []).append(h.detach() if isinstance(h, Tensor) else h)

        return keep

    hooks = [(name, note(key)) for name, key in _hook_names(subject).items()]
    vocabulary = int(subject.bridge.cfg.d_vocab)
    tokens = (torch.arange(length_in(subject)).repeat(2, 1) * 7919 + 11) % vocabulary
    tokens[1, 1] = (tokens[1, 1] + 1) % vocabulary
    with attached(subject.points_by_name, hooks), subject.precision():
        subject.bridge(tokens.to(subject.device), logits_to_keep=1, use_cache=False)
    return seen


@torch.no_grad()
def unheeded_hooks(subject: SubjectModel) -> frozenset[str]:
    """Hooks of attention scores and patterns whose change the model does not go on with.

    In a forward of two tokens the second one's score of the first is made so small that its share
    of the pattern is 0, and then the pattern is made 0, so that what a head reads is.
    """
    heeded: set[str] = set()

    def shrink(scores: Tensor, hook: Any) -> Tensor:
        scores = scores.clone()
        scores[..., 1, 0] -= 1e4
        return scores

    def look_at_pattern(layer: int) -> Callable[[Tensor, Any], Tensor]:
        def look(pattern: Tensor, hook: Any) -> Tensor:
            if not bool(pattern[..., 1, 0].any()):
                heeded.add(f"blocks.{layer}.attn.hook_attn_scores")
            return torch.zeros_like(pattern)

        return look

    def look_at_z(layer: int) -> Callable[[Tensor, Any], None]:
        def look(z: Tensor, hook: Any) -> None:
            if not bool(z.any()):
                heeded.add(f"blocks.{layer}.attn.hook_pattern")

        return look

    hooks: list[tuple[str, Callable[..., Any]]] = []
    for layer in range(subject.n_layers):
        name = f"blocks.{layer}.attn"
        hooks.append((f"{name}.hook_attn_scores", shrink))
        hooks.append((f"{name}.hook_pattern", look_at_pattern(layer)))
        hooks.append((f"{name}.hook_z", look_at_z(layer)))
    there = [(name, function) for name, function in hooks if name in subject.points_by_name]
    tokens = torch.tensor([[11, 12]], device=subject.device) % int(subject.bridge.cfg.d_vocab)
    with attached(subject.points_by_name, there), subject.precision():
        subject.bridge(tokens, logits_to_keep=1, use_cache=False)
    return frozenset(name for name, _ in hooks if not name.endswith("_z")) - heeded
