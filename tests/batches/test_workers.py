"""Several workers on one machine: the same bytes as one, whatever ends and whenever."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interrupting import interrupt

import planner
from planner.batches import processes
from planner.batches.devices import placed
from planner.batches.disk import held
from planner.batches.packed import packed, unpacked
from planner.batches.queue import Queue
from planner.batches.task import Job, Task
from planner.batches.worker import Worker
from planner.device import shared
from planner.source.text import Span
from planner.virtual import backend
from planner.virtual.device import SimDevice
from planner.virtual.operations import Fail

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("x.plan.yaml").write_text(PLAN)
    rows(4)
    return tmp_path


def rows(count: int) -> None:
    Path("r.jsonl").write_text("".join(f'{{"id": "r{n}"}}\n' for n in range(count)))


def pictures(out: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(out).glob("*.png")}


def task(name: str, shape: str) -> Task:
    return Task(id=name, run={}, key="", shape=shape, span=Span(file="r", line=1, column=1))


def mapped(pid: int) -> frozenset[str]:
    """Shared weights that a process has: the inodes of what it maps."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines() if shared.POSSIBLE else []
    return frozenset(line.split()[4] for line in lines if "/memfd:offload-plan" in line)


def test_a_worker_that_is_killed_and_the_same_bytes_as_one(here: Path) -> None:
    said: list[str] = []
    weights: list[frozenset[str]] = []

    def tell(line: str) -> None:
        said.append(line)
        weights.extend(mapped(one.pid or 0) for one in multiprocessing.active_children())
        if line.startswith("1/4"):  # two rows wait by now, and each worker has one
            multiprocessing.active_children()[0].kill()

    made = planner.batch("x.plan.yaml", "r.jsonl", "two", workers=2, simulate=True, tell=tell)
    assert (made.done, made.failed, made.left) == (4, 0, 0)
    assert any("exit code -9" in line for line in said)
    if shared.POSSIBLE:  # one copy, which outlives whoever made it
        (copy,) = {one for one in weights if one}
        assert len(copy) == 1
        assert sum(map(bool, weights)) > 2
    assert {path.name for path in Path("two/.batch").glob("*.log")} == {"worker-0.log", "worker-1.log"}
    assert "denoise" in Path("two/.batch/worker-0.log").read_text()
    planner.batch("x.plan.yaml", "r.jsonl", "one", simulate=True)
    assert pictures("two") == pictures("one")
    assert not multiprocessing.active_children()


def test_workers_that_never_come_to_a_row(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "serve", sys.exit)
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "out", workers=2, simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P969"]
    assert [path.stat().st_size for path in Path("out/.batch/started").iterdir()] == []


def test_a_pipeline_that_no_worker_can_load(here: Path) -> None:
    Path("x.plan.yaml").write_text(PLAN.replace("builtin:tiny-flux", "none"))
    rows(1)
    with pytest.raises(planner.PlanError) as raised:
        planner.batch("x.plan.yaml", "r.jsonl", "two", workers=2, simulate=True)
    assert [d.code.id for d in raised.value.diagnostics] == ["P905"]
    assert str(raised.value).startswith("x.plan.yaml:2:42: ")
    assert not multiprocessing.active_children()


def test_a_plan_in_another_process_is_the_same(here: Path) -> None:
    plan = planner.load("x.plan.yaml", overrides=("run.joint_attention_kwargs={scale: 0.5}", "idle=keep"))
    assert unpacked(packed(plan)) == plan


def test_more_workers_than_devices(here: Path) -> None:
    backend.install()
    plan = replace(planner.load("x.plan.yaml"), device="sim")
    assert placed(plan, None, simulate=False) == ["sim:0"]
    assert placed(plan, 3, simulate=True) == ["sim:0"] * 3
    with pytest.raises(planner.PlanError) as raised:
        placed(plan, 2, simulate=False)
    assert [d.code.id for d in raised.value.diagnostics] == ["P968"]


def test_a_worker_of_a_batch_that_is_over_publishes_nothing(tmp_path: Path) -> None:
    with held(tmp_path) as late:
        made = late.room() / "a.png"
        made.write_text("late")
    with held(tmp_path), pytest.raises(planner.PlanError) as raised:
        late.publish([made])
    assert [d.code.id for d in raised.value.diagnostics] == ["P964"]
    assert not (tmp_path / "a.png").exists()


def test_a_start_that_the_batch_ended_is_no_death(tmp_path: Path) -> None:
    with held(tmp_path) as folder:
        for _ in range(2):
            folder.start("a")
        folder.unstart("a", 1)
        assert folder.started("a") == 1
        folder.unstart("a", 1)
        assert folder.started("a") == 1


def test_a_worker_stays_with_its_shape() -> None:
    queue = Queue([task("a1", "a"), task("a2", "a"), task("b1", "b"), task("b2", "b"), task("b3", "b")])
    first = queue.take(None, [])
    assert first is not None
    assert first.id == "b1"
    other = queue.take(None, ["b"])
    assert other is not None
    assert other.id == "a1"
    queue.back(first)
    order = [queue.take("b", ["a"]) for _ in range(5)]
    assert [one and one.id for one in order] == ["b1", "b2", "b3", "a2", None]


@pytest.mark.parametrize("good", [True, False])
def test_out_of_memory_is_tried_once_more(good: bool, here: Path) -> None:
    plan = planner.load("x.plan.yaml", overrides=("idle=keep",))
    with held(here / "out") as folder:
        job = Job(plan=packed(plan), device="sim:0", out=folder.out, token=folder.token, threads=1)
        worker = Worker(job)
        once = Fail(op="alloc", error=torch.OutOfMemoryError)
        worker.device = SimDevice(fail=once) if good else SimDevice(capacity=1 << 20)
        one = replace(task("a", ""), run=dict(plan.run))
        assert worker.submit(one).result() is good
        worker.close()
        record = folder.record("a")
        assert record is not None
        assert (record["finding"] or {}).get("code") == (None if good else "P004")
        assert folder.started("a") == 0


@pytest.mark.wide
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_and_resumed(workers: int, times: int, here: Path) -> None:
    rows(12)
    command = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--simulate", "--out", "out"]
    command += ["--inputs", "r.jsonl", "--workers", str(workers)]
    assert interrupt(command, "1/12", times, patience=120) == 130
    # Whatever was started has ended or counts for nothing.
    assert sum(path.stat().st_size for path in Path("out/.batch/started").iterdir()) == 0
    made = len(pictures("out"))
    assert 1 <= made < 12
    records = Path("out/results.jsonl").read_text().splitlines()
    assert {json.loads(line)["status"] for line in records} == {"done"}
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(pictures("out")) == 12
