"""Names on the command line of what is written."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE


class Output(click.Path):
    """Where something is written: a ``Path``. A name that ends with a slash is a folder's, never a file's."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(path_type=Path, dir_okay=dir_okay)

    def convert(self, value: Any, parameter: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click.Path; raises PlanError (P919) for a folder that is not there."""
        text = os.fspath(value)
        if text.endswith(("/", os.sep)) and not os.path.isdir(text):
            said = f'there is no folder "{text}"'
            raise PlanError([finding(OUTPUT_UNWRITABLE, said, hint=f"mkdir -p {shlex.quote(text)}")])
        return super().convert(value, parameter, ctx)
