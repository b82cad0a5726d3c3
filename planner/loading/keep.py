"""A text that took a run to make, written where it was to go or as near to it as can be."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.diagnostics.table.p9_output import OUTPUT_TAKEN
from planner.loading.written import written


def write_anew(path: Path, made: bytes, *, force: bool = False) -> None:
    """A file that can be made again: whole or not at all. Raises PlanError."""
    try:
        written(path, lambda to: to.write_bytes(made), replace=force)
    except FileExistsError as error:
        raise PlanError([finding(OUTPUT_TAKEN, f'"{path}" is there already')]) from error
    except OSError as error:
        said = f'cannot write "{path}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error


def write_or_keep(path: Path, made: str | bytes, *, force: bool = False) -> tuple[Path, str]:
    """Where ``made`` is now, and why that is not ``path``: "" where it is. Raises PlanError where no folder
    takes it."""
    data = made.encode("utf-8", "backslashreplace") if isinstance(made, str) else made

    def write(to: Path) -> None:
        to.write_bytes(data)

    try:
        written(path, write, replace=force)
        return path, ""
    except FileExistsError:
        why = f'"{path}" is there already'
    except OSError as error:
        why = f'cannot write "{path}": {error.strerror or error}'
    for folder in dict.fromkeys((path.parent, Path(), Path(tempfile.gettempdir()))):
        for number in count(2):
            other = folder / f"{path.stem}-{number}{path.suffix}"
            try:
                written(other, write)
                return other, why
            except FileExistsError:
                continue
            except OSError:
                break
    raise PlanError([finding(OUTPUT_UNWRITABLE, why)])
