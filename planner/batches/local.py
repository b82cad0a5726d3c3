"""A batch in this process: one pipeline on one device, its rows one after the other."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from planner.api import PathOrPlan, attach, compile, device_for, load
from planner.batches.check import Row, check_rows
from planner.batches.disk import Folder, digest_of, guarded
from planner.batches.rows import STDIN, read_rows
from planner.diagnostics.diagnostic import Diagnostic, PlanError, by_place, errors, finding
from planner.diagnostics.table.p9_batch import BATCH_CHANGED, ROW_DIED
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.loading.kinds import SUFFIXES
from planner.loading.paths import beside
from planner.plan.model import Plan
from planner.plan.run import COUNTS, IMAGES, VIDEOS
from planner.plan.write import to_yaml

DEATHS = 3
"""So many starts without an end set a row aside."""
PACKAGES = ("offload-planner", "torch", "diffusers", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How a batch ended: its rows' records are in ``results``. ``left``: rows that did not run."""

    done: int
    skipped: int
    failed: int
    left: int
    results: Path | None
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """130 interrupted, 4 where a row failed, else 0."""
        return 130 if self.interrupted else 4 if self.failed else 0


def batch(
    source: PathOrPlan,
    inputs: str | Path,
    out: str | Path,
    *,
    simulate: bool = False,
    limit: int | None = None,
    retry: bool = False,
    force: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    overrides: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Batch:
    """Runs a plan once for each row of ``inputs`` and writes the outputs to ``out/ID.png`` (``.mp4``, ...).

    ``inputs``: ``.jsonl``, ``.csv``, ``.parquet`` or ``-``; a row is an ``id`` and arguments that override
    the plan's ``run``. ``simulate``: on ``sim:0``; ``limit``: rows to run at most; ``retry``: rows that
    failed, too; ``force``: outputs of another plan are made again; ``fail_fast``: the first row that fails is
    the last; ``tell``: is given lines of progress. What is finished is known by ``out`` and not run again.
    Raises PlanError for bad rows before any weight is read, and for a folder that cannot be written.
    """
    from planner.loading.packages import require

    require()
    plan = load(source, overrides=(*overrides, "idle=keep"))
    device = _device(plan, simulate=simulate)
    rows = _rows(plan, inputs)
    where = Path(out)
    if dry_run and not where.exists():  # which makes nothing
        left = len(rows[:limit])
        return Batch(done=0, skipped=0, failed=0, left=left, results=None)
    with guarded(where):
        folder = Folder(where)
        try:
            kind = device.name.type
            todo, skipped, failed = _todo(folder, rows, kind, retry=retry, force=force)
            todo = todo[:limit]
            if dry_run:
                return Batch(done=0, skipped=skipped, failed=failed, left=len(todo), results=None)
            return _Running(folder, plan, device, rows, tell, fail_fast).run(todo, skipped, failed)
        finally:
            folder.close()


def _device(plan: Plan, *, simulate: bool) -> Any:
    from planner.session.machine import pick_device
    from planner.virtual.device import SimDevice

    return SimDevice() if simulate else device_for(pick_device(plan))


def _rows(plan: Plan, inputs: str | Path) -> list[Row]:
    from planner.loading.inputs import signature
    from planner.loading.pipeline import class_of

    target = compile(plan).target
    call = target.call if target.call is not None else signature(class_of(plan))
    raws, found, texts = read_rows(inputs, call)
    folder = Path() if str(inputs) == STDIN else Path(inputs).parent
    rows, more = check_rows(plan, raws, call, target.cls, folder)
    if errors(found + more):
        raise PlanError(by_place(found + more), (*texts, *plan.document.sources))
    return rows


def key_of(row: Row, device: str) -> str:
    """What an output is made of: resolved plan and row, files of images, versions, kind of the device."""
    files = [
        text for name, value in row.plan.run.items() if name in IMAGES | VIDEOS for text in _texts(value)
    ]
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    said = [to_yaml(row.plan), [digest_of([beside(row.plan, text)]) for text in files], versions, device]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value


def _todo(
    folder: Folder, rows: list[Row], device: str, *, retry: bool, force: bool
) -> tuple[list[tuple[Row, str]], int, int]:
    """Rows to run with their keys, equal shapes together; how many are finished, and set aside."""
    todo, skipped, failed, found = [], 0, 0, []
    for row in rows:
        key, record = key_of(row, device), folder.record(row.id)
        if record is None:
            taken = (
                [p for p in _names(folder.out, row.id) if p.exists()] if not folder.started(row.id) else []
            )
            if taken and not force:
                found.append(finding(OUTPUT_TAKEN, f'"{taken[0]}" is there already', span=row.span))
            todo.append((row, key))
        elif record["status"] == "done" and record["key"] != key and not force:
            said = f'the output of "{row.id}" was made of another plan, row, image or version'
            found.append(finding(BATCH_CHANGED, said, span=row.span, hint="--force, or another --out"))
        elif record["status"] == "done" and record["key"] == key and folder.whole(record):
            skipped += 1
        elif record["status"] == "failed" and not retry and record["key"] == key:
            failed += 1
        else:
            if record["status"] == "failed":
                folder.forget(row.id)
            todo.append((row, key))
    if found:
        raise PlanError(found)
    todo.sort(key=lambda one: repr(sorted((k, v) for k, v in one[0].plan.run.items() if COUNTS.fullmatch(k))))
    return todo, skipped, failed


def _names(out: Path, name: str) -> Iterator[Path]:
    for suffixes in SUFFIXES.values():
        yield from (out / f"{name}{number}{suffixes[0]}" for number in ("", "-0"))


class _Running:
    """A batch at work."""

    def __init__(
        self, folder: Folder, plan: Plan, device: Any, rows: list[Row], tell: Any, fail_fast: bool
    ) -> None:
        self.folder, self.plan, self.device, self.rows = folder, plan, device, rows
        self.tell, self.fail_fast = tell, fail_fast
        self.stopped = False

    def run(self, todo: list[tuple[Row, str]], skipped: int, failed: int) -> Batch:
        done, started = 0, time.monotonic()
        try:
            with self._stoppable():
                work = self._prepared() if todo else None
                for number, (row, key) in enumerate(todo, start=1):
                    assert work is not None
                    good = self._row(work, row, key)
                    done, failed = done + good, failed + (not good)
                    self._progress(row, number, len(todo), failed, time.monotonic() - started)
                    if self.stopped or (self.fail_fast and not good):
                        break
                if work is not None:
                    work[1].remove()
        except KeyboardInterrupt:
            self.stopped = True
        path = self.folder.results([row.id for row in self.rows])
        left = len(self.rows) - done - skipped - failed
        interrupted = self.stopped and left > 0
        return Batch(
            done=done, skipped=skipped, failed=failed, left=left, results=path, interrupted=interrupted
        )

    def _prepared(self) -> Any:
        from planner.loading.pipeline import load_pipeline
        from planner.virtual.audit import snapshot

        pipe = load_pipeline(self.plan, device_type=self.device.name.type)
        truth = snapshot(pipe) if self.device.name.type == "sim" else None
        session, _ = attach(self.plan, pipe, self.device, loaded_by_us=True)
        return pipe, session, truth

    def _row(self, work: Any, row: Row, key: str) -> bool:
        """Runs one row and keeps its record; whether it has its output."""
        if self.folder.started(row.id) >= DEATHS:
            said = f'"{row.id}" was started {DEATHS} times and the process ended each time'
            self._keep(row, key, None, [finding(ROW_DIED, said, span=row.span)])
            return False
        self.folder.start(row.id)
        try:
            return self._called(work, row, key)
        except BaseException:  # the folder failed, or an interrupt: no death of the row's
            self.folder.forget(row.id)
            raise

    def _called(self, work: Any, row: Row, key: str) -> bool:
        from planner.loading.call import attempt
        from planner.loading.inputs import call_of
        from planner.loading.outputs import outputs_of, sample_rate_of, save

        pipe, session, truth = work
        try:
            outcome = attempt(session, row.plan, pipe, call_of(row.plan, pipe).arguments, truth)
            if outcome.raised is not None:
                raise outcome.raised
            if outcome.found:
                raise PlanError(outcome.found)
            suffix = SUFFIXES[outputs_of(outcome.result)[0].kind][0]
            to = self.folder.out / f"{row.id}{suffix}"
            paths = save(outcome.result, row.plan, to, sample_rate=sample_rate_of(pipe), force=True)
        except PlanError as error:
            if any(d.code is OUTPUT_UNWRITABLE for d in error.diagnostics):
                raise OSError(error.diagnostics[0].message) from error
            self._keep(row, key, None, list(error.diagnostics))
            return False
        before = self.folder.record(row.id) or {"outputs": []}
        self._keep(row, key, outcome.measured, [], paths)
        for name in {*before["outputs"]} - {path.name for path in paths}:
            (self.folder.out / name).unlink(missing_ok=True)  # of a row that had more outputs
        return True

    def _keep(
        self, row: Row, key: str, measured: Any, found: list[Diagnostic], paths: list[Path] | None = None
    ) -> None:
        said = [{"code": d.code.id, "message": d.message} for d in found]
        self.folder.keep(
            {
                "id": row.id,
                "status": "done" if paths else "failed",
                "seed": row.seed,
                "seconds": measured.total if measured else None,
                "peak": measured.peak_weights if measured else None,
                "moved": measured.moved if measured else None,
                "outputs": [path.name for path in paths or ()],
                "digest": digest_of(paths) if paths else None,
                "finding": said[0] if said else None,
                "key": key,
            }
        )

    def _progress(self, row: Row, number: int, of: int, failed: int, seconds: float) -> None:
        rate = number / max(seconds, 1e-9)
        eta = (of - number) / rate
        self.tell(
            f"{number}/{of} {row.id}   {rate * 60:.1f} rows/min   ETA {eta / 60:.0f} min   {failed} failed"
        )

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """An interrupt or SIGTERM ends the batch after the row that runs; a second one ends it now."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            if self.stopped:
                raise KeyboardInterrupt
            self.stopped = True
            self.tell("ends after the row that runs; once more ends it now")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
