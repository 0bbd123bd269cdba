"""Settings of the documentation site; `tox -e docs` builds it."""

from importlib.metadata import version as version_of
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

project = "attribution-bench"
author = "attribution-bench contributors"
release = version = version_of("attribution-bench")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "attribution-bench"
exclude_patterns = ["_build"]

nb_execution_mode = "off"  # the notebook's outputs are kept; `tox -e tutorial` executes it
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes and units stand in the text
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_use_ivar = True

linkcheck_timeout = 30
linkcheck_retries = 2
OUTSIDE = "https://aclanthology.org"


def setup(app: Sphinx) -> None:
    """Extends Sphinx's own checks."""
    app.connect("builder-inited", leave_out_what_cannot_be_reached)


def leave_out_what_cannot_be_reached(app: Sphinx) -> None:
    """Has linkcheck try links to the outside only where there is a network, and say so.

    Links and anchors within the site are checked by every build, whose warnings are errors.
    """
    if app.builder.name != "linkcheck":
        return
    try:
        urlopen(Request(OUTSIDE, method="HEAD"), timeout=30)
    except HTTPError:
        pass  # it answered
    except OSError as error:
        app.config.linkcheck_ignore.append("https?://")
        getLogger(__name__).info(f"no network ({error}): links to the outside are not checked")
