"""Parquet files that somebody else may have written: whatever they hold, memory stays bounded.

A few bytes can stand for terabytes: run lengths, dictionaries and compression are each counted
before they are undone.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.store.files import DamagedError, read_file

if TYPE_CHECKING:
    from pandas import DataFrame

MAX_FILE = 64 * 2**20
MAX_VALUES = 50_000_000
MAX_DECODED = 2**30
"""Bytes of a table in memory."""
CODECS = ("SNAPPY", "UNCOMPRESSED")
"""What the suite writes; none of them makes more than 22 bytes out of one."""
BATCH = 4096
"""Rows that are decoded at a time."""


def read_frame(file: Path) -> "DataFrame":
    """The table in a Parquet file.

    Raises:
        DamagedError: for a file that is none, or would take more memory than any table of a run.
    """
    from pyarrow import ArrowException, Table
    from pyarrow.parquet import ParquetFile

    content = BytesIO(read_file(file, MAX_FILE))
    try:
        with ParquetFile(content) as about:
            _check(about.metadata)
            schema = about.schema_arrow
        content.seek(0)
        # Texts stay in their dictionaries until it is known how long they are all together.
        texts = [field.name for field in schema if str(field.type) in ("string", "large_string")]
        with ParquetFile(content, read_dictionary=texts) as stored:
            room, batches = MAX_DECODED, []
            for batch in stored.iter_batches(BATCH):
                room -= _decoded_bytes(batch)
                if room < 0:
                    raise DamagedError("would take more memory than any table of a run")
                batches.append(batch)
            table = Table.from_batches(batches, batches[0].schema if batches else schema)
        return table.cast(schema).to_pandas()
    except (ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"is no Parquet file of the suite ({error})") from None


def _check(metadata: Any) -> None:
    """Raises DamagedError for a file that says itself that it is too large."""
    groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
    columns = [group.column(place) for group in groups for place in range(group.num_columns)]
    if metadata.num_rows * metadata.num_columns > MAX_VALUES:
        raise DamagedError(f"has {metadata.num_rows} rows, more than any table of a run")
    if sum(column.total_uncompressed_size for column in columns) > MAX_DECODED:
        raise DamagedError("would take more memory than any table of a run")
    for column in columns:
        if column.compression not in CODECS:
            raise DamagedError(f"is compressed by {column.compression}, as no table of a run is")


def _decoded_bytes(batch: Any) -> int:
    """What a batch takes in memory once its texts are written out."""
    from pyarrow import DictionaryArray, compute

    total = 0
    for column in batch.columns:
        if isinstance(column, DictionaryArray):
            lengths = compute.binary_length(column.dictionary).take(column.indices)
            total += (compute.sum(lengths).as_py() or 0) + 8 * len(column)
        else:
            total += column.nbytes
    return total
