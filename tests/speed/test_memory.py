"""Peak memory of a training step on a model of GPT-2 XL's shape, in a process of its own."""

import subprocess
import sys
from typing import Any

LIMIT_GIB = 20
SCRIPT = """
import resource
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from bench.models.bridge import boot_bridge
from methods.core.objective import Objective
from methods.core.points import make_grid
from methods.core.subject import SubjectModel
from methods.method import Setting
from methods.steer_vec import SteerVec
from bench.evaluation.rows import rows_at_hand
from tests.speed.conftest import random_prompts
from bench.models.tiny import tiny_tokenizer

config = GPT2Config(
    n_layer=48, n_embd=1600, n_head=25, n_positions=64, vocab_size=50257,
    architectures=["GPT2LMHeadModel"], attn_implementation="eager",
)
with torch.device("meta"):
    model = GPT2LMHeadModel(config)
model = model.to_empty(device="cpu")
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.02)
for name, buffer in model.named_buffers():
    buffer.fill_(0 if "masked" in name else 1)
    if name.endswith("attn.bias"):
        buffer.tril_()
subject = SubjectModel(boot_bridge(model.eval(), tiny_tokenizer(), "gpt2-xl-shaped"))
prompts = random_prompts(8, 19)
subject.rows_per_forward = rows_at_hand(subject, prompts.n_positions)
grid = make_grid(
    ["resid_post"], "every", n_layers=48, n_positions=19, has_bos=True, keep_final_residual=True
)
found = SteerVec(epochs=2).fit(subject, prompts, grid, Setting(Objective(), 0))
assert found.intervention.theta().numel() == 1_459_200
print(subject.rows_per_forward, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def test_steer_vec_on_gpt2_xl(benchmark: Any) -> None:
    """48 layers, d_model 1600, 19 tokens: the paper's 1,459,200 parameters, 8 prompts."""

    def run() -> None:
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True
        )
        rows, peak = ran.stdout.split()[-2:]
        benchmark.extra_info.update(rows_per_forward=int(rows), peak_gib=float(peak))

    benchmark.pedantic(run, rounds=1)
    peak = benchmark.extra_info["peak_gib"]
    rows = benchmark.extra_info["rows_per_forward"]
    print(f"\nSteerVec on GPT-2 XL's shape: {rows} rows a forward, peak {peak:.1f} GiB")
    assert peak < LIMIT_GIB
