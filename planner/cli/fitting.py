"""What ``plan fit`` shows while it works: a line on a terminal that is gone afterwards, else a line in the
log for each thing that begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from planner.cli.terminal import coloured, log
from planner.fitting.watch import Watch
from planner.source.visible import visible


@contextmanager
def watched() -> Iterator[Watch]:
    """On stderr, which alone is asked whether it is a terminal: what colours are wanted does not make it
    one."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    colour = coloured(sys.stderr)
    console = Console(
        file=sys.stderr, force_terminal=True, no_color=not colour, highlight=False, markup=False, emoji=False
    )
    with Progress(
        SpinnerColumn("line"),  # ASCII, as any terminal's encoding has it
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    ) as shown:
        yield _Shown(shown)


class _Lines(Watch):
    def begins(self, what: str) -> None:
        log(what)


class _Shown(Watch):
    """``searching   41 plans, the best 71.47 s, none below 71.18 s   0:00:03``."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._task = shown.add_task("")
        self._what = ""
        self._plans = 0
        self._best: int | None = None
        self._least: int | None = None

    def begins(self, what: str) -> None:
        self._what, self._plans, self._best, self._least = what, 0, None, None
        self._show()

    def priced(self, cost: int | None) -> None:
        self._plans += 1
        if cost is not None and (self._best is None or cost < self._best):
            self._best = cost
        self._show()

    def bounded(self, least: int) -> None:
        self._least = least
        self._show()

    def _show(self) -> None:
        said = [f"{self._plans} plan{'s' * (self._plans != 1)}"] if self._plans else []
        said += [f"the best {self._best / 1e6:.2f} s"] if self._best is not None else []
        said += [f"none below {self._least / 1e6:.2f} s"] if self._least is not None else []
        self._shown.update(
            self._task, description="   ".join(filter(None, (visible(self._what), ", ".join(said))))
        )
