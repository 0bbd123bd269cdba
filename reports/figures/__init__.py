"""One file a figure family; each has `figure(results, ...)` that returns a matplotlib Figure."""
