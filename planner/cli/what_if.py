"""``plan explain --set KEY=A,B,C``: what a plan would take with each of several values, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

from planner.api import load, validate
from planner.diagnostics.diagnostic import PlanError
from planner.document.override import FILE
from planner.plan.model import Plan
from planner.report.sheet import Sheet, sheet
from planner.report.uses import seconds
from planner.schedule.fit import gib
from planner.source.text import SourceText
from planner.stages.results import Compiled

OPENS, CLOSES, QUOTES = "[{", "]}", "\"'"


def ways(source: Path | SourceText, overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The overrides as they are, where the plan and its pipeline's call take them; else each way to choose
    one of the values that are listed with commas in those that they do not take. Raises PlanError where the
    plan takes neither."""
    each = [[*_values(said)] for said in overrides]
    listed: set[int] = set()
    while True:  # what is wrong with arguments of the call is known once the plan is right
        tried = [each[n][0] if n in listed else said for n, said in enumerate(overrides)]
        more = {n for n in _refused(source, tried) if len(each[n]) > 1} - listed
        if not more:
            break
        listed |= more
    if not listed:
        load(source, overrides=overrides)
    return [*product(*(each[n] if n in listed else [said] for n, said in enumerate(overrides)))]


def _refused(source: Path | SourceText, overrides: Sequence[str]) -> set[int]:
    """Which of the overrides something is wrong with, by number from 0."""
    spans = [one.span for one in validate(source, overrides=overrides).errors]
    lines = {span.line - 1 for span in spans if span is not None and span.file == FILE}
    return lines & {*range(len(overrides))}


def _values(said: str) -> Iterator[str]:
    """``KEY=A``, ``KEY=B`` of ``KEY=A,B``; commas in brackets, braces and quotes part nothing."""
    key, sign, text = said.partition("=")
    if not sign:
        yield said
        return
    depth, quote, start = 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in QUOTES:
            quote = char
        elif char in OPENS + CLOSES:
            depth += 1 if char in OPENS else -1
        elif char == "," and not depth:
            yield f"{key}={text[start:at].strip()}"
            start = at + 1
    yield f"{key}={text[start:].strip()}"


def what_if_table(
    source: Path | SourceText, choices: Sequence[Sequence[str]], compiled: Callable[[Plan], Compiled]
) -> Sheet:
    """A row for each of ``choices``: the values that differ, then weights at most, bytes moved, where the
    call was traced the driver's peak and the seconds, and what loading and applying take before it; of one
    that does not compile, the first error."""
    varied = [n for n, values in enumerate(zip(*choices, strict=True)) if len({*values}) > 1]
    names = [choices[0][n].partition("=")[0] for n in varied]
    made = sheet(
        *(f"!{name}" for name in names),
        *(">weights", ">moved", ">driver", ">seconds", ">first", ">load", ">apply", "~"),
        gap=2,
    )
    for choice in choices:
        values = [choice[n].partition("=")[2] for n in varied]
        try:
            one = compiled(load(source, overrides=choice))
        except PlanError as error:
            made.add(*values, *[""] * 7, str(error.first))
            continue
        schedule, call = one.schedule, one.forecast
        cells = ["?" if n is None else gib(n) for n in (schedule.peak, schedule.moved)]
        start = [] if one.start is None else [one.start.load.seconds, one.start.apply.seconds]
        before = ["?" if n is None else seconds(n) for n in start] or ["", ""]
        if call is None:
            made.add(*values, *cells, "", "", "", *before, "")
            continue
        short = "" if call.fits else "an allocation finds too little"
        cells = [cells[0], gib(call.moved), gib(call.peak), seconds(call.seconds), seconds(call.first)]
        made.add(*values, *cells, *before, short)
    return made
