"""The diffusers that a plan was checked against, beside the one that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_session import OTHER_DIFFUSERS
from planner.plan.model import Plan
from planner.target import catalogue
from planner.target.model import Target


def version_notes(plan: Plan, cls: str, installed: str | None = None) -> Iterator[Diagnostic]:
    """A note when the two differ in what they say of ``cls``, or when the installed one is not known."""
    installed = installed or metadata.version("diffusers")
    planned, _ = catalogue.pick(plan.requires.get("diffusers"))
    if installed == planned or catalogue.find(cls, planned) is None:
        return
    if installed not in catalogue.versions():
        said = f"the plan was checked against diffusers {planned}, and {installed} is not in the catalogue"
    elif changed := ", ".join(_changed(catalogue.find(cls, planned), catalogue.find(cls, installed))):
        said = f"the plan was checked against diffusers {planned}; in {installed} {cls} differs: {changed}"
    else:
        return
    hint = f"requires: {{diffusers: '=={installed}'}}"
    yield finding(OTHER_DIFFUSERS, said, span=plan.pipeline.span, pointer="/requires/diffusers", hint=hint)


def _changed(planned: Target | None, installed: Target | None) -> Iterator[str]:
    if planned is None or installed is None:
        yield "it is not there"
        return
    there, here = set(planned.components), set(installed.components)
    yield from (f'no component "{name}"' for name in sorted(there - here))
    yield from (f'a component "{name}"' for name in sorted(here - there))
    if planned.sequence != installed.sequence:
        yield f'its sequence is "{installed.sequence}"'
    if planned.walk != installed.walk:
        yield "its components run in another order"
