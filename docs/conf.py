"""Settings of the documentation site; `tox -e docs` builds it."""

from importlib.metadata import version as version_of

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
