"""Start-up: help at once, and a cached model as soon as TransformerLens's own boot."""

import subprocess
import sys
from pathlib import Path

from bench.models.embedded import embedded_folder
from tests.speed.conftest import Comparison

ROOT = Path(__file__).parents[2]
OURS = "from bench.models.load import load_model; load_model('smollm2-135m', device='cpu')"
THEIRS = """
import torch
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = {folder!r}
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = AutoTokenizer.from_pretrained(folder)
TransformerBridge.boot_transformers(folder, hf_model=model, tokenizer=tokenizer, device="cpu")
"""


def python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)


def test_help(compare: Comparison) -> None:
    """Half a second; beside it a Python that does nothing."""
    compare(
        "--help (in Pythons that do nothing)",
        lambda: python("-m", "bench", "--help"),
        lambda: python("-c", "pass"),
        at_most=25,
    )
    assert min(compare.benchmark.stats.stats.data) < 0.5


def test_cached_model(compare: Comparison) -> None:
    script = THEIRS.format(folder=str(embedded_folder(None)))
    compare(
        "a cached model, imports included",
        lambda: python("-c", OURS),
        lambda: python("-c", script),
        at_most=1.2,
        rounds=3,
    )
