"""Planning a matrix and computing its cells, in this process or on the workers of dask."""
