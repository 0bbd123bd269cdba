"""The tables of a run, made of its cells: one record, and the scores of one method at a time.

However many cells a run has, what is in memory is its tables, not its tensors.
"""

import hashlib
import json

from bench.agreement.table import agreement_table
from bench.matrix.identity import NUMBERS_VERSION
from bench.store.layout import writing
from bench.store.records import CellRecord
from bench.store.results import RunStore
from bench.store.upkeep import NOT_KEPT


def write_tables(store: RunStore, resamples: int) -> None:
    """Write the tidy table and the agreement between methods, unless they are up to date."""
    versions = ((name, store.version_of(name)) for name in store.ids())
    content = [NUMBERS_VERSION, resamples, *versions]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if store.tables.made_of() == digest:
        return
    compared: list[CellRecord] = []

    def see(record: CellRecord) -> None:
        if record.status == "done" and not record.control:
            compared.append(record.model_copy(update=NOT_KEPT))

    store.write_tables(see)
    store.write_frame("agreement", agreement_table(compared, store.read, resamples=resamples))
    with writing(store.directory):
        store.tables.are_made_of(digest)
