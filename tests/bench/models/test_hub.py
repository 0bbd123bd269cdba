"""Models of the hub: against a small hub of our own, and against none."""

import hashlib
import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from bench.execution.cell_runner import CellRunner, OtherModelError
from bench.execution.run import run_matrix
from bench.matrix.cells import PlannedCell, expand
from bench.models.hub import TIMEOUT_SECONDS
from bench.models.load import load_model, load_tokenizer, model_digest
from bench.models.tiny import save_tiny
from tasks.errors import UserInputError
from tests.small import brief_matrix, task_texts

COMMIT = "c0ffee" * 6 + "beef"
HUB_ID = "someone/tiny"


class SmallHub(BaseHTTPRequestHandler):
    """The three calls of the hub's interface that a download needs, for the files of a folder."""

    root: Path

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/someone/gated"):
            return self.send(403, b"", {"X-Error-Code": "GatedRepo"}, with_body)
        if HUB_ID not in path:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        files = sorted(file for file in self.root.iterdir() if file.is_file())
        if path.startswith(f"/api/models/{HUB_ID}/tree/"):
            entries = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": self.etag(f)}
                for f in files
            ]
            return self.send(200, json.dumps(entries).encode(), {}, with_body)
        if path.startswith(f"/api/models/{HUB_ID}"):
            siblings = [{"rfilename": f.name} for f in files]
            info = {"id": HUB_ID, "sha": COMMIT, "siblings": siblings}
            return self.send(200, json.dumps(info).encode(), {}, with_body)
        file = self.root / path.rsplit("/", 1)[1]
        headers = {"ETag": f'"{self.etag(file)}"', "X-Repo-Commit": COMMIT}
        return self.send(200, file.read_bytes(), headers, with_body)

    @staticmethod
    def etag(file: Path) -> str:
        """As the real hub has it: the sha256 of weights, git's digest of small files."""
        content = file.read_bytes()
        if file.suffix == ".safetensors":
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()

    def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    SmallHub.root = save_tiny(tmp_path_factory.mktemp("hub"), "gpt2", ["The capital of Japan is"])
    (SmallHub.root / "code.py").write_text("raise SystemExit('code of a model was run')")
    server = ThreadingHTTPServer(("127.0.0.1", 0), SmallHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the hub's address (None: offline), with a Hugging Face cache of one's own."""

    def connect(address: str | None) -> None:
        endpoint = address or "http://127.0.0.1:9"
        files = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", address is None)
        close_session()  # it remembers whether it is offline

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return connect


def test_download_then_offline(hub: str, tmp_path: Path, connect: Callable[..., None]) -> None:
    """One story: known by its commit, downloaded, and later there without the hub."""
    connect(hub)
    assert model_digest(HUB_ID) == COMMIT
    assert not list(tmp_path.rglob("*.safetensors"))
    connect(None)
    with pytest.raises(UserInputError, match=f'"{HUB_ID}".*is not in the local'):
        load_model(HUB_ID)
    for address in (hub, None):
        connect(address)
        loaded = load_model(HUB_ID, device="cpu")
        assert (loaded.digest, loaded.bos_id) == (COMMIT, 0)
        assert model_digest(HUB_ID) == COMMIT
    assert not list(tmp_path.rglob("code.py"))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_was_altered_in_the_cache_is_refused(
    hub: str, tmp_path: Path, connect: Callable[..., None], name: str
) -> None:
    """One byte; with the hub at hand and without."""
    connect(hub)
    before = load_model(HUB_ID, device="cpu")
    assert before.content != before.digest
    (file,) = tmp_path.rglob(name)
    content = file.read_bytes()
    file.resolve().write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    for address in (hub, None):
        connect(address)
        with pytest.raises(UserInputError, match=f"{name} is not the file"):
            load_model(HUB_ID, device="cpu")
    file.resolve().write_bytes(content)
    assert load_model(HUB_ID, device="cpu").content == before.content


def test_other_weights_under_the_same_commit_are_refused(
    hub: str, tmp_path: Path, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the run's cells were made with is known, though the cache knows no better."""
    monkeypatch.setattr(SmallHub, "root", save_tiny(tmp_path / "one", "llama", task_texts()))
    connect(hub)
    matrix = brief_matrix(HUB_ID, methods=["grad_scalar"], controls={"draws": 0})
    first = run_matrix(matrix, tmp_path / "run")
    provenance = first.store.record(first.computed[0]).provenance
    assert provenance["model_digest"] == COMMIT

    other = save_tiny(tmp_path / "two", "llama", task_texts(), seed=1)
    monkeypatch.setattr(SmallHub, "root", other)
    shutil.rmtree(tmp_path / f"models--{HUB_ID.replace('/', '--')}")
    more = brief_matrix(HUB_ID, methods=["grad_scalar", "dla"], controls={"draws": 0})
    with pytest.raises(OtherModelError, match=f"were made with {provenance['model_content']}"):
        run_matrix(more, tmp_path / "run")

    def first_cell(digest: str | None) -> PlannedCell:
        pinned = brief_matrix(HUB_ID, models=[{"name": HUB_ID, "digest": digest}])
        return expand(pinned, model_digest, lambda device: "cpu")[0]

    cells = [first_cell(digest) for digest in (None, COMMIT, provenance["model_content"])]
    assert len({cell.id for cell in cells}) == 1
    CellRunner().open(cells[1])
    with pytest.raises(OtherModelError, match="asks for the digest"):
        CellRunner().open(cells[2])


def test_the_tokenizer_alone(hub: str, tmp_path: Path, connect: Callable[..., None]) -> None:
    connect(hub)
    tokenizer, bos_id = load_tokenizer(HUB_ID)
    assert tokenizer.decode(tokenizer("The capital")["input_ids"]) == "The capital"
    assert bos_id == 0
    assert not list(tmp_path.rglob("*.safetensors"))
    connect(None)  # what is cached now is no whole model
    with pytest.raises(UserInputError, match="is not in the local"):
        load_model(HUB_ID)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/nothing", "there is no someone/nothing on the hub"),
        ("someone/gated", "access to someone/gated has to be asked for"),
        ("some..one/x--y", r"there is no some\.\.one/x--y on the hub"),
    ],
)
def test_what_the_hub_refuses(
    hub: str, connect: Callable[..., None], name: str, message: str
) -> None:
    connect(hub)
    with pytest.raises(UserInputError, match=message):
        load_model(name)


def test_a_download_that_breaks_off(
    hub: str, connect: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub knows the model and then has no files: said like a hub that does not answer."""
    connect(hub)
    monkeypatch.setattr(SmallHub, "root", SmallHub.root / "none")
    monkeypatch.setattr(
        SmallHub,
        "answer",
        lambda self, *, with_body: (
            self.send(200, json.dumps({"id": HUB_ID, "sha": COMMIT}).encode(), {}, with_body)
            if self.path.endswith(HUB_ID)
            else self.send(501, b"", {}, with_body)
        ),
    )
    with pytest.raises(UserInputError, match="is not in the local"):
        load_model(HUB_ID)


def test_a_silent_hub_is_not_waited_for(connect: Callable[..., None]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserInputError, match="does not answer"):
            model_digest("gpt2")
    assert time.monotonic() - start < 3 * TIMEOUT_SECONDS


def test_no_hub_is_said_with_what_needs_none(connect: Callable[..., None]) -> None:
    connect("http://127.0.0.1:9")
    with pytest.raises(UserInputError, match="openai-community/gpt2 is not in the local") as error:
        load_model("gpt2")
    assert str(error.value).startswith('Model "gpt2": ')
    assert '"smollm2-135m"' in str(error.value)
