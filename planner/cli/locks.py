"""Locks on the command line: written by ``plan compile --lock``, kept to by ``--locked``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from planner.api import compile, load, validate
from planner.cli.terminal import log, show
from planner.cli.traced import Foretold, foretold
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_lock import LOCK_STALE
from planner.loading.hub_cache import cached
from planner.loading.written import written_text
from planner.lock.known import commit_of
from planner.lock.model import lock_path
from planner.lock.read import read_lock
from planner.plan.model import Plan
from planner.schedule.card import Card
from planner.stages.results import Compiled

locked_option = click.option(
    "--locked", is_flag=True, help="Against NAME.plan.lock.json: a missing one is an error, and so is drift."
)


def write_lock(plan: Plan, file: Path, aim: Any, card: Card | None, catalogue: Sequence[Any]) -> int:
    """Writes the lock of ``plan`` beside ``file``, over another one. Raises PlanError."""
    told = as_measured(plan, aim, card)
    compiled = _compiled(plan, aim, told, catalogue)
    path, text = lock_path(file), compiled.lock().to_json()
    try:
        written_text(path, text, replace=True)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    log(f"wrote {path}")
    found = () if told is None else told.found
    return show([*compiled.diagnostics, *found], plan.document.sources)


def as_measured(plan: Plan, aim: Any, card: Card | None) -> Foretold | None:
    """What ``plan apply --calibrate`` kept here of a call that ships, on ``card``; None where no forecast
    decides: without a card, or for another target than the plan's own."""
    return None if card is None or aim is not None else foretold(plan, card, trace=False)


def _compiled(plan: Plan, aim: Any, told: Foretold | None, catalogue: Sequence[Any]) -> Compiled:
    """Of a hub's pipeline the sizes are read from this machine's cache, where it has it whole."""
    call, card = (None, None) if told is None else (told.call, told.card)
    source = plan.pipeline.source
    there = cached(source, plan.pipeline.revision) if aim is None and source is not None else None
    if there is not None:
        folder, commit = there
        try:
            return replace(
                compile(plan, str(folder), card=card, catalogue=catalogue, call=call), commit=commit
            )
        except PlanError as error:
            log(f"the cache's copy of {source} is not used: {error.first.message}")
    return compile(plan, aim, card=card, catalogue=catalogue, call=call)


def kept_to(plan: Plan, aim: Any, catalogue: Sequence[Any]) -> Plan:
    """``plan`` as its lock has it: of a hub's pipeline the commit that was locked is loaded.

    Raises PlanError: no lock (P951 to P953), drift, or another diffusers here than the one that it was
    compiled against (P954).
    """
    result = validate(plan, target=aim, catalogue=catalogue, locked=True)
    if not result:
        raise PlanError(result.errors, plan.document.sources)
    lock, found = read_lock(lock_path(plan.document.sources[0].name))
    if lock is None:
        raise PlanError(found, plan.document.sources)
    was, now = lock.content["versions"]["diffusers"], _installed()
    if now is not None and was and was != now:
        said = f"versions diffusers: was {was}, is {now} here"
        raise PlanError([finding(LOCK_STALE, said, span=plan.span)], plan.document.sources)
    commit = commit_of(lock)
    return plan if commit is None else load(plan, overrides=[f'pipeline.revision="{commit}"'])


def _installed() -> str | None:
    try:
        return version("diffusers")
    except PackageNotFoundError:
        return None
