"""Where a verb is told to write, judged before it does anything: all faults at once, each with what would
do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_machine import BAD_OUTPUT, OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_IS_INPUT, OUTPUT_TAKEN
from planner.loading.kinds import SUFFIXES, Kind
from planner.loading.reads import PRECIOUS, read_by
from planner.loading.written import writable
from planner.plan.model import Plan


@dataclass(frozen=True, slots=True)
class Destination:
    """``path`` as ``option`` names it. ``force``: a file that is there may be replaced, but for what ``plan``
    reads, weights, plans, code and what a link leads to."""

    option: str
    path: Path
    plan: Plan | None = None
    force: bool = False

    def faults(self) -> Iterator[Diagnostic]:
        """Everything that would keep a file from being written there."""
        try:
            found = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            found = None
        except (OSError, ValueError) as error:  # a name too long, a loop of links, a NUL
            yield self._unwritable(_why(error))
            return
        yield from self._folder() if found is None else self._there(found)

    def _folder(self) -> Iterator[Diagnostic]:
        folder = self.path.parent
        if not os.path.isdir(folder):
            yield self._unwritable(f'there is no folder "{folder}"', f"mkdir -p {folder}")
            return
        try:
            writable(folder)
        except OSError as error:
            yield self._unwritable(_why(error))

    def _there(self, found: os.stat_result) -> Iterator[Diagnostic]:
        path = self.path
        read = read_by(self.plan, path) if self.plan is not None else None
        if stat.S_ISDIR(found.st_mode):
            yield self._unwritable("it is a folder", f"{self.option} {path / 'NAME'}")
        elif read is not None:
            yield finding(OUTPUT_IS_INPUT, f'{self.option} "{path}" is {read}')
        elif stat.S_ISLNK(found.st_mode):
            said = f'{self.option} "{path}" is a link, and what it leads to is not written over'
            yield finding(OUTPUT_IS_INPUT, said, hint=f"{self.option} {os.path.realpath(path)}")
        elif not stat.S_ISREG(found.st_mode):
            yield self._unwritable("it is no regular file")
        elif path.suffix.lower() in PRECIOUS:
            said = (
                f'{self.option} "{path}" is there, and "{path.suffix}" is a suffix of weights, plans or code'
            )
            yield finding(OUTPUT_IS_INPUT, said)
        elif not self.force:
            said = f'{self.option} "{path}" is there already'
            yield finding(OUTPUT_TAKEN, said, hint="--force writes over it, or another name")
        else:
            yield from self._folder()

    def _unwritable(self, why: str, hint: str = "") -> Diagnostic:
        return finding(OUTPUT_UNWRITABLE, f'cannot write {self.option} "{self.path}": {why}', hint=hint)


def output_faults(
    out: Path, kinds: Sequence[Kind], count: int, plan: Plan | None, *, force: bool
) -> Iterator[Diagnostic]:
    """What is wrong with ``--out`` for a pipeline that makes ``count`` of ``kinds`` (nothing: not known)."""
    if os.path.isdir(out):  # Path.is_dir raises for a name that is too long
        try:
            writable(out)
        except OSError as error:
            yield finding(OUTPUT_UNWRITABLE, f'cannot write in "{out}": {_why(error)}')
        return
    allowed = SUFFIXES[kinds[0]] if kinds else tuple(s for suffixes in SUFFIXES.values() for s in suffixes)
    if out.suffix.lower() not in allowed:
        what = (
            f"cannot hold the {kinds[0]} that the pipeline makes" if kinds else "has no format by its suffix"
        )
        said = f'"{out.name}" {what}: expected {", ".join(allowed)}'
        there = out.suffix and out.suffix.lower() in (s for suffixes in SUFFIXES.values() for s in suffixes)
        name = out.with_suffix(allowed[0]) if there else f"{out}{allowed[0]}"
        yield finding(BAD_OUTPUT, said, hint=f"--out {name}")
        if not os.path.isdir(out.parent):
            yield from Destination("--out", out).faults()
        return
    names = [out] if count == 1 else [out.with_name(f"{out.stem}-{n}{out.suffix}") for n in range(count)]
    names += [out.with_suffix(SUFFIXES[kind][0]) for kind in kinds[1:] if count == 1]
    for n, name in enumerate(names):
        found = [*Destination("--out", name, plan, force).faults()]
        yield from found
        if found and n == 0 and not os.path.isdir(name.parent):
            return  # said once


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
