"""Methods of the field against the bare passes that the formulas of docs/methods.md name.

The model is the first layers of SmolLM2, so that all take minutes; what a method adds to a pass is
the same for each layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from bench.models.bridge import boot_bridge, quiet_transformers
from bench.models.embedded import embedded_folder
from bench.models.load import load_tokenizer
from methods import METHODS
from methods.core.objective import Objective
from methods.core.points import make_grid
from methods.core.subject import SubjectModel
from methods.method import Setting
from tests.speed.conftest import Comparison, random_prompts
from tests.speed.test_gradients import forward, forward_backward

N_LAYERS = 4
N_PROMPTS = 4
WIDE = ("attn_out", "mlp_out")
POSITIONS = (12, 23)


class Case(NamedTuple):
    """A method, its formula in passes of all prompts (forwards alone, and with a backward), and how
    many times as long these may take by what docs/methods.md says of work that is no pass.
    """

    name: str
    settings: dict[str, Any]
    forwards: int
    both: int
    sites: tuple[str, ...] = WIDE
    times: float = 1.0


CASES = [
    Case("path_gradients", {"path": "clean_corrupted"}, 2, 2),
    Case("path_gradients", {"path": "inputs", "steps": 3}, 2, 3),
    Case("path_gradients", {"path": "conductance", "steps": 2}, 0, 3),
    Case("path_gradients", {"path": "joint", "steps": 3}, 1, 3),
    Case("path_gradients", {"path": "activations", "steps": 2}, 1, 2 * len(WIDE) * N_LAYERS),
    Case("local_rules", {"rules": "relp"}, 1, 1),
    Case("local_rules", {"rules": "attn_lrp"}, 1, 1),
    Case("local_rules", {"rules": "cp_lrp"}, 1, 1),
    Case("local_rules", {"rules": "gim"}, 1, 1),
    Case("local_rules", {"drop": True}, 1, 1 + N_LAYERS),
    Case("atp_star", {}, 1, 1 + N_LAYERS),
    Case("atp_star", {}, 4, 2 + 2 * N_LAYERS, ("q",)),
    Case("captum", {"algorithm": "integrated_gradients", "samples": 3}, 1, 3),
    Case("captum", {"algorithm": "gradient_shap", "samples": 3}, 1, 3),
    Case("iterated_grad_scalar", {"steps": 2}, 1, 4),
    Case("direct_effect", {}, 2, 0),
    Case("logit_lens", {}, 1, 0, ("resid_post",)),
    Case("information_flow", {}, 1, 0, WIDE, 1.6),
    Case("diff_means", {}, 2, 0),
    Case("sadi", {}, 2, 0),
    Case("probe", {}, 2, 0),
    Case("hard_concrete", {"steps": 3}, 2, 3),
    Case("hard_concrete", {"steps": 3, "towards": "optimal"}, 2, 3),
    Case("uniform_gates", {"steps": 3}, 2, 3),
    Case("causal_head_gating", {"steps": 1}, 1, 3, ("z",)),
    Case("ensemble", {"members": ["attr_patch", "grad_scalar"]}, 1, 2),
    Case("kept_signs", {}, 1, 1),
]


def shallow_model() -> Any:
    """The first layers of SmolLM2 as its users load it."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    with quiet_transformers():
        model = auto.from_pretrained(
            embedded_folder(None),
            dtype=torch.float32,
            attn_implementation="eager",
            num_hidden_layers=N_LAYERS,
        )
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def bare_model() -> Any:
    """Without bridge."""
    return shallow_model()


@pytest.fixture(scope="module")
def shallow() -> SubjectModel:
    """With the suite's own bridge and PyTorch's own linear layers."""
    tokenizer = load_tokenizer("smollm2-135m")[0]
    with quiet_transformers():
        return SubjectModel(boot_bridge(shallow_model(), tokenizer, str(embedded_folder(None))))


def fit_of(
    subject: SubjectModel,
    case: tuple[str, dict[str, Any]],
    sites: tuple[str, ...],
    positions: Any,
    n_prompts: int,
) -> Callable[[], object]:
    """A whole fit of a method."""
    prompts = random_prompts(n_prompts)
    grid = make_grid(
        sites,
        positions,
        n_layers=subject.n_layers,
        n_positions=prompts.n_positions,
        has_bos=True,
        heads=subject.heads,
    )
    method = METHODS[case[0]].load()(**case[1])
    return lambda: method.fit(subject, prompts, grid, Setting(Objective(), 0))


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(map(str, case[:2])))
def test_passes(compare: Comparison, shallow: SubjectModel, bare_model: Any, case: Case) -> None:
    """Every point from passes of all prompts."""
    tokens = random_prompts(N_PROMPTS).tokens
    once, with_backward = forward(bare_model, tokens), forward_backward(bare_model, tokens)

    def bare() -> None:
        for _ in range(case.forwards):
            once()
        for _ in range(case.both):
            with_backward()

    ours = fit_of(shallow, case[:2], case.sites, "every", N_PROMPTS)
    compare(" ".join(map(str, case)), ours, bare, at_most=1.0, theirs_times=case.times)


P = len(POSITIONS) * len(WIDE) * N_LAYERS


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("function_vectors", {}, P + 2),
        ("coax", {}, 2 * P + 2),
        ("captum", {"samples": 4}, 4 * 2 * N_LAYERS + 1),
        ("captum", {"algorithm": "kernel_shap", "samples": 32}, 32),
        ("captum", {"algorithm": "feature_ablation", "group": "point"}, P + 1),
    ],
)
def test_rows(
    compare: Comparison,
    shallow: SubjectModel,
    bare_model: Any,
    name: str,
    settings: dict[str, Any],
    rows: int,
) -> None:
    """One prompt, points at some positions, a row of a whole forward for each patch."""
    prompts = random_prompts(1)
    full, rest = divmod(rows, shallow.rows_per_forward)
    many, few = (
        forward(bare_model, prompts.tokens.repeat(n, 1)) for n in (shallow.rows_per_forward, rest)
    )

    def bare() -> None:
        for _ in range(full):
            many()
        if rest:
            few()

    ours = fit_of(shallow, (name, settings), WIDE, list(POSITIONS), 1)
    compare(f"{name} {settings}", ours, bare, at_most=1.0)
