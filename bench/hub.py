"""Models from the Hugging Face hub: the folder of one commit, or soon the reason why not."""

import re
from pathlib import Path

from tasks.errors import UserInputError

TIMEOUT_SECONDS = 5
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# Nothing from subfolders, no second copy of the weights in another format, no code.
NEVER = ["*/*", "*.py"]
CONFIGURATION = ["*.json", "*.txt", "*.model", "*.jinja"]
WEIGHTS = (["model*.safetensors"], ["pytorch_model*.bin"])


def hub_folder(name: str, hub_id: str, offline: str, *, weights: bool = True) -> Path:
    """Return the folder of a hub model's newest commit, downloaded unless it is there already.

    Without a connection the newest commit in the local Hugging Face cache is used. The folder's
    name is the commit's hash.

    Args:
        name: what the user wrote, for messages.
        hub_id: "owner/name".
        offline: a sentence on what can be had without the hub, for messages.
        weights: whether the weights are needed too.

    Raises:
        UserInputError: within seconds, where neither the hub nor the cache has the model.
    """
    folder = _snapshot(name, hub_id, offline, CONFIGURATION)
    if not weights:
        return folder
    for pattern in WEIGHTS:
        if any(_snapshot(name, hub_id, offline, pattern).glob(pattern[0])):
            return folder
    raise UserInputError(
        f'Model "{name}": {hub_id} has no weights in a format that is read here '
        "(safetensors or pytorch_model.bin), or they are not in the local cache and the hub cannot "
        f"be reached. {offline}"
    )


def hub_commit(name: str, hub_id: str, offline: str) -> str:
    """Return the hash of a hub model's newest commit (see `hub_folder`), downloading no weights."""
    return hub_folder(name, hub_id, offline, weights=False).name


def _snapshot(name: str, hub_id: str, offline: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=patterns,
                ignore_patterns=NEVER,
                etag_timeout=TIMEOUT_SECONDS,
            )
        )
    except GatedRepoError as error:
        raise UserInputError(
            f'Model "{name}": access to {hub_id} must be asked for on its page; then log in with '
            "`hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserInputError(
            f'Model "{name}": there is no {hub_id} on the hub, or it is private. {offline}'
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise UserInputError(
            f'Model "{name}" is not in the local Hugging Face cache, and the hub cannot be reached '
            f"({str(error).splitlines()[0]}). {offline}"
        ) from error
