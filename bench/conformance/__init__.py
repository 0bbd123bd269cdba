"""What every method, task and model has to keep: `python -m bench check NAME`.

The suite's own pass the same checks in its tests. A check that fails says in words what has to be
different.
"""
