"""Results of a finished run in files small enough for a repository, and the page made from them."""
