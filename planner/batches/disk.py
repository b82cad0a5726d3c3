"""What a batch's folder says: the truth of which rows are done, whatever was killed whenever.

``OUT/.batch/done/ID.json`` is a row's record, written after its outputs; ``OUT/.batch/started/ID`` has a byte
for each start that no record followed; ``OUT/results.jsonl`` is made of the records. ``OUT/.batch/holder``
has the token of the batch that holds the folder: a worker that outlives its batch publishes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import BATCH_LOCKED, BATCH_UNWRITABLE, WORKERS_DIED
from planner.loading.written import to_disk, written_text


@contextmanager
def guarded(out: Path) -> Iterator[None]:
    """OSError of the folder as a finding: it is full, gone or not allowed."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise PlanError([finding(BATCH_UNWRITABLE, f'cannot write to "{out}": {why}')]) from error


@contextmanager
def held(out: Path) -> Iterator[Folder]:
    """The folder, made where it is not there, and no other batch's until the end.

    Raises OSError, and PlanError where another batch holds it (P964).
    """
    (out / ".batch").mkdir(parents=True, exist_ok=True)
    from filelock import FileLock, Timeout

    lock = FileLock(out / ".batch" / "lock")  # gone with its process, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise PlanError([finding(BATCH_LOCKED, f'another batch writes to "{out}"')]) from error
    try:
        folder = Folder(out, secrets.token_hex(8))
        folder.take()
        yield folder
    finally:
        lock.release()


class Folder:
    """A batch's folder, as the batch and its workers see it. Methods raise OSError."""

    def __init__(self, out: Path, token: str) -> None:
        """``token``: of the batch that holds it."""
        self.out, self.token = out, token
        self.inside = out / ".batch"
        self.done, self.starts = self.inside / "done", self.inside / "started"
        self.unpublished, self.shared = self.inside / "unpublished", self.inside / "shared"
        self.faults = self.inside / "faults"
        self._heard = 0

    def take(self) -> None:
        """What earlier batches left half-way is gone; their workers publish nothing from here on."""
        (self.inside / "holder").write_text(self.token, encoding="utf-8")
        for folder in (self.unpublished, self.shared):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.done, self.starts, self.unpublished, self.shared, self.faults):
            folder.mkdir(exist_ok=True)
        for left in self.done.glob(".writing-*"):
            left.unlink()
        for name in ("stop", "notes"):
            (self.inside / name).unlink(missing_ok=True)
        self.loaded()

    def stop(self) -> None:
        """Has workers start no more rows, wherever they are."""
        (self.inside / "stop").touch()

    def stops(self) -> bool:
        """Whether ``stop`` was called."""
        return (self.inside / "stop").exists()

    def note(self, line: str) -> None:
        """Something that the driver of the batch is to tell."""
        with open(self.inside / "notes", "a", encoding="utf-8") as notes:
            notes.write(f"{line}\n")

    def notes(self) -> list[str]:
        """Those that came since the last time."""
        with suppress(FileNotFoundError), open(self.inside / "notes", encoding="utf-8") as notes:
            notes.seek(self._heard)
            lines = notes.read().splitlines()
            self._heard = notes.tell()
            return lines
        return []

    def room(self) -> Path:
        """A folder of one worker's, for outputs that are not published yet."""
        return Path(tempfile.mkdtemp(dir=self.unpublished))

    def publish(self, paths: Sequence[Path]) -> list[Path]:
        """Gives files of ``room``, which are on the disk, their names in the folder, each in one step.

        Raises PlanError where another batch holds the folder by now (P964).
        """
        if (self.inside / "holder").read_text(encoding="utf-8") != self.token:
            raise PlanError([finding(BATCH_LOCKED, f'another batch took over "{self.out}"')])
        published = [path.replace(self.out / path.name) for path in paths]
        with suppress(OSError):  # not every system can do that to a folder
            to_disk(self.out)
        return published

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

    def finished(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The records of those of the rows that have their outputs."""
        found = (self.record(name) for name in names)
        return [one for one in found if one and one["status"] == "done" and self.whole(one)]

    def keep(self, record: Mapping[str, Any]) -> None:
        """Writes a record; the row's starts are over."""
        name = record["id"]
        text = json.dumps(record, ensure_ascii=False) + "\n"
        written_text(self.done / f"{name}.json", text, replace=True)
        self.forget(name)

    def ended(self, name: str, key: str) -> str | None:
        """The status of a row under that key, ``done`` or ``failed``; None where it did not run."""
        record = self.record(name)
        return record["status"] if record is not None and record["key"] == key else None

    def renew(self, name: str) -> None:
        """A row that failed has no record and no starts; what is there under its name is the batch's own."""
        record = self.record(name)
        if record is not None and record["status"] == "failed":
            (self.starts / name).write_bytes(b"")
            (self.done / f"{name}.json").unlink()

    def known(self, name: str) -> bool:
        """Whether the row was started here: a file of its name may be its output."""
        return (self.starts / name).exists()

    def started(self, name: str) -> int:
        """How often the row was started without an end."""
        return _bytes(self.starts / name)

    def start(self, name: str) -> None:
        """Counts a start, on the disk before the row runs."""
        _count(self.starts / name)

    def unstart(self, name: str, started: int) -> None:
        """A start was ended by the batch itself, and counts for nothing: it was started ``started`` times."""
        if self.started(name) > started:
            os.truncate(self.starts / name, started)

    def forget(self, name: str) -> None:
        """The row's starts are over."""
        for folder in (self.starts, self.faults):
            (folder / name).unlink(missing_ok=True)

    def loading(self, most: int) -> None:
        """Counts a worker that is started. Raises PlanError where ``most`` were, and none of them loaded the
        pipeline (P969)."""
        path = self.inside / "loading"
        if (tried := _bytes(path)) >= most:
            said = f"{tried} workers were started, and none came as far as its first row"
            raise PlanError([finding(WORKERS_DIED, said, hint=f'what they said is in "{self.inside}"')])
        _count(path)

    def loaded(self) -> None:
        """A worker has its pipeline."""
        (self.inside / "loading").unlink(missing_ok=True)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _count(path: Path) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
    try:
        os.write(handle, b".")
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_of(paths: Sequence[Path]) -> str:
    """SHA-256 of files one after the other, a folder's by their names."""
    found = hashlib.sha256()
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
