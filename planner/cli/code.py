"""``--from`` and ``--catalogue``: what the command line shows of classes that diffusers does not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

catalogue_option = click.option(
    "--catalogue",
    "catalogues",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Pipeline classes of your own, from plan catalogue; OFFLOAD_PLANNER_CATALOGUE names files too.",
)
from_option = click.option(
    "--from",
    "code",
    metavar="MODULE:CLASS",
    help="Import this pipeline class of your own, or call this function for a loaded pipeline.",
)


def seen(code: str | None, target: str | None, catalogues: Sequence[Path]) -> tuple[Any, tuple[Any, ...]]:
    """What a plan is checked against, and the catalogues that it is looked up in.

    ``code``: ``module:Class``, or ``module:function`` whose pipeline it is then; it is imported because the
    command line says so, never because a plan does. ``target``: a folder or a class, in place of the plan's.
    Raises PlanError.
    """
    if code is None:
        return target, tuple(catalogues)
    from planner.loading.make import code_at, made_by

    found = code_at(code)
    if not isinstance(found, type):
        return (made_by(code, found) if target is None else target), tuple(catalogues)
    return (found if target is None else target), (found, *catalogues)
