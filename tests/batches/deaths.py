"""``python -m tests.batches.deaths``: whose death it was, in batches of rows that kill their process.

Each life of the process is a fork that runs the real worker over rows whose calls and writings take random
moments and make nothing: some of them kill the process in their call, some in their writing, always or once,
and somebody kills it from outside. Then each row that never killed it has its output, and those that always
do are set aside; no row was counted for more than one death that another one caused.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

import planner
from planner.api import device_for
from planner.batches.alone import alone
from planner.batches.disk import Folder, held
from planner.batches.packed import packed
from planner.batches.stop import Stop
from planner.batches.task import Job, Task
from planner.batches.worker import DEATHS, Worker
from planner.loading import outputs
from planner.source.text import Span

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""
FATES = ("good", "good", "good", "call", "write", "call once", "write once")
ROWS = 8
LONGEST = 0.004
"""Seconds of a call, and of a writing, at the most."""


def main() -> int:
    """1 where a seed found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--strangers", type=float, default=0.1, help="lives that are ended from outside")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        Path("x.plan.yaml").write_text(PLAN)
        plan = planner.load("x.plan.yaml", overrides=("idle=keep",))
        device_for(torch.device("cpu"))  # imported once, and not in each life
        pairs = bad = lives = 0
        for seed in range(asked.first, asked.first + asked.seeds):
            found = Deaths(plan, seed, asked.strangers)
            wrong = found.wrong()
            pairs, lives, bad = pairs + found.pairs, lives + found.lives, bad + bool(wrong)
            for line in wrong:
                print(f"seed {seed}: {line}", flush=True)
            shutil.rmtree("out")
    print(f"{asked.seeds} seeds, {lives} lives, {pairs} ended with two rows, {bad} seeds with faults")
    return int(bad > 0)


class Deaths:
    """A batch run to its end. Of each row, deaths that it was counted for: its ``own``, those that ``others``
    caused, and those from ``outside``; ``lives`` of the process, ``pairs`` ended with two rows started."""

    def __init__(self, plan: planner.Plan, seed: int, strangers: float) -> None:
        self.plan, self.random, self.strangers = plan, random.Random(seed), strangers
        self.fates = {f"r{n}": self.random.choice(FATES) for n in range(ROWS)}
        self.own = dict.fromkeys(self.fates, 0)
        self.others, self.outside = dict(self.own), dict(self.own)
        self.lives = self.pairs = 0
        with held(Path("out")) as folder:
            self.tasks = [self._task(name) for name in self.fates]
            while self._life(folder):
                pass
            self.records = {name: folder.record(name) for name in self.fates}
            self.starts = sum(folder.started(name) for name in self.fates)

    def wrong(self) -> list[str]:
        """What does not hold, in words."""
        said = [f"{self.starts} starts are left"] if self.starts else []
        for name, fate in self.fates.items():
            status = (self.records[name] or {"status": "lost"})["status"]
            own, others, outside = self.own[name], self.others[name], self.outside[name]
            counts = f"{own} deaths of its own, {others} of others, {outside} from outside"
            always = fate in ("call", "write")
            aside = own + others + outside >= DEATHS
            if others > 1 or (status == "failed") != aside or (always and not aside):
                said.append(f"{name} ({fate}): {status}, {counts}")
            elif status == "done" and Path(f"out/{name}.png").read_bytes() != _bytes(name):
                said.append(f"{name} is another one's")
        return said

    def _task(self, name: str) -> Task:
        run = {**self.plan.run, "prompt": name}
        return Task(id=name, run=run, key="k", shape="", span=Span(file="r", line=1, column=1))

    def _life(self, folder: Folder) -> bool:
        """Whether there is to be another one."""
        self.lives += 1
        before = {name: folder.started(name) for name in self.fates}
        seed, stranger = self.random.random(), self.random.random() < self.strangers
        if not (child := os.fork()):
            os._exit(self._run(folder, random.Random(seed), stranger))
        _, status = os.waitpid(child, 0)
        counted = [name for name in self.fates if folder.started(name) > before[name]]
        self.pairs += len(counted) == 2
        killer = Path("killer")
        own = killer.read_text() if killer.exists() else ""
        killer.unlink(missing_ok=True)
        for name in counted:
            (self.own if name == own else self.others if own else self.outside)[name] += 1
        return status != 0

    def _run(self, folder: Folder, moments: random.Random, stranger: bool) -> int:
        """In a process that may end at any moment."""
        once = Path("once")
        once.mkdir(exist_ok=True)

        def dies(name: str, where: str) -> None:
            time.sleep(moments.uniform(0, LONGEST))
            if self.fates[name].startswith(where):
                if self.fates[name].endswith("once"):
                    if (once / f"{folder.token}-{name}").exists():
                        return
                    (once / f"{folder.token}-{name}").touch()
                Path(f"killer-{where}").write_text(name)
                os.replace(f"killer-{where}", "killer")
                os.kill(os.getpid(), signal.SIGKILL)

        def call(plan: planner.Plan, name: str, **_: Any) -> Any:
            dies(name, "call")
            return SimpleNamespace(result=SimpleNamespace(images=[_image(name)]), measured=None)

        def written(made: Any, plan: Any, out: Path, **options: Any) -> list[Path]:
            dies(out.stem, "write")
            return write(made, plan, out, **options)

        write = outputs.save_outputs
        setattr(outputs, "save_outputs", written)  # noqa: B010
        work: Any = SimpleNamespace(pipe=None, call=call, remove=lambda: None)
        setattr(Worker, "_prepared", lambda self: work)  # noqa: B010
        if stranger:
            signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.001, 8 * LONGEST))  # SIGALRM ends it
        job = Job(plan=packed(self.plan), device="cpu", out=folder.out, token=folder.token, threads=1)
        order = moments.sample(self.tasks, len(self.tasks))  # as workers are given the rows of others, too
        for _ in alone(job, order, Stop()):
            pass
        return 0


def _image(name: str) -> Image.Image:
    return Image.new("RGB", (4, 4), (int(name[1:]), 7, 9))


def _bytes(name: str) -> bytes:
    _image(name).save("one.png")
    return Path("one.png").read_bytes()


if __name__ == "__main__":
    sys.exit(main())
