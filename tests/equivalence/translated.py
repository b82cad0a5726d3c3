"""What a class's sequence string becomes: the equivalent plan, and the plan that it meant to say."""

from __future__ import annotations

from functools import cache
from typing import Any

from pipelines.plans import as_diffusers, read

from equivalence.declared import OWN_METHOD
from equivalence.stubs import known
from planner.plan.model import Plan
from planner.translation.sequence import translate


def translated(pipe: Any) -> Plan:
    """The equivalent plan for the class of ``pipe``, made from the catalogue alone.

    For a class whose own method does not do what the string says, a plan of the string.
    """
    name = type(pipe).__name__
    return as_diffusers(pipe) if name in OWN_METHOD else _plan(name, improve=False)


def improved(pipe: Any) -> Plan:
    """The plan that the string meant to say."""
    return _plan(type(pipe).__name__, improve=True)


@cache
def _plan(name: str, *, improve: bool) -> Plan:
    return read(translate(known(name), improve=improve).text)
