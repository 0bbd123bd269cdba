"""Keeping the libraries from talking into a progress display."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence what transformers and TransformerLens print while a model is loaded.

    Log level and progress bars are as before on leaving. Errors are exceptions and get through.
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # Not every bar obeys the setting: de-quantising draws one straight to stderr.
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def first_line(error: Exception) -> str:
    """Return the first line of a library's error message: the rest is advice on its own calls."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
