"""The planted models with ordinary norms that the suite brings along; their weights are checked.

`python -m bench.models.planted.train` made them. Nothing heavy is imported until they are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UserInputError
from tasks.planted import TRAINED, planted_name

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path(__file__).with_name("weights")
DIGESTS: Mapping[str, str] = {
    "backup-0": "3e043936aba3dc8222de21ed434ede6b271ae1483dd7da2ebf658bc517b02002",
    "conflict-0": "3972697425cd967b13523ea12896071a908c12a8834b2ca6475ad5e7b06773e4",
    "distractors-0": "cbf8ce07894a81c8d54cea8eaca88f8272d6ff13f392d417dcd1c595de53cf79",
    "induction-0": "ab272a6a2186b2371085f9cde6c6bb101bc24860b9c91f07cc5ed0ae95332490",
    "ioi-0": "072f88f1c1d9794429c076b7a5af8cf3cea04276d1837a0e77e8db0acec6e3e5",
    "lookup-0": "bbc651bda6fdd75a23b0f91bcf84e56c186b1a86ac16eb52a8dc1bc8d739f66c",
}
"""Family and seed -> sha256 of the file of that name."""
TRAINED_NAMES: Mapping[str, str] = {
    f"planted-{stem.removesuffix('-0')}{TRAINED}": stem.split("-")[0] for stem in DIGESTS
}
"""Model -> its family."""


def is_trained(name: str) -> bool:
    """Whether a name is that of a planted model with ordinary norms, shipped or not."""
    return planted_name(name) is not None and name.endswith(TRAINED)


def trained_digest(name: str) -> str:
    """Return the sha256 that the weights' file of a model must have.

    Raises:
        UserInputError: there is no such model; says which there are.
    """
    digest = DIGESTS.get(_stem(name))
    if digest is None:
        known = ", ".join(TRAINED_NAMES)
        raise UserInputError(f'No weights of "{name}" were trained; there are {known}.')
    return digest


def read_weights(name: str, folder: Path = FOLDER) -> dict[str, Tensor]:
    """Return a model's weights, by the names of Hugging Face's GPT-2.

    Raises:
        UserInputError: there is no such model, or its file is not what it has to be.
    """
    digest, file = trained_digest(name), folder / f"{_stem(name)}.safetensors"
    content = file.read_bytes() if file.is_file() else b""
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        what = f"has the sha256 {found[:12]}" if content else "is not there"
        raise UserInputError(
            f'Model "{name}": the file {file} {what}, and should have {digest[:12]}. Install '
            "attribution-bench again."
        )
    from safetensors.torch import load

    return load(content)


def trained_model(name: str, config: Any) -> Any:
    """Return a trained model in float64, frozen, in eval mode.

    Args:
        name: of the model.
        config: of the planted model whose circuit it has.
    """
    from bench.models.planted.narrow import ordinary

    weights = read_weights(name)
    d_model = weights["transformer.wte.weight"].shape[1]
    d_mlp = weights["transformer.h.0.mlp.c_fc.bias"].shape[0]
    model = ordinary(config, d_model, d_mlp)
    model.load_state_dict(weights)
    return model.double().eval().requires_grad_(False)


def _stem(name: str) -> str:
    family, seed = planted_name(name) or ("", 0)
    return f"{family}-{seed}"
