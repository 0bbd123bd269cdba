"""What the speed benchmarks share: SmolLM2 as its peers run it, and two sides timed in one run."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from bench.models.embedded import embedded_folder
from bench.models.load import LoadedModel, load_model
from methods.core.points import PointGrid, make_grid
from methods.core.prompts import Prompts
from methods.core.subject import SubjectModel

HERE = Path(__file__).parent
N_POSITIONS = 24
REGRESSION = 1.2
"""A stated ratio may be missed by this factor before a benchmark fails: machines are noisy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is a benchmark: left out unless asked for by `-m speed`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("speed")


@pytest.fixture(scope="session")
def plain() -> LoadedModel:
    """SmolLM2 with PyTorch's own linear layers."""
    return load_model("smollm2-135m", device="cpu", packed=False)


@pytest.fixture(scope="session")
def hugging_face() -> Any:
    """The same weights as a Hugging Face model without bridge, as its users load it."""
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(
        embedded_folder(None), dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval().requires_grad_(False)


def random_prompts(n: int, n_positions: int = N_POSITIONS) -> Prompts:
    """Prompts of random tokens behind a BOS; the corrupted ones differ everywhere else."""
    generator = torch.Generator().manual_seed(0)
    clean, corrupted = torch.randint(5, 4000, (2, n, n_positions), generator=generator)
    clean[:, 0] = corrupted[:, 0] = 0
    answers, foils = torch.randint(5, 4000, (2, n), generator=generator)
    return Prompts(clean, corrupted, answers, foils, has_bos=True)


def grid_of(subject: SubjectModel, n_positions: int = N_POSITIONS) -> PointGrid:
    """attn_out and mlp_out of all layers, every position."""
    return make_grid(
        ["attn_out", "mlp_out"],
        "every",
        n_layers=subject.n_layers,
        n_positions=n_positions,
        has_bos=True,
    )


class Comparison:
    """Times two sides in turn and keeps what was found for the printed table."""

    def __init__(self, benchmark: Any) -> None:
        self.benchmark = benchmark

    def __call__(
        self,
        name: str,
        ours: Callable[[], object],
        theirs: Callable[[], object],
        *,
        at_most: float,
        rounds: int = 5,
        theirs_times: float = 1,
    ) -> None:
        """Fails if ours / theirs is over `at_most` by more than `REGRESSION`.

        `theirs_times` multiplies the other side, where only a part of its work is timed.
        """
        ours(), theirs()
        others = []

        def timed() -> None:
            start = time.perf_counter()
            theirs()
            others.append(time.perf_counter() - start)

        # The other side runs between our rounds, so that a noisy moment hits both.
        self.benchmark.pedantic(ours, setup=timed, rounds=rounds, warmup_rounds=0)
        own = median(self.benchmark.stats.stats.data)
        other = median(others) * theirs_times
        self.benchmark.extra_info.update(ratio=own / other, ours=own, theirs=other)
        print(f"\n{name}: ours {own:.3f} s, theirs {other:.3f} s, ratio {own / other:.3f}")
        assert own / other <= at_most * REGRESSION


@pytest.fixture
def compare(benchmark: Any) -> Comparison:
    """Two sides in one run."""
    return Comparison(benchmark)
