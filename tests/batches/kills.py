"""``python -m tests.batches.kills``: batches whose workers, driver or raylet are killed at random moments.

A case is an engine, a count of workers and a victim. It is run until it has ended by itself, whatever had to
be started again. Then each row has its one output, byte-equal to what one worker makes of it, and nothing
else is there. Only processes that this one started are killed, by their ids.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest's pythonpath
from slowed import environment

PLAN = """version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64, seed: 3}
"""
CASES = [("local", 1, "driver")]
CASES += [("local", workers, victim) for workers in (2, 4) for victim in ("worker", "driver")]
CASES += [("ray", workers, victim) for workers in (2, 4) for victim in ("worker", "driver", "raylet")]
MARKS = {
    "local": {"worker": "spawn_main"},
    "ray": {"worker": "MapWorker", "raylet": "/raylet/raylet"},
}
"""In the command line of a victim."""
HANGS = 300
"""Seconds without an output after which a batch is said to hang."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """``kills``: so many at most, fewer where the batch ends before."""

    engine: str
    workers: int
    victim: str
    kills: int
    seed: int

    def __str__(self) -> str:
        return f"{self.engine} {self.workers} {self.victim} seed {self.seed}"


class Hangs(Exception):
    """A batch made no output for too long, or cannot make any."""


def main() -> int:
    """Runs the cases that were asked for; 1 where one of them lost, doubled or changed an output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--kills", type=int, default=10, help="in each case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=["local", "ray"])
    parser.add_argument("--workers", type=int)
    parser.add_argument("--victim", choices=["worker", "driver", "raylet"])
    parser.add_argument("--call", type=float, default=0.0, help="seconds that each call takes more")
    parser.add_argument("--write", type=float, default=0.0, help="seconds that each output takes more")
    asked = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # short: a socket's path has 107 characters
        os.environ["RAY_TMPDIR"] = name
        folder = prepared(Path(name), asked.rows)
        os.environ.update(environment(folder, asked.call, asked.write))
        whole = reference(folder)
        for engine, workers, victim in CASES:
            given = (asked.engine or engine, asked.workers or workers, asked.victim or victim)
            if given == (engine, workers, victim):
                case = Case(engine=engine, workers=workers, victim=victim, kills=asked.kills, seed=asked.seed)
                bad += bool(told(case, folder, whole))
    return int(bad > 0)


def prepared(folder: Path, rows: int) -> Path:
    """The folder with a plan and its rows in it."""
    (folder / "x.plan.yaml").write_text(PLAN)
    (folder / "r.jsonl").write_text("".join(f'{{"id": "r{n:03}"}}\n' for n in range(rows)))
    return folder


def reference(folder: Path) -> dict[str, str]:
    """What one worker makes that nobody kills."""
    subprocess.run(command("one", "local", 1), cwd=folder, check=True, capture_output=True)
    return digests(folder / "one")


def told(case: Case, folder: Path, whole: dict[str, str]) -> list[str]:
    """What is wrong after a case, printed with what was done."""
    began = time.monotonic()
    try:
        killed, starts = killed_often(case, folder)
        aside = finished(case, folder)
        wrong = [*faults(folder / str(case), whole)]
    except Hangs as error:
        killed, starts, aside, wrong = -1, -1, -1, [f"hangs: {error}"]
    seconds = time.monotonic() - began
    said = "; ".join(wrong) or f"{len(whole)} outputs, each once, equal to one worker's"
    pairs = len(re.findall(r" ended \(.*\) with \S+, \S+: ", (folder / f"{case}.log").read_text()))
    counts = f"{killed} kills, {pairs} of workers with two rows, {starts} starts of the batch, "
    counts += f"{aside} rows set aside and tried again"
    print(f"{case}: {counts}, {seconds:.0f} s: {said}", flush=True)
    return wrong


def command(out: str, engine: str, workers: int) -> list[str]:
    """Of the driver."""
    made = [sys.executable, "-m", "planner", "batch", "x.plan.yaml", "--inputs", "r.jsonl", "--simulate"]
    return [*made, "--out", out, "--engine", engine, "--workers", str(workers)]


def killed_often(case: Case, folder: Path) -> tuple[int, int]:
    """Kills a victim after a random number of outputs and a random time, and starts the batch again where it
    is gone. Returns how many were killed, and how often the batch was started."""
    moments = random.Random(f"{case}")
    out, killed, starts = folder / str(case), 0, 0
    process: subprocess.Popen[bytes] | None = None
    before = (0, 0)
    """Kills and outputs when the batch was started last."""
    while killed < case.kills:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 0:
                break
            there = (killed, len(list(out.glob("*.png"))))
            if process is not None and there == before:
                raise Hangs(f"the batch does not begin: exit {process.returncode}")
            before = there
            process, starts = driver(case, folder), starts + 1
        until(out, process, moments.randrange(12))
        time.sleep(moments.uniform(0, 1))
        victims = [*victims_of(case, process)]
        if victims and process.poll() is None:
            os.kill(moments.choice(sorted(victims)), signal.SIGKILL)
            killed += 1
            if case.victim != "worker":
                ended(process)
    if process is not None:
        ended(process)
    return killed, starts


def driver(case: Case, folder: Path) -> subprocess.Popen[bytes]:
    """A batch started, or started again."""
    with open(folder / f"{case}.log", "ab") as log:
        return subprocess.Popen(
            command(str(case), case.engine, case.workers),
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def until(out: Path, process: subprocess.Popen[bytes], more: int) -> None:
    """Waits for so many outputs more, or for the end of the batch."""
    had, since = len(list(out.glob("*.png"))), time.monotonic()
    seen = had
    while process.poll() is None and seen < had + more:
        time.sleep(0.05)
        now = len(list(out.glob("*.png")))
        since, seen = (time.monotonic(), now) if now > seen else (since, seen)
        if time.monotonic() - since > HANGS:
            process.kill()
            raise Hangs(f"no output for {HANGS} s after {seen}")


def ended(process: subprocess.Popen[bytes]) -> None:
    """Waits for the end of the batch."""
    try:
        process.wait(HANGS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise Hangs(f"the driver did not end in {HANGS} s") from error


def victims_of(case: Case, process: subprocess.Popen[bytes]) -> Iterator[int]:
    """Process ids among those that the driver started, or its own."""
    if case.victim == "driver":
        yield process.pid
        return
    try:
        for one in psutil.Process(process.pid).children(recursive=True):
            if MARKS[case.engine][case.victim] in " ".join(one.cmdline()):
                yield one.pid
    except psutil.NoSuchProcess:
        return


def finished(case: Case, folder: Path) -> int:
    """Runs the batch to its end, with rows that were killed three times. Returns how many those are."""
    made = subprocess.run(command(str(case), case.engine, case.workers), cwd=folder, capture_output=True)
    aside = sum(record["status"] == "failed" for record in records(folder / str(case)))
    if made.returncode:
        again = [*command(str(case), case.engine, case.workers), "--retry"]
        subprocess.run(again, cwd=folder, capture_output=True)
    return aside


def faults(out: Path, whole: dict[str, str]) -> Iterator[str]:
    """What is lost, doubled or not the same."""
    there = digests(out)
    if lost := sorted({*whole} - {*there}):
        yield f"{len(lost)} lost: {lost[:3]}"
    if more := sorted({*there} - {*whole}):
        yield f"{len(more)} too many: {more[:3]}"
    if other := [name for name in whole if name in there and there[name] != whole[name]]:
        yield f"{len(other)} not the same bytes: {other[:3]}"
    names = [record["id"] for record in records(out) if record["status"] == "done"]
    if sorted(f"{name}.png" for name in names) != sorted(whole):
        yield f"results.jsonl has {len(names)} rows done, {len({*names})} of them different"


def digests(out: Path) -> dict[str, str]:
    """Of the files that people look at."""
    files = [path for path in out.iterdir() if path.is_file() and path.stem != "results"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(out: Path) -> list[dict[str, str]]:
    """The lines of the results."""
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
