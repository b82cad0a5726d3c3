"""Which rows are to run: those without a finished output in the folder, under the key that it would have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from planner.batches.check import Row
from planner.batches.disk import Folder, digest_of
from planner.batches.task import Task
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import BATCH_CHANGED
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.loading.kinds import SUFFIXES
from planner.loading.paths import beside
from planner.plan.run import COUNTS, IMAGES, VIDEOS, texts_in
from planner.plan.write import to_yaml
from planner.version import VERSION

PACKAGES = ("torch", "diffusers", "transformers")


def key_of(row: Row, device: str) -> str:
    """What an output is made of: resolved plan and row, files of images, versions, kind of the device."""
    files = [
        text for name, value in row.plan.run.items() if name in IMAGES | VIDEOS for text in texts_in(value)
    ]
    versions = [f"offload-planner {VERSION}", *(f"{name} {metadata.version(name)}" for name in PACKAGES)]
    said = [to_yaml(row.plan), [digest_of([beside(row.plan, text)]) for text in files], versions, device]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def todo(
    folder: Folder, rows: list[Row], device: str, *, retry: bool, force: bool
) -> tuple[list[Task], int, int]:
    """Rows to run, equal shapes together; how many are finished, and set aside.

    ``device``: its kind; ``retry`` and ``force`` as for ``batch``. Raises PlanError for outputs of others
    (P940) and of another plan or row (P965).
    """
    tasks, skipped, failed, found = [], 0, 0, []
    for row in rows:
        key, record = key_of(row, device), folder.record(row.id)
        if record is None:
            taken = [] if folder.known(row.id) else [p for p in _names(folder.out, row.id) if p.exists()]
            if taken and not force:
                found.append(finding(OUTPUT_TAKEN, f'"{taken[0]}" is there already', span=row.span))
            tasks.append(task_of(row, key))
        elif record["status"] == "done" and record["key"] != key and not force:
            said = f'the output of "{row.id}" was made of another plan, row, image or version'
            found.append(finding(BATCH_CHANGED, said, span=row.span, hint="--force, or another --out"))
        elif record["status"] == "done" and record["key"] == key and folder.whole(record):
            skipped += 1
        elif record["status"] == "failed" and not retry and record["key"] == key:
            failed += 1
        else:
            tasks.append(task_of(row, key))
    if found:
        raise PlanError(found)
    return in_order(tasks), skipped, failed


def in_order(tasks: Iterable[Task]) -> list[Task]:
    """As they run: equal shapes together."""
    return sorted(tasks, key=lambda task: task.shape)


def task_of(row: Row, key: str) -> Task:
    """A row for a worker, with the key of its output."""
    run = dict(row.plan.run)
    shape = repr(sorted((name, value) for name, value in run.items() if COUNTS.fullmatch(name)))
    return Task(id=row.id, run=run, key=key, shape=shape, span=row.span)


def _names(out: Path, name: str) -> Iterator[Path]:
    for suffixes in SUFFIXES.values():
        yield from (out / f"{name}{number}{suffixes[0]}" for number in ("", "-0"))
