"""What a batch's folder says: the truth of which rows are done, whatever was killed whenever.

``OUT/.batch/done/ID.json`` is a row's record, written after its outputs; ``OUT/.batch/started/ID`` has a byte
for each start that no record followed; ``OUT/results.jsonl`` is made of the records.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import BATCH_LOCKED, BATCH_UNWRITABLE
from planner.loading.written import written

RESULTS = "results.jsonl"


@contextmanager
def guarded(out: Path) -> Iterator[None]:
    """OSError of the folder as a finding: it is full, gone or not allowed."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise PlanError([finding(BATCH_UNWRITABLE, f'cannot write to "{out}": {why}')]) from error


class Folder:
    """A batch's folder, held by this process until ``close``. Methods raise OSError."""

    def __init__(self, out: Path) -> None:
        """Raises PlanError where another batch holds it (P964)."""
        self.out = out
        self.done, self.starts = out / ".batch" / "done", out / ".batch" / "started"
        for folder in (self.done, self.starts):
            folder.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock, Timeout

        self._lock = FileLock(out / ".batch" / "lock")  # gone with its process, however it ends
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PlanError([finding(BATCH_LOCKED, f'another batch writes to "{out}"')]) from error

    def close(self) -> None:
        """Others may have it."""
        self._lock.release()

    def record(self, name: str) -> dict[str, Any] | None:
        """A row's record; None where there is none, or one that cannot be read."""
        try:
            found = json.loads((self.done / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def whole(self, record: Mapping[str, Any]) -> bool:
        """Whether the outputs of a record are there, byte by byte."""
        paths = [self.out / name for name in record["outputs"]]
        return all(path.is_file() for path in paths) and digest_of(paths) == record["digest"]

    def keep(self, record: Mapping[str, Any]) -> None:
        """Writes a record; the row's starts are over."""
        name = record["id"]
        text = json.dumps(record, ensure_ascii=False) + "\n"
        written(self.done / f"{name}.json", lambda to: to.write_text(text, encoding="utf-8"), replace=True)
        self.forget(name)

    def started(self, name: str) -> int:
        """How often the row was started without an end."""
        try:
            return (self.starts / name).stat().st_size
        except FileNotFoundError:
            return 0

    def start(self, name: str) -> None:
        """Counts a start, on the disk before the row runs."""
        handle = os.open(self.starts / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
        try:
            os.write(handle, b".")
            os.fsync(handle)
        finally:
            os.close(handle)

    def forget(self, name: str) -> None:
        """The row's starts are over."""
        (self.starts / name).unlink(missing_ok=True)

    def results(self, names: Sequence[str]) -> Path:
        """``results.jsonl`` of these rows, in this order, whole or as it was."""
        records = [record for name in names if (record := self.record(name)) is not None]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        path = self.out / RESULTS
        written(path, lambda to: to.write_text(text, encoding="utf-8"), replace=True)
        return path


def digest_of(paths: Sequence[Path]) -> str:
    """SHA-256 of files one after the other, a folder's by their names."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
