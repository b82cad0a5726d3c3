"""A row is written while the next one's call runs: no row is lost, doubled or counted that was not before."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planner
from planner.batches.disk import Folder, held
from planner.batches.packed import packed
from planner.batches.processes import processes
from planner.batches.stop import Stop
from planner.batches.task import Job
from planner.batches.todo import todo
from planner.batches.work import Work
from planner.diagnostics.diagnostic import finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE
from planner.loading import outputs

from .test_workers import here, pictures

__all__ = ["here"]  # a fixture

PATIENCE = 120
"""Seconds after which what does not happen is said not to."""


@dataclass
class Course:
    """What happened, in order, and what is to happen where: ``calling`` and ``writing`` are given a row's
    name when its call, or the writing of its output, begins."""

    events: list[str] = field(default_factory=list)
    calling: Callable[[str], None] = lambda name: None
    writing: Callable[[str], None] = lambda name: None

    def at(self, event: str) -> int:
        return self.events.index(event)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    """Of the batches that run in this process."""
    seen = Course()
    call, write = Work.call, outputs.save_outputs

    def called(self: Work, plan: planner.Plan, name: str, **options: Any) -> Any:
        seen.events.append(f"call {name}")
        seen.calling(name)
        made = call(self, plan, name, **options)
        seen.events.append(f"called {name}")
        return made

    def written(made: Any, plan: planner.Plan, out: Path, **options: Any) -> list[Path]:
        seen.writing(out.stem)
        paths = write(made, plan, out, **options)
        seen.events.append(f"written {out.stem}")
        return paths

    monkeypatch.setattr(Work, "call", called)
    monkeypatch.setattr(outputs, "save_outputs", written)
    return seen


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Nobody waits at it after the test."""
    made = threading.Event()
    yield made
    made.set()


def starts(out: str = "out") -> int:
    return sum(path.stat().st_size for path in Path(out, ".batch/started").iterdir())


def test_a_call_runs_while_the_row_before_is_written(
    here: Path, course: Course, gate: threading.Event
) -> None:
    def writing(name: str) -> None:
        if name == "r0":
            assert gate.wait(PATIENCE)

    def calling(name: str) -> None:
        if name == "r1":
            gate.set()  # r0 is written from here on, and not before

    course.writing, course.calling = writing, calling
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (made.done, made.left) == (4, 0)
    assert course.at("call r1") < course.at("written r0") < course.at("call r2")  # one row waits at most
    course.writing = course.calling = lambda name: None
    planner.batch("x.plan.yaml", "r.jsonl", "again", simulate=True)
    assert pictures("out") == pictures("again")
    assert len(pictures("out")) == 4


WAITS = """
import threading
from planner.batches.work import Work
from planner.diagnostics.diagnostic import finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE
from planner.loading import outputs
from pathlib import Path

gate, call, write = threading.Event(), Work.call, outputs.save_outputs

def called(self, plan, name, **options):
    if name == "r1":
        gate.set()
    return call(self, plan, name, **options)

def written(made, plan, out, **options):
    if out.stem == "r0":
        assert gate.wait(120)
        Path("overlapped").touch()
    return write(made, plan, out, **options)

Work.call, outputs.save_outputs = called, written
"""


def job(folder: Folder) -> Job:
    plan = planner.load("x.plan.yaml", overrides=("idle=keep",))
    return Job(plan=packed(plan), device="sim:0", out=folder.out.absolute(), token=folder.token, threads=1)


def in_process(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[str, bool]]:
    """Rows of one worker in a process of its own, which begins with ``code``, as they end."""
    from planner.batches.batch import _rows

    Path("sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path.cwd()), *sys.path]))
    found, _ = _rows(planner.load("x.plan.yaml", overrides=("idle=keep",)), "r.jsonl")
    tasks, _, _ = todo(folder, found, "sim", retry=False, force=False)
    for task, good in processes([job(folder)], tasks, folder, tell, Stop()):
        yield task.id, good


@pytest.mark.wide
def test_it_does_in_a_process_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(here / "out") as folder:
        assert [*in_process(folder, monkeypatch, WAITS)] == [(f"r{n}", True) for n in range(4)]
    assert Path("overlapped").exists()
    assert starts() == 0


def test_nothing_of_a_row_is_on_the_device_when_the_next_call_begins(
    here: Path, course: Course, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("x.plan.yaml").write_text(Path("x.plan.yaml").read_text().replace("seed: 3", "output_type: pt"))
    of, kept = outputs.outputs_of, []

    def outputs_of(result: Any) -> list[outputs.Made]:
        assert result.images.device.type == "sim"
        kept.append(weakref.ref(result.images))
        made = of(result)
        assert {type(one.data) for one in made} == {np.ndarray}
        return made

    def calling(name: str) -> None:
        gc.collect()
        assert not any(one() is not None for one in kept)
        course.events.append(f"{len(kept)} before")
        gate.set()

    def writing(name: str) -> None:
        if name == "r0":
            assert gate.wait(PATIENCE)
        gate.clear()

    monkeypatch.setattr(outputs, "outputs_of", outputs_of)
    course.calling, course.writing = calling, writing
    assert planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True).done == 4
    assert course.at("1 before") < course.at("written r0")


def no_room(name: str) -> planner.PlanError:
    return planner.PlanError([finding(OUTPUT_UNWRITABLE, f'cannot write "{name}": No space left on device')])


def test_a_disk_that_is_full_ends_the_call_that_runs(
    here: Path, course: Course, gate: threading.Event
) -> None:
    """The row that finds no room and the one whose call runs are as if they had not been started."""

    def writing(name: str) -> None:
        if name == "r1":
            assert gate.wait(PATIENCE)
            raise no_room(name)

    def calling(name: str) -> None:
        if name == "r2":
            (one,) = (one for one in threading.enumerate() if one.name == "offload-plan writer")
            gate.set()
            one.join(PATIENCE)

    course.writing, course.calling = writing, calling
    with pytest.raises(planner.PlanError, match="No space left") as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P967"]
    assert course.events[-1] == "call r2"
    assert {*pictures("out")} == {"r0.png"}
    assert starts() == 0
    course.writing = course.calling = lambda name: None
    again = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (again.done, again.skipped, again.left) == (3, 1, 0)


FULL = """
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.loading import outputs

write = outputs.save_outputs

def written(made, plan, out, **options):
    if out.stem == "r{last}":
        raise PlanError([finding(OUTPUT_UNWRITABLE, "No space left on device")])
    return write(made, plan, out, **options)

outputs.save_outputs = written
"""


@pytest.mark.wide
@pytest.mark.parametrize("last", [1, 3])
def test_a_disk_that_is_full_in_a_process_of_its_own(
    last: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last row, too, after which nobody gives the worker another one."""
    with held(here / "out") as folder:
        ended = in_process(folder, monkeypatch, FULL.replace("{last}", str(last)))
        with pytest.raises(planner.PlanError, match="No space left") as raised:
            assert not [*ended]
    assert [d.code.id for d in raised.value.diagnostics] == ["P967"]
    assert {*pictures("out")} == {f"r{n}.png" for n in range(last)}
    assert starts() == 0


def test_what_nothing_can_hold_is_set_aside_while_the_next_call_runs(
    here: Path, course: Course, gate: threading.Event
) -> None:
    def writing(name: str) -> None:
        if name == "r1":
            assert gate.wait(PATIENCE)
            raise planner.PlanError([finding(BAD_OUTPUT, "no")])

    def calling(name: str) -> None:
        if name == "r2":
            gate.set()

    course.writing, course.calling = writing, calling
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (made.done, made.failed, made.exit_code) == (3, 1, 4)
    assert {*pictures("out")} == {"r0.png", "r2.png", "r3.png"}
    assert starts() == 0


def test_fail_fast_ends_the_row_that_runs_and_starts_no_other(
    here: Path, course: Course, gate: threading.Event
) -> None:
    def writing(name: str) -> None:
        if name == "r0":
            assert gate.wait(PATIENCE)
            raise planner.PlanError([finding(BAD_OUTPUT, "no")])

    def calling(name: str) -> None:
        if name == "r1":
            gate.set()

    course.writing, course.calling = writing, calling
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True, fail_fast=True)
    assert (made.done, made.failed, made.left, made.exit_code) == (1, 1, 2, 4)
    assert "call r2" not in course.events


def test_interrupted_once_both_rows_end(here: Path, course: Course, gate: threading.Event) -> None:
    def writing(name: str) -> None:
        if name == "r1":
            assert gate.wait(PATIENCE)

    def calling(name: str) -> None:
        if name == "r2":
            os.kill(os.getpid(), signal.SIGINT)
            gate.set()

    course.writing, course.calling = writing, calling
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (made.done, made.left, made.exit_code) == (3, 1, 130)
    assert {*pictures("out")} == {"r0.png", "r1.png", "r2.png"}
    assert starts() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_interrupted_twice_neither_is_waited_for(
    fails: bool, here: Path, course: Course, gate: threading.Event
) -> None:
    """What the thread that wrote does later changes nothing, not under another batch either."""
    late: list[threading.Thread] = []

    def writing(name: str) -> None:
        if name == "r1":
            late.append(threading.current_thread())
            assert gate.wait(PATIENCE)
            if fails:
                raise no_room(name)

    def calling(name: str) -> None:
        if name == "r2":
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    course.writing, course.calling = writing, calling
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (made.done, made.left, made.exit_code) == (1, 3, 130)
    assert {*pictures("out")} == {"r0.png"}
    assert starts() == 0
    with held(here / "out") as folder:
        folder.start("r1")
        gate.set()
        late[0].join(PATIENCE)
        assert folder.started("r1") == 1
        assert {*pictures("out")} == {"r0.png"}
        folder.unstart("r1", 0)
    course.writing = course.calling = lambda name: None
    again = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    assert (again.done, again.skipped, again.left) == (3, 1, 0)


def test_interrupted_twice_while_the_last_row_is_written(
    here: Path, course: Course, gate: threading.Event
) -> None:
    asked = threading.Event()

    def writing(name: str) -> None:
        if name == "r3":
            os.kill(os.getpid(), signal.SIGINT)
            assert asked.wait(PATIENCE)  # two signals that wait are one
            os.kill(os.getpid(), signal.SIGINT)
            assert gate.wait(PATIENCE)

    def tell(line: str) -> None:
        if line.startswith("ends after"):
            asked.set()

    course.writing = writing
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True, tell=tell)
    assert (made.done, made.left, made.exit_code) == (3, 1, 130)
    assert starts() == 0


@pytest.mark.wide
def test_interrupted_twice_the_process_ends_at_once(here: Path) -> None:
    """Though the row before is still being written, which nothing can end."""
    Path("sitecustomize.py").write_text(ENDLESS)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--inputs", "r.jsonl", "--simulate"]
    ended = subprocess.run([*command, "--out", "out"], env=environment, timeout=PATIENCE, capture_output=True)
    assert ended.returncode == 130, ended.stderr
    assert {*pictures("out")} == {"r0.png"}
    assert starts() == 0


ENDLESS = """
import os, signal, threading
from planner.batches.work import Work
from planner.diagnostics.diagnostic import finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE
from planner.loading import outputs

call, write = Work.call, outputs.save_outputs

def called(self, plan, name, **options):
    if name == "r2":
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
    return call(self, plan, name, **options)

def written(made, plan, out, **options):
    if out.stem == "r1":
        threading.Event().wait()
    return write(made, plan, out, **options)

Work.call, outputs.save_outputs = called, written
"""


KILLS = """
import os, threading
from pathlib import Path
from planner.batches.work import Work
from planner.loading import outputs

gate, call, write = threading.Event(), Work.call, outputs.save_outputs

def called(self, plan, name, **options):
    if name == "r1":
        gate.set()
        os.kill(os.getpid(), 9)
    return call(self, plan, name, **options)

def written(made, plan, out, **options):
    if out.stem == "r0" and not Path("once").exists():
        Path("once").touch()
        gate.wait(120)
        threading.Event().wait()  # until r1 kills both
    return write(made, plan, out, **options)

Work.call, outputs.save_outputs = called, written
"""


@pytest.mark.wide
def test_a_row_that_was_written_while_the_next_one_killed_both(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with held(here / "out") as folder:
        ended = dict(in_process(folder, monkeypatch, KILLS, said.append))
        assert ended == {"r0": True, "r1": False, "r2": True, "r3": True}
        assert (folder.record("r1") or {})["finding"]["code"] == "P966"
    assert [re.findall(r"\br\d\b", line) for line in said] == [["r0", "r1"], ["r1"], ["r1"]]
    assert starts() == 0


@pytest.mark.wide
@pytest.mark.parametrize("seed", range(2))
def test_workers_killed_at_any_moment_of_calls_and_writings(seed: int) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.batches.kills",
        "--rows",
        "16",
        "--kills",
        "4",
        "--seed",
        str(seed),
    ]
    command += ["--engine", "local", "--workers", "2", "--call", "0.3", "--write", "0.3"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("16 outputs, each once, equal to one worker's") == 2


@pytest.mark.parametrize("seeds", [2, pytest.param(60, marks=pytest.mark.wide)])
def test_no_row_is_set_aside_for_another_ones_deaths(seeds: int) -> None:
    command = [sys.executable, "-m", "tests.batches.deaths", "--seeds", str(seeds)]
    ended = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r", [1-9]\d* ended with two rows, 0 seeds with faults", ended.stdout)
