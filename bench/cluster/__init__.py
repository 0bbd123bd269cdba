"""Cells computed by workers: processes of this machine, or a dask.distributed cluster."""
