"""What holds for all tests of `methods`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

if TYPE_CHECKING:
    from tests.methods.plain_model import Setup


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models gain nothing from threads, which wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def real(smollm2: Any) -> "Setup":
    """The embedded model with and without bridge, and two prompts of it."""
    from tests.methods.plain_model import setup_of

    return setup_of(smollm2)
