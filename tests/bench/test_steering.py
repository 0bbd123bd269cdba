"""A fitted intervention as a file, on a bridge, and on a plain Hugging Face model's generate."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from bench.cli.steer import _kind_of_prompt
from bench.execution.run import run_matrix
from bench.models.bridge import boot_bridge
from bench.models.load import LoadedModel
from bench.models.tiny import ARCHITECTURES, tiny_model, tiny_tokenizer
from bench.steering import intervention_of, load_intervention, save_intervention, steered
from bench.store.results import RunStore
from methods.core.attention_output import heads_outputs
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.hidden_scaling import HiddenScaling
from methods.core.intervention import Intervention
from methods.core.points import PointGrid, Site, make_grid
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.architectures.tiny import tiny_config
from tests.command import output_of
from tests.small import brief_matrix

LENGTH = 7
MADE = ("static", "vectors", "dynamic", "hidden")
TOKENS = torch.tensor([[0, 5, 9, 33, 2, 7, 11], [0, 8, 9, 3, 21, 7, 60]])


def grid_of(subject: SubjectModel, sites: list[str]) -> PointGrid:
    return make_grid(
        sites, "all", n_layers=subject.n_layers, n_positions=LENGTH, has_bos=True,
        heads=subject.heads,
    )  # fmt: skip


def made(kind: str, subject: SubjectModel) -> Intervention:
    """A random intervention at every site it can act on."""
    generator = torch.Generator().manual_seed(1)
    unable = [Site.O] if kind in ("static", "vectors") else []  # z is o for scalars
    sites = [site.value for site in Site if site in subject.sites and site not in unable]
    grid = grid_of(subject, sites)
    if kind == "static":
        return StaticScaling(grid, 0.5 * torch.randn(grid.shape, generator=generator))
    if kind == "vectors":
        return SteeringVectors(grid, torch.randn((*grid.shape, 32), generator=generator))
    # Strong gates at seven sites of a layer leave next to nothing of some activations, and what the
    # next norm makes of that is rounding.
    gates = 0.2 * torch.randn((*grid.shape[:2], 32), generator=generator)
    if kind == "hidden":
        outer = torch.randn((*grid.shape[:2], 2), generator=generator)
        wide = gates[:, :, None].repeat(1, 1, 2, 1)
        return HiddenScaling(grid, wide, outer, heads_outputs(subject), activation="tanh")
    return DynamicScaling(grid, gates, heads_outputs(subject))


def subject_of(model: Any) -> SubjectModel:
    return SubjectModel(boot_bridge(model, tiny_tokenizer(), "tiny"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_a_plain_model_is_steered_as_the_suite_steers(architecture: str) -> None:
    """Against the suite's own way, on a second copy of the model; beta = 0 changes no bit of a
    bridge, and of a plain model, which runs through one in the block, nothing but rounding."""
    subject, plain = subject_of(tiny_model(architecture)), tiny_model(architecture)
    before, on_bridge = plain(TOKENS).logits, subject.bridge(TOKENS)
    for intervention in (made(kind, subject) for kind in MADE):
        with steered(subject.bridge, intervention, 0.0):
            assert torch.equal(subject.bridge(TOKENS), on_bridge)
        expected = subject.logits(TOKENS, intervention.at(torch.full((2,), 1.5)))
        assert not torch.allclose(expected, before[:, -1], atol=1e-2)
        with steered(subject.bridge, intervention, 1.5):
            assert torch.allclose(subject.bridge(TOKENS)[:, -1], expected, atol=1e-4)
        with steered(plain, intervention, 1.5):
            assert torch.allclose(plain(TOKENS).logits[:, -1], expected, atol=1e-4)
        assert torch.equal(plain(TOKENS).logits, before)
    with steered(plain, intervention, 0.0):
        assert torch.allclose(plain(TOKENS).logits, before, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "cached"),
    [("static", True), ("static", False), ("vectors", True), ("dynamic", True), ("dynamic", False)],
)
def test_generate_goes_on_from_the_steered_prompt(kind: str, cached: bool) -> None:
    """Token by token, generation is the argmax of whole forwards under the same edits."""
    plain, subject = tiny_model("llama"), subject_of(tiny_model("llama"))
    intervention, tokens = made(kind, subject), TOKENS[:1]
    settings: dict[str, Any] = {
        "do_sample": False, "max_new_tokens": 4, "eos_token_id": None, "pad_token_id": 63,
        "attention_mask": torch.ones_like(tokens),
    }  # fmt: skip
    plain_text = plain.generate(tokens, **settings)
    with steered(plain, intervention, 2.0):
        found = plain.generate(tokens, use_cache=cached, **settings)
    expected = tokens
    with steered(subject.bridge, intervention, 2.0), torch.no_grad():
        for _ in range(4):
            following = subject.bridge(expected, use_cache=False)[:, -1].argmax(-1)
            expected = torch.cat([expected, following[:, None]], dim=1)
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain_text)


def test_prompts_of_another_length_are_for_dynamic_scalars_alone() -> None:
    subject = subject_of(tiny_model("llama"))
    longer = torch.cat([TOKENS, TOKENS[:, 1:3]], dim=1)
    with steered(subject.bridge, made("dynamic", subject), 1.0), torch.no_grad():
        assert subject.bridge(longer).shape[1] == LENGTH + 2
    for kind in ("static", "vectors"):
        with steered(subject.bridge, made(kind, subject), 1.0), torch.no_grad():
            for prompt in (longer, TOKENS[:, :3], longer.flip(0), TOKENS[:, :-1]):
                words = f"prompts of 7 tokens, and this one has {prompt.shape[1]}"
                with pytest.raises(UserInputError, match=words):
                    subject.bridge(prompt)
                if prompt.shape[1] < LENGTH:  # a right one changes nothing for wrong ones
                    assert subject.bridge(TOKENS).shape[1] == LENGTH
            assert subject.bridge(longer).shape[1] == LENGTH + 2  # as if generated behind TOKENS
    other = tiny_model("llama", n_layers=2)
    with (
        pytest.raises(UserInputError, match="3 layers; this one has 2"),
        steered(other, made("static", subject), 1.0),
    ):
        pass


def other_model(kind: str) -> Any:
    return transformers.AutoModelForCausalLM.from_config(tiny_config(kind)).eval()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": lambda: "gpt2"}, "a TransformerBridge or a Hugging Face causal LM, and this"),
        ({"model": lambda: torch.nn.Linear(2, 2)}, "and this is Linear"),
        ({"model": lambda: tiny_model("llama").model}, "LlamaModel gives no logits of a next"),
        ({"model": lambda: other_model("mamba")}, "MambaForCausalLM has no blocks.0.hook_attn_out"),
        ({"model": lambda: tiny_model("gpt_neox")}, "has no resid_mid, since its attention and"),
        (
            {"model": lambda: other_model("ctrl")},
            r"TransformerLens [\d.]+ cannot be .* CTRLLMHead",
        ),
        ({"intervention": "a.safetensors"}, "str is no intervention"),
        *(
            ({"beta": beta}, "beta has to be a finite number")
            for beta in (math.nan, math.inf, 1e40, "1", None, torch.ones(2))
        ),
    ],
)
def test_what_cannot_be_steered_is_said(change: dict[str, Any], words: str) -> None:
    grid = make_grid(["attn_out", "resid_mid"], "all", n_layers=3, n_positions=7, has_bos=True)
    given = {"intervention": StaticScaling(grid, torch.ones(grid.shape)), "beta": 1.0, **change}
    model = given.pop("model", lambda: tiny_model("llama"))()
    parts = list(map(type, model.modules())) if isinstance(model, torch.nn.Module) else []
    with pytest.raises(UserInputError, match=words), steered(model, **given):
        pass
    assert not parts or parts == list(map(type, model.modules()))


def test_blocks_are_nested_on_a_bridge() -> None:
    """Two bridges around one model would see each other's modules."""
    subject, plain = subject_of(tiny_model("llama")), tiny_model("llama")
    intervention = made("static", subject)
    with (
        pytest.raises(UserInputError, match="steer the bridge itself"),
        steered(plain, intervention, 1.0),
        steered(plain, intervention, 1.0),
    ):
        pass
    vectors = SteeringVectors(intervention.grid, torch.ones(*intervention.grid.shape, 32))
    with torch.no_grad(), steered(subject.bridge, vectors, 0.5):
        with steered(subject.bridge, vectors, 0.5):
            twice = subject.bridge(TOKENS)
        once = subject.bridge(TOKENS)
    with torch.no_grad(), steered(subject.bridge, vectors, 1.0):
        assert torch.allclose(subject.bridge(TOKENS), twice, atol=1e-4)
    assert not torch.allclose(once, twice, atol=1e-2)


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    subject, other = subject_of(tiny_model("qwen2")), subject_of(tiny_model("gpt2"))
    for kind in MADE:
        intervention, file = made(kind, subject), tmp_path / kind
        save_intervention(intervention, file, {"method": "mine"})
        again = load_intervention(file)
        assert type(again) is type(intervention)
        assert again.grid == intervention.grid
        at_strength = []
        for one in (intervention, again):
            with steered(subject.bridge, one, 1.5), torch.no_grad():
                at_strength.append(subject.bridge(TOKENS))
        assert torch.equal(*at_strength)
        with (
            pytest.raises(UserInputError, match=r"n_kv_heads=2.*n_kv_heads=4"),
            steered(other.bridge, again, 1.0),
        ):
            pass
        with safe_open(file, framework="pt") as stored:
            about = json.loads(stored.metadata()["attribution_bench"])["about"]
        assert about == {"method": "mine"}


def test_other_files_are_refused(tmp_path: Path) -> None:
    nested = {"attribution_bench": "[" * 100_000}
    save_file({"alpha": torch.ones(1)}, tmp_path / "nested", metadata=nested)
    for at, content in enumerate((b"", b"\x00" * 100, b"\xff" * 9, b"{}" * 50)):
        (tmp_path / str(at)).write_bytes(content)
    for name in ("nested", "none", *"0123"):
        with pytest.raises(UserInputError, match="is no intervention of the suite"):
            load_intervention(tmp_path / name)


def trained(*names: str, **settings: int) -> list[dict[str, Any]]:
    return [{"name": name, "epochs": 2, **settings} for name in names]


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    methods = ["grad_scalar", *trained("activ_scalar", "steer_vec", "dyn_scalar")]
    matrix = brief_matrix(tiny_folder, methods=methods, controls={"draws": 0})
    return run_matrix(matrix, tmp_path_factory.mktemp("steering") / "run").store


SITES: dict[str, tuple[list[str], list[Any]]] = {
    "mixed": (
        ["v", "z", "attn_out"],
        [
            *trained("activ_scalar", "steer_vec", "dyn_scalar", "jola"),
            *trained("dyn_scalar", hidden=2),
        ],
    ),
    "output": (
        ["v", "o"],
        [*trained("dyn_scalar"), *trained("dyn_scalar", rank=2), "grad_scalar"],
    ),
}


@pytest.mark.parametrize("sites", ["usual", *SITES])
def test_an_applied_cell_gives_the_stored_numbers(
    run: RunStore, tiny: LoadedModel, tiny_folder: Path, tmp_path: Path, sites: str
) -> None:
    """The logits of answer and foil at the cell's own strength, also by way of a file.

    At wide sites, at heads, and at both.
    """
    store = run
    if sites in SITES:
        at, methods = SITES[sites]
        changes = {"sites": at, "methods": methods, "controls": {"draws": 0}}
        store = run_matrix(brief_matrix(tiny_folder, **changes), tmp_path / "run").store
    cells = [store.read(cell_id) for cell_id in store.ids()]
    assert len(cells) == len(SITES[sites][1] if sites in SITES else "four")
    for cell in cells:
        save_intervention(intervention_of(cell), tmp_path / "a.safetensors")
        beta = cell.record.beta.star if cell.record.beta and cell.record.beta.star else 1.0
        prompts = cell.record.prompts["test"]
        tokens, answers, foils = (
            torch.tensor([getattr(prompt, name) for prompt in prompts])
            for name in ("token_ids", "answer_id", "foil_id")
        )
        rows = torch.arange(len(prompts))
        column = int(abs(cell.tensors["split.test.beta"] - beta).argmin())
        stored = torch.from_numpy(cell.tensors["split.test.ld"][:, column].copy())
        for intervention in (intervention_of(cell), load_intervention(tmp_path / "a.safetensors")):
            with steered(tiny.bridge, intervention, beta), torch.no_grad():
                logits = tiny.bridge(tokens)[:, -1]
            assert torch.allclose(logits[rows, answers] - logits[rows, foils], stored, atol=1e-3)
        (tmp_path / "a.safetensors").unlink()


def test_export_and_apply_from_the_command_line(run: RunStore, tmp_path: Path) -> None:
    place, file = ("--results", run.directory), tmp_path / "mine.safetensors"
    shown = output_of("export", "activ_scalar", file, *place)
    length = load_intervention(file).grid.n_positions
    assert f"for prompts of {length} tokens, of which the first is the BOS '<|endo" in shown
    (tmp_path / "usual").touch()
    assert file.stat().st_mode == (tmp_path / "usual").stat().st_mode  # others may read it as well
    shown = output_of("export", "dyn_scalar", tmp_path / "gates.safetensors", *place)
    assert "for prompts of any number of tokens, of which" in shown
    shown = output_of("export", "steer_vec", file, *place, code=2)
    assert "is there already and stays as it is; --force" in shown
    assert isinstance(load_intervention(file), StaticScaling)
    output_of("export", "steer_vec", file, "--force", *place)
    assert isinstance(load_intervention(file), SteeringVectors)
    nowhere = tmp_path / "nowhere" / "x.safetensors"
    assert "there is no folder" in output_of("export", "activ_scalar", nowhere, *place, code=2)
    shown = output_of("apply", "activ_scalar", "--beta", 1.5, *place)
    assert "beta = 1.5" in shown
    before, after = shown.split("before:")[1].split("after:")
    assert len(before.strip().splitlines()) == len(after.strip().splitlines()) == 10
    assert before.strip() != after.strip()
    prompt = ("--prompt", "Then the", "--beta", 1)
    assert "this one has 3" in output_of("apply", "activ_scalar", *prompt, *place, code=2)
    output_of("apply", "dyn_scalar", *prompt, *place)


def test_gates_of_prompts_of_several_lengths_name_their_bos(
    tiny_folder: Path, tmp_path: Path
) -> None:
    """Which stands behind the padding of the shorter ones."""
    dynamic = {"name": "dyn_scalar", "epochs": 1}
    matrix = brief_matrix(
        tiny_folder, tasks=["ioi_varied"], methods=[dynamic], controls={"draws": 0}
    )
    store = run_matrix(matrix, tmp_path / "run").store
    (cell,) = [store.read(name) for name in store.stored()]
    prompts = cell.record.prompts["train"]
    assert any(prompt.token_ids[0] < 0 for prompt in prompts)
    for prompt in prompts:
        found = _kind_of_prompt(intervention_of(cell), prompt)
        assert found == (
            "prompts of any number of tokens, of which the first is the BOS '<|endoftext|>'"
        )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--beta", "nan"], "beta has to be a finite number of fp32, and this is nan"),
        (["--beta", "1e40"], "beta has to be a finite number of fp32, and this is 1e+40"),
        (["--beta", "3e38", "--device", "cpu"], "the steered logits are NaN"),
        (["--prompt", "x\udcff"], "is no UTF-8 text behind its first 1 characters"),
        (["--prompt", ""], "--prompt has 1 tokens (BOS included)"),
        (["--prompt", "Then the " * 40], " takes 64"),
    ],
)
def test_what_cannot_be_applied_is_said(run: RunStore, options: list[str], words: str) -> None:
    method = "grad_scalar" if "3e38" in options else "dyn_scalar"
    shown = output_of("apply", method, *options, "--results", run.directory, code=2)
    assert words in shown
    assert "before:" not in shown
