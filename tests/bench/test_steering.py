"""A fitted intervention as a file, on a bridge, and on a plain Hugging Face model's generate."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from bench.bridge import boot_bridge
from bench.find import find_cell
from bench.results import RunStore
from bench.runner import run_matrix
from bench.steering import intervention_of, load_intervention, save_intervention, steered
from bench.tiny import ARCHITECTURES, tiny_model, tiny_tokenizer
from methods.core.dynamic_scaling import DynamicScaling
from methods.core.intervention import Intervention
from methods.core.points import PointGrid, Site, make_grid
from methods.core.static_scaling import StaticScaling
from methods.core.steering_vectors import SteeringVectors
from methods.core.subject import SubjectModel
from tasks.errors import UserInputError
from tests.bench.test_cli import command
from tests.small import small_matrix

LENGTH = 7
TOKENS = torch.tensor([[0, 5, 9, 33, 2, 7, 11], [0, 8, 9, 3, 21, 7, 60]])


def grid_of(subject: SubjectModel, sites: list[str]) -> PointGrid:
    return make_grid(
        sites, "all", n_layers=subject.n_layers, n_positions=LENGTH, has_bos=True,
        heads=subject.heads,
    )  # fmt: skip


def made(kind: str, subject: SubjectModel) -> Intervention:
    """A random intervention at every site it can act on."""
    generator = torch.Generator().manual_seed(1)
    sites = [site.value for site in Site if site in subject.sites and site is not Site.O]
    if kind != "static":
        sites = [site for site in sites if site not in ("z", "v")]
    grid = grid_of(subject, sites)
    if kind == "static":
        return StaticScaling(grid, 0.5 * torch.randn(grid.shape, generator=generator))
    if kind == "vectors":
        return SteeringVectors(grid, torch.randn((*grid.shape, 32), generator=generator))
    return DynamicScaling(grid, torch.randn((*grid.shape[:2], 32), generator=generator))


def subject_of(model: Any) -> SubjectModel:
    return SubjectModel(boot_bridge(model, tiny_tokenizer(), "tiny"))


@pytest.mark.parametrize("kind", ["static", "vectors", "dynamic"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_plain_model_is_steered_as_the_suite_steers(architecture: str, kind: str) -> None:
    """Against the suite's own way, on a second copy of the model."""
    subject, plain = subject_of(tiny_model(architecture)), tiny_model(architecture)
    intervention = made(kind, subject)
    with torch.no_grad():
        before = plain(TOKENS).logits
        for beta in (0.0, 1.5):
            expected = subject.logits(TOKENS, intervention.at(torch.full((2,), beta)))
            with steered(plain, intervention, beta):
                found = plain(TOKENS).logits[:, -1]
            assert torch.allclose(found, expected, atol=1e-4)
        assert not torch.allclose(expected, before[:, -1], atol=1e-2)
        with steered(subject.bridge, intervention, 1.5):
            on_bridge = subject.bridge(TOKENS)[:, -1]
        assert torch.allclose(on_bridge, expected, atol=1e-4)
        assert torch.equal(plain(TOKENS).logits, before)


def test_a_plain_model_is_left_as_it_was_found() -> None:
    plain, subject = tiny_model("llama"), subject_of(tiny_model("llama"))
    plain.train()
    plain.requires_grad_(True)
    names = list(plain.state_dict())
    modules = [(name, type(module)) for name, module in plain.named_modules()]
    with pytest.raises(ZeroDivisionError), steered(plain, made("static", subject), 1.0):
        _ = 1 / 0
    assert list(plain.state_dict()) == names
    assert [(name, type(module)) for name, module in plain.named_modules()] == modules
    assert plain.training
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert not any(module._forward_hooks for module in plain.modules())
    assert not plain._forward_pre_hooks


@pytest.mark.parametrize("kind", ["static", "vectors", "dynamic"])
@pytest.mark.parametrize("cached", [True, False])
def test_generate_goes_on_from_the_steered_prompt(kind: str, cached: bool) -> None:
    """Token by token, generation is the argmax of whole forwards under the same edits."""
    plain, subject = tiny_model("llama"), subject_of(tiny_model("llama"))
    intervention, tokens = made(kind, subject), TOKENS[:1]
    settings = {
        "do_sample": False,
        "max_new_tokens": 4,
        "eos_token_id": None,
        "pad_token_id": 63,
        "attention_mask": torch.ones_like(tokens),
    }
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
    with (
        steered(subject.bridge, made("static", subject), 1.0),
        pytest.raises(UserInputError, match="prompts of 7 tokens, and this one has 9"),
    ):
        subject.bridge(longer)
    other = tiny_model("llama", n_layers=2)
    with (
        pytest.raises(UserInputError, match="3 layers; this one has 2"),
        steered(other, made("static", subject), 1.0),
    ):
        pass


@pytest.mark.parametrize("kind", ["static", "vectors", "dynamic"])
def test_a_file_gives_back_what_was_saved(kind: str, tmp_path: Path) -> None:
    subject = subject_of(tiny_model("qwen2"))
    intervention, file = made(kind, subject), tmp_path / "a.safetensors"
    save_intervention(intervention, file, {"method": "mine"})
    again = load_intervention(file)
    assert type(again) is type(intervention)
    assert again.grid == intervention.grid
    assert torch.equal(again.theta(), intervention.theta())
    with safe_open(file, framework="pt") as stored:
        assert json.loads(stored.metadata()["attribution_bench"])["about"] == {"method": "mine"}


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\xff" * 9, b"{}" * 50])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserInputError, match="is no intervention of the suite"):
        load_intervention(tmp_path / "a")
    with pytest.raises(UserInputError, match="is no intervention of the suite"):
        load_intervention(tmp_path / "none")


@pytest.fixture(scope="module")
def run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    trained = [{"name": name, "epochs": 3} for name in ("activ_scalar", "steer_vec", "dyn_scalar")]
    methods = ["grad_scalar", *trained]
    matrix = small_matrix(tiny_folder, methods=methods, controls={"draws": 0})
    return run_matrix(matrix, tmp_path_factory.mktemp("steering") / "run").store


@pytest.mark.parametrize("method", ["grad_scalar", "activ_scalar", "steer_vec", "dyn_scalar"])
def test_an_applied_cell_gives_the_stored_numbers(run: RunStore, method: str) -> None:
    """The logits of answer and foil that the cell stored at its own strength."""
    from bench.models import load_model

    cell = run.read(find_cell(method, run.directory)[1])
    beta = cell.record.beta.star if cell.record.beta and cell.record.beta.star else 1.0
    model = load_model(cell.record.model, device="cpu")
    prompts = cell.record.prompts["test"]
    tokens = torch.tensor([prompt.token_ids for prompt in prompts])
    with steered(model.bridge, intervention_of(cell), beta), torch.no_grad():
        logits = model.bridge(tokens)[:, -1]
    rows = torch.arange(len(prompts))
    answers = torch.tensor([prompt.answer_id for prompt in prompts])
    foils = torch.tensor([prompt.foil_id for prompt in prompts])
    ld = logits[rows, answers] - logits[rows, foils]
    column = int(abs(cell.tensors["split.test.beta"] - beta).argmin())
    stored = torch.from_numpy(cell.tensors["split.test.ld"][:, column].copy())
    assert torch.allclose(ld, stored, atol=1e-3)


def test_export_and_apply_from_the_command_line(
    run: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    place = ["--results", str(run.directory)]
    file = tmp_path / "mine.safetensors"
    assert command(monkeypatch, "export", "activ_scalar", str(file), *place) == 0
    assert load_intervention(file).grid.n_layers == 3
    assert command(monkeypatch, "apply", "activ_scalar", "--beta", "1.5", *place) == 0
    shown = capsys.readouterr().out
    assert "beta = 1.5" in shown
    before, after = shown.split("before:")[1].split("after:")
    assert len(before.strip().splitlines()) == len(after.strip().splitlines()) == 10
    assert before.strip() != after.strip()
    prompt = ["--prompt", "Then the", "--beta", "1"]
    assert command(monkeypatch, "apply", "activ_scalar", *prompt, *place) == 2
    assert "this one has 3" in capsys.readouterr().err
    assert command(monkeypatch, "apply", "dyn_scalar", *prompt, *place) == 0
