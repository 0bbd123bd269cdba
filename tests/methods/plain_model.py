"""The embedded model without a bridge: what its modules give, noted and edited by hooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from bench.models.bridge import quiet_transformers
from bench.models.embedded import embedded_folder
from methods import METHODS
from methods.core.points import PointGrid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel
from methods.method import Attribution
from tests.methods.small import apart, grid_of, setting

WIDE = ("attn_out", "mlp_out")
LAST = 29
POINTS = [(site, layer) for site in WIDE for layer in range(LAST + 1)]
Edits = Mapping[tuple[str, int], Callable[[Tensor], Tensor]]


class Plain(NamedTuple):
    """The last position's logits and what the modules of every layer gave."""

    logits: Tensor
    seen: dict[tuple[str, int], Tensor]
    patterns: tuple[Tensor, ...]

    def last(self, name: str, layer: int) -> Tensor:
        return self.seen[name, layer][:, -1]


class Setup(NamedTuple):
    """The model, the same as Hugging Face loads it, and two prompts, corrupted in number."""

    model: SubjectModel
    bare: Any
    some: Prompts
    clean: Plain
    corrupted: Plain

    def fit(self, grid: PointGrid, name: str, **settings: Any) -> Attribution:
        method = METHODS[name].load()(**settings)
        found: Attribution = method.fit(self.model, self.some, grid, setting())
        return found

    def prompt_scores(self, grid: PointGrid, name: str, **settings: Any) -> Tensor:
        found = self.fit(grid, name, **settings).prompt_scores
        assert found is not None
        return found

    def grid(self, *sites: str, positions: Any = "last") -> PointGrid:
        return grid_of(self.model, sites, positions, self.some.n_positions, True)

    def ld(self, logits: Tensor) -> Tensor:
        return self.some.logit_difference(logits)


def setup_of(smollm2: Any) -> Setup:
    """The model, and two prompts of it."""
    texts = [
        "The keys by the door",
        "The boys near the cars",
        "The key by the door",
        "The boy near the cars",
    ]
    clean = [smollm2.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    (are,), (is_,) = (smollm2.tokenizer.encode(word) for word in (" are", " is"))
    ids = torch.tensor(clean)
    some = Prompts(ids[:2], ids[2:], torch.tensor([are] * 2), torch.tensor([is_] * 2), False)
    auto: Any = AutoModelForCausalLM
    with quiet_transformers():
        bare = auto.from_pretrained(
            embedded_folder(None), dtype=torch.float32, attn_implementation="eager"
        )
    bare.eval().requires_grad_(False)
    with torch.no_grad():
        runs = [plain(bare, tokens) for tokens in (some.tokens, some.corrupted)]
    return Setup(SubjectModel(smollm2.bridge), bare, some, *runs)


@contextmanager
def hooked(bare: Any, seen: dict[tuple[str, int], Tensor], edits: Edits) -> Iterator[None]:
    """Notes and edits what attention, MLP and block of every layer, its projections and the
    embedding give; at `z`, what the output projection is given."""

    def after(key: tuple[str, int]) -> Callable[..., Any]:
        def note(module: Any, given: Any, output: Any) -> Any:
            own = output[0] if isinstance(output, tuple) else output
            own = seen[key] = edits[key](own) if key in edits else own
            return (own, *output[1:]) if isinstance(output, tuple) else own

        return note

    def before(key: tuple[str, int]) -> Callable[..., Any]:
        def note(module: Any, given: Any) -> Any:
            own = seen[key] = edits[key](given[0]) if key in edits else given[0]
            return (own, *given[1:])

        return note

    handles = [bare.model.embed_tokens.register_forward_hook(after(("embed", 0)))]
    for layer, block in enumerate(bare.model.layers):
        attention = block.self_attn
        parts = {"attn_out": attention, "mlp_out": block.mlp, "resid_post": block}
        parts |= {name: getattr(attention, f"{name}_proj") for name in ("q", "k", "v")}
        for name, module in parts.items():
            handles.append(module.register_forward_hook(after((name, layer))))
        handles.append(attention.o_proj.register_forward_pre_hook(before(("z", layer))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def plain(bare: Any, tokens: Tensor, edits: Edits | None = None) -> Plain:
    """A run of the Hugging Face model, under the caller's grad mode."""
    seen: dict[tuple[str, int], Tensor] = {}
    with hooked(bare, seen, edits or {}):
        out = bare(tokens, use_cache=False, output_attentions=True, logits_to_keep=1)
    return Plain(out.logits[:, -1], seen, out.attentions)


def at_last(value: Tensor) -> Callable[[Tensor], Tensor]:
    """Puts a value of each row at the last position."""
    return lambda h: torch.cat([h[:, :-1], value[:, None]], dim=1)


def gradients(
    real: Setup, tokens: Tensor, edits: Edits
) -> tuple[Plain, dict[tuple[str, int], Tensor]]:
    """dLD/dh at the last position of every attn_out and mlp_out."""
    with torch.enable_grad():
        start = {("embed", 0): lambda h: (edits.get(("embed", 0), torch.clone)(h)).requires_grad_()}
        run = plain(real.bare, tokens, {**edits, **start})
        found = torch.autograd.grad(real.ld(run.logits).sum(), [run.seen[one] for one in POINTS])
    return run, {point: one[:, -1] for point, one in zip(POINTS, found, strict=True)}


def in_order(by_point: Callable[[str, int], Tensor]) -> Tensor:
    """A number of every prompt at the last position, as scores are shaped."""
    rows = [torch.stack([by_point(s, at) for at in range(LAST + 1)], dim=-1) for s in WIDE]
    return torch.stack(rows, dim=1)[..., None]


def near(found: Tensor | None, expected: Tensor, relative: float = 1e-3) -> None:
    assert found is not None
    expected = expected.detach()
    assert expected.abs().max() > 0
    assert apart(found, expected) < relative * float(expected.abs().max())
