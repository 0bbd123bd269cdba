"""Downloads models from the Hugging Face hub, or says within seconds why it cannot."""

import hashlib
import re
from pathlib import Path
from typing import NoReturn

from bench.models import adapter
from tasks.errors import UserInputError

TIMEOUT_SECONDS = 5
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# No code, nothing from subfolders, and no second copy of the weights in another format.
CONFIGURATION = ["*.json", "*.txt", "*.model", "*.jinja"]
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
IGNORED = ["*/*", "*.py"]
OFFLINE = (
    'Without the hub there are: "smollm2-135m", which installs like a package, and any local '
    "directory with a config.json, a tokenizer and weights."
)


def hub_folder(name: str, hub_id: str, *, weights: bool = True) -> Path:
    """Return the folder of a hub model's newest commit, downloaded unless it is there already.

    Where the hub does not answer, the newest commit in the local Hugging Face cache is used. The
    folder's name is the commit's hash.

    Args:
        name: what the user wrote, for messages.
        hub_id: "owner/name".
        weights: whether the weights are needed too.

    Raises:
        UserInputError: within seconds, where neither the hub nor the cache has the model.
    """
    problem = _ask(name, hub_id)[1]
    folder = _snapshot(name, hub_id, CONFIGURATION, problem)
    if not weights:
        return folder
    for pattern in WEIGHTS:
        if any(_snapshot(name, hub_id, [pattern], problem).glob(pattern)):
            return folder
    if problem:
        _unreachable(name, hub_id, problem)
    if (folder / adapter.CONFIG).is_file():
        raise UserInputError(
            f'Model "{name}": {hub_id} is an adapter. Adapters are read from folders: '
            f"`hf download {hub_id} --local-dir FOLDER` makes one."
        )
    raise UserInputError(
        f'Model "{name}": {hub_id} has no weights in a format that is read here: '
        f"{' or '.join(WEIGHTS)}."
    )


def hub_commit(name: str, hub_id: str) -> str:
    """Return the hash of the commit that `hub_folder` would give, downloading nothing.

    Raises:
        UserInputError: as in `hub_folder`.
    """
    commit, problem = _ask(name, hub_id)
    return commit or _snapshot(name, hub_id, CONFIGURATION, problem).name


def checked_files(name: str, folder: Path) -> dict[str, str]:
    """Compare every file of a commit's folder with the digest that the hub gave for it.

    The Hugging Face cache calls a file's contents by that digest: the sha256 of weights, git's own
    of small files. Where a system has no symbolic links, the folder holds the files themselves, and
    nothing is known of them.

    Returns:
        The sha256 of those files, by name, that are called by it.

    Raises:
        UserInputError: for a file that is not what the hub has, damaged or altered in the cache.
    """
    known = {}
    for path in sorted(folder.iterdir()):
        blob = path.resolve()
        if blob.parent.name != "blobs" or not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob.name):
            continue
        large = len(blob.name) == 64
        digest = hashlib.sha256() if large else hashlib.sha1(usedforsecurity=False)
        if not large:
            digest.update(f"blob {blob.stat().st_size}\0".encode())
        with blob.open("rb") as file:
            while part := file.read(2**20):
                digest.update(part)
        if digest.hexdigest() != blob.name:
            raise UserInputError(
                f'Model "{name}": {path} is not the file that the hub has (its digest is '
                f"{digest.hexdigest()}, not {blob.name}): it was damaged or altered in the cache. "
                f"Delete {blob} and start again where the hub can be reached."
            )
        if large:
            known[path.name] = blob.name
    return known


def _ask(name: str, hub_id: str) -> tuple[str, str]:
    """Return the hub's newest commit and "", or "" and why the hub does not say.

    Asked first and once: the download's own calls are repeated for minutes where nobody answers.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    try:
        return str(HfApi().model_info(hub_id, timeout=TIMEOUT_SECONDS).sha), ""
    except GatedRepoError as error:
        raise UserInputError(
            f'Model "{name}": access to {hub_id} has to be asked for on its page; then log in with '
            "`hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserInputError(
            f'Model "{name}": there is no {hub_id} on the hub, or it is private. {OFFLINE}'
        ) from error
    # Each version of huggingface_hub has connection errors of its own.
    except Exception as error:
        return "", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _snapshot(name: str, hub_id: str, patterns: list[str], problem: str) -> Path:
    """Download what matches, or find the cached folder where the hub has a `problem`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            hub_id,
            allow_patterns=patterns,
            ignore_patterns=IGNORED,
            local_files_only=bool(problem),
        )
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        _unreachable(name, hub_id, problem or str(error), error)
    return Path(folder)


def _unreachable(name: str, hub_id: str, problem: str, cause: Exception | None = None) -> NoReturn:
    raise UserInputError(
        f'Model "{name}": {hub_id} is not in the local Hugging Face cache, and the hub does not '
        f"answer ({problem}). {OFFLINE}"
    ) from cause
