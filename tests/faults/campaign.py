"""Many cases in processes of their own, with a table of what ran and what it found."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import time
from collections import Counter
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from faults.case import Case
from faults.cases import cases
from faults.world import PHASES, PIPELINES, POLICIES, World

PATIENCE = 120.0
"""Seconds without a word from a process, after which its case hangs."""

BATCH = 200
"""Cases of one process."""

Job = tuple[str, str, int, int, tuple[str, ...]]
"""Pipeline, policy, seed, how many, and phases (all where there are none)."""


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="cases")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, help="begin no batch after so long")
    parser.add_argument("--pipelines", nargs="*", default=PIPELINES, choices=PIPELINES)
    parser.add_argument("--policies", nargs="*", default=[*POLICIES], choices=[*POLICIES])
    parser.add_argument("--phases", nargs="*", default=[], choices=PHASES)
    parser.add_argument("--replay", metavar="KEY", help="one case, by the key that a failure prints")
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(Case.read(options.replay))
    table = Table()
    try:
        run_jobs(_jobs(options), options.workers, options.seconds, table)
    except KeyboardInterrupt:
        print("interrupted: what ran until then", flush=True)
        return 130
    finally:
        print(table, flush=True)
    return bool(table.failed or table.lost)


class Table:
    """What ran, by policy, phase and kind, and what was found."""

    def __init__(self) -> None:
        self.ran: Counter[tuple[str, str, str]] = Counter()
        self.bad: Counter[tuple[str, str, str]] = Counter()
        self.failed: dict[str, list[str]] = {}
        self.lost = 0
        """Processes that ended with an error between two cases."""

    def add(self, key: str, wrong: list[str]) -> None:
        case = Case.read(key)
        place = (case.policy, case.phase, case.kind)
        self.ran[place] += 1
        if wrong:
            self.bad[place] += 1
            self.failed[key] = wrong
            print(f"FAILED {key}", *wrong, sep="\n    ", flush=True)

    def __str__(self) -> str:
        kinds = sorted({kind for *_, kind in self.ran})
        places = sorted({place[:2] for place in self.ran})
        rows = [["policy", "phase", *kinds, "all"]]
        for policy, phase in places:
            cells = [self._cell(policy, phase, kind) for kind in kinds]
            total = sum(n for (p, q, _), n in self.ran.items() if (p, q) == (policy, phase))
            rows.append([policy, phase, *cells, str(total)])
        totals = [str(sum(n for (*_, k), n in self.ran.items() if k == kind)) for kind in kinds]
        rows.append(["all", "", *totals, str(self.ran.total())])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([*lines, f"{self.counts()}; failures in brackets"])

    def counts(self) -> str:
        """In a line."""
        lost = f", {self.lost} processes died between two cases" if self.lost else ""
        return f"{self.ran.total()} ran, {len(self.failed)} failed{lost}"

    def _cell(self, *place: Any) -> str:
        bad = self.bad[place]
        return f"{self.ran[place] or ''}" + (f" ({bad})" if bad else "")


def run_jobs(jobs: list[Job], workers: int, seconds: float | None, table: Table) -> None:
    """Each job in a process of its own: what one leaves behind, no other finds."""
    started, waiting = time.monotonic(), jobs[::-1]
    running: dict[Connection, tuple[Any, str, float]] = {}
    try:
        while waiting or running:
            if seconds is not None and time.monotonic() - started > seconds:
                waiting.clear()
            while waiting and len(running) < workers:
                _start(waiting.pop(), running)
            for here in _heard(running, table):
                del running[here]
                left = len(waiting) + len(running)
                print(f"{table.counts()}; {left} batches left", flush=True)
    finally:
        for process, *_ in running.values():
            process.kill()


def _start(job: Job, running: dict[Connection, tuple[Any, str, float]]) -> None:
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_work, args=(job, there))
    process.start()
    there.close()
    running[here] = (process, "", time.monotonic())


def _heard(running: dict[Connection, tuple[Any, str, float]], table: Table) -> list[Connection]:
    """What the processes say within a second goes into ``table``; the ones that ended, or hang."""
    ended = []
    for here in multiprocessing.connection.wait([*running], timeout=1):
        assert isinstance(here, Connection)
        process, key, _ = running[here]
        try:
            key, wrong = here.recv()
        except EOFError:
            process.join()
            if key:
                table.add(key, [f"the process died with {process.exitcode}"])
            elif process.exitcode:
                table.lost += 1
            ended.append(here)
            continue
        if wrong is not None:
            table.add(key, wrong)
            key = ""
        running[here] = (process, key, time.monotonic())
    for here in running.keys() - ended:
        process, key, heard = running[here]
        if time.monotonic() - heard > PATIENCE:
            process.kill()
            if key:
                table.add(key, ["hangs"])
            ended.append(here)
    return ended


def _work(job: Job, out: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's Ctrl-C is no fault of a case: it kills us
    pipeline, policy, seed, count, phases = job
    world = World(pipeline, policy)
    for case in islice(cases(world, seed, phases), count):
        out.send((str(case), None))
        out.send((str(case), run_case(world, case)))
    out.send(("", None))


def run_case(world: World, case: Case) -> list[str]:
    """What is wrong after ``case``; an error of its own is, too."""
    try:
        return world.run(case)
    except Exception as error:
        world.__init__(world.name, world.policy)  # type: ignore[misc]
        return [f"the case itself raised {type(error).__name__}: {str(error)[:300]}"]


def _jobs(options: Any) -> list[Job]:
    """As many batches as there are cases, over the pipelines and policies in turn."""
    pairs = [(pipeline, policy) for pipeline in options.pipelines for policy in options.policies]
    rounds = -(-options.count // (BATCH * len(pairs)))
    size = -(-options.count // (rounds * len(pairs)))
    seeds = range(options.seed * 1000, options.seed * 1000 + rounds)
    return [(*pair, seed, size, tuple(options.phases)) for seed in seeds for pair in pairs]


def _replay(case: Case) -> int:
    wrong = run_case(World(case.pipeline, case.policy), case)
    print(case, *wrong, sep="\n    ")
    return bool(wrong)
