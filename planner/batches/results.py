"""What came of a batch's rows, as files that other tools read: JSON lines, and Parquet where pyarrow is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from planner.batches.disk import Folder
from planner.loading.written import written, written_text

LINES, TABLE = "results.jsonl", "results.parquet"


def write_results(folder: Folder, names: Sequence[str]) -> Path:
    """The records of these rows, in this order, as ``results.jsonl``, which is returned, and with pyarrow as
    ``results.parquet``; each is whole or as it was. Raises OSError."""
    records = [record for name in names if (record := folder.record(name)) is not None]
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path = folder.out / LINES
    written_text(path, text, replace=True)
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        (folder.out / TABLE).unlink(missing_ok=True)  # of a batch before: it would tell of other rows
        return path
    written(folder.out / TABLE, partial(parquet.write_table, _table(records)), replace=True)
    return path


def _table(records: Sequence[Mapping[str, Any]]) -> Any:
    """With one schema, whatever the rows have: seconds, and bytes of weights."""
    import pyarrow as pa

    said = pa.struct([("code", pa.string()), ("message", pa.string())])
    fields = {"id": pa.string(), "status": pa.string(), "seed": pa.uint64(), "seconds": pa.float64()}
    fields |= {"peak": pa.int64(), "moved": pa.int64(), "outputs": pa.list_(pa.string())}
    fields |= {"digest": pa.string(), "finding": said, "key": pa.string()}
    return pa.Table.from_pylist([*records], schema=pa.schema([*fields.items()]))
