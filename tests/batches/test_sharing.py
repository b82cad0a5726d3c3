"""One copy of the weights for the workers of a machine: who makes it, who has it, and when there is none."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import planner
from planner.batches import sharing
from planner.batches.disk import Folder, held
from planner.batches.packed import packed
from planner.batches.sharing import shared_pipeline
from planner.batches.task import Job, Task
from planner.batches.worker import Worker
from planner.device import shared
from planner.loading.apart import Inseparable
from planner.loading.segment import own_bytes
from planner.plan.model import Plan

from .test_workers import PLAN, here, task

__all__ = ["here"]  # a fixture

pytestmark = pytest.mark.skipif(not shared.POSSIBLE, reason="this system has no memfd")
CPU = torch.device("cpu")


def loaded(folder: Folder, plan: Plan | None = None) -> tuple[bool, str | None]:
    """Whether the parameters are shared, and why they are not."""
    pipe, why = shared_pipeline(plan or planner.load("x.plan.yaml"), CPU, folder)
    buffers = sum(b.nbytes for m in pipe.components.values() if hasattr(m, "buffers") for b in m.buffers())
    return sum(own_bytes(pipe).values()) == buffers, why


def test_who_is_first_makes_it_and_the_next_one_opens_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(here / "out") as folder:
        pipe, why = shared_pipeline(planner.load("x.plan.yaml"), CPU, folder)
        assert why is None
        monkeypatch.setattr(sharing, "load_pipeline", None)  # which would read them
        assert loaded(folder) == (True, None)
    with held(here / "out") as later, pytest.raises(TypeError):  # another batch, of another plan maybe
        loaded(later)
    del pipe


@pytest.mark.wide
def test_one_that_died_while_it_made_it_left_nothing(here: Path) -> None:
    with held(here / "out") as folder:
        code = f"""
            import os, torch, planner
            from pathlib import Path
            from planner.batches import sharing
            from planner.batches.disk import Folder
            share = sharing.share
            def dies(*given):
                pages = share(*given)
                os.kill(os.getpid(), 9)
            sharing.share = dies
            folder = Folder(Path("out").absolute(), {folder.token!r})
            sharing.shared_pipeline(planner.load("x.plan.yaml"), torch.device("cpu"), folder)
        """
        made = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        assert made.returncode == -signal.SIGKILL, made.stderr
        assert [path.suffix for path in folder.shared.iterdir()] == [".lock"]
        (folder.shared / f"{sharing._machine()}.1{os.getpid()}").write_text('{"pid": 0, "file": 0}')
        (folder.shared / f"{sharing._machine()}.2{os.getpid()}").write_text('{"pid": ')
        assert loaded(folder) == (True, None)
        assert sorted(path.suffix for path in folder.shared.iterdir()) == [f".{os.getpid()}", ".lock"]


def test_none_tries_again_what_cannot_be_shared(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def inseparable(pipe: Any) -> Any:
        raise Inseparable("FluxPipeline cannot be pickled: no")

    with held(here / "out") as folder:
        with monkeypatch.context() as here_alone:
            here_alone.setattr(sharing, "taken_apart", inseparable)
            assert loaded(folder) == (False, "FluxPipeline cannot be pickled: no")
        assert loaded(folder) == (False, "FluxPipeline cannot be pickled: no")


def test_what_may_not_be_opened_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with held(here / "out") as folder:
        assert loaded(folder) == (True, None)
        monkeypatch.setattr(sharing, "opened", forbidden)
        shares, why = loaded(folder)
        assert not shares
        assert why == "what another process shares cannot be opened: Permission denied"


def test_a_system_without_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "POSSIBLE", False)
    with held(here / "out") as folder:
        assert loaded(folder) == (False, "this system has no memfd (Linux has)")


def job_and_row(folder: Folder, name: str) -> tuple[Job, Task]:
    plan = planner.load("x.plan.yaml", overrides=("idle=keep",))
    job = Job(plan=packed(plan), device="sim:0", out=folder.out, token=folder.token, threads=1, shares=True)
    return job, replace(task(name, ""), run=dict(plan.run))


WRITES = """
import pickle, sys, torch
from pathlib import Path
from planner.batches.work import Work
from planner.batches.worker import Worker
called = Work.call
def writes(self, plan, name, **options):
    with torch.no_grad():
        self.pipe.vae.decoder.conv_norm_out.weight.mul_(1.0)
    return called(self, plan, name, **options)
Work.call = writes
job, task = pickle.loads(Path("given").read_bytes())
sys.exit(not Worker(job).submit(task).result())
"""


def test_a_row_that_writes_to_its_weights_is_given_a_copy(here: Path) -> None:
    with held(here / "out") as folder:
        job, row = job_and_row(folder, "a")
        Path("given").write_bytes(pickle.dumps((job, row)))
        made = subprocess.run([sys.executable, "-c", WRITES], capture_output=True)
        assert made.returncode == -signal.SIGSEGV
        assert folder.started("a") == 1
        assert "in writes" in (folder.faults / "a").read_text()
        worker = Worker(job)
        assert worker.submit(row).result()
        with torch.no_grad():
            assert worker._work is not None
            worker._work.pipe.vae.decoder.conv_norm_out.weight.mul_(1.0)
        worker.close()
        (said,) = folder.notes()
        assert said.startswith('a worker has a copy of all weights: "a" ended its process with a fault')
        assert said.endswith("[P982 weights-copied]")
        assert folder.notes() == []
        assert not (folder.faults / "a").exists()
        assert folder.ended("a", "") == "done"


def test_what_a_row_changes_is_told_and_what_was_killed_is_no_fault(here: Path) -> None:
    sdxl = PLAN.replace("FluxPipeline", "StableDiffusionXLPipeline").replace("tiny-flux'", "tiny-sdxl'")
    Path("x.plan.yaml").write_text(sdxl.replace("sdxl'}", "sdxl', dtype: float16}"))
    with held(here / "out") as folder:
        (folder.faults / "a").write_bytes(b"")
        job, row = job_and_row(folder, "a")
        worker = Worker(job)
        assert worker.submit(row).result()
        # Which casts its VAE to float32 and back: it is the one that is shared again.
        assert folder.notes() == []
        assert worker._work is not None
        for weight in worker._work.pipe.vae.parameters():
            weight.data = weight.data.clone()
        assert worker.submit(replace(row, id="b")).result()
        (said,) = folder.notes()
        assert re.match(r'a worker has a copy of [\d.]+ KiB of "vae", since "b" changed it', said)
        assert worker.submit(replace(row, id="c")).result()
        assert folder.notes() == []
        worker.close()
