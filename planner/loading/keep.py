"""A text that took a run to make, written where it was to go or as near to it as can be."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE
from planner.loading.written import written


def write_or_keep(path: Path, text: str, *, force: bool = False) -> tuple[Path, str]:
    """Where ``text`` is now, and why that is not ``path``: "" where it is. Raises PlanError where no folder
    takes it."""

    def write(to: Path) -> None:
        to.write_bytes(text.encode("utf-8", "backslashreplace"))

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
