"""The operator's picture: what a plan will do, and what it did beside what it promised."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.text import Text

from planner.plan.model import Plan
from planner.report.build import of_plan
from planner.report.image import image_words
from planner.report.model import DeviceInfo, Report, Room
from planner.report.sheet import sheet
from planner.report.units import UNKNOWN, Unit, unit_for
from planner.schedule.model import Schedule
from planner.schedule.timeline import Row, timeline
from planner.source.visible import visible

INDENT = (0, 0, 0, 2)
WHOLE = 1 << 16
"""Columns: a place that is not a terminal has no right edge."""


def head(
    plan: Plan, schedule: Schedule, device: DeviceInfo | str | None = None, budget: Room | None = None
) -> RenderableType:
    """Four lines: the plan and its pipeline, the device, the budget, the image. Without a device the
    second line is left out."""
    there = DeviceInfo(name=device) if isinstance(device, str) else device
    where = (plan.pipeline.source, plan.pipeline.dtype)
    what = "   ".join([schedule.pipeline, *(text for text in where if text)])
    return _head(plan.name, what, there, budget or of_plan(plan, there), image_words(plan))


def timeline_table(rows: Sequence[Row]) -> RenderableType:
    """A row for each component of each stage; a stage's name stands at its first."""
    unit = unit_for(size for row in rows for size in (row.moves, row.each_step, row.peak))
    made = sheet("!stage", "!component", "~policy", f">moves {unit.name}", f">peak {unit.name}", "")
    before = None
    for row in rows:
        made.add(
            row.stage if row.stage != before else "",
            row.component,
            row.policy,
            unit.moves(row.moves, row.each_step),
            unit.number(row.peak),
            "< peak" if row.highest else "",
        )
        before = row.stage
    return Padding(made, INDENT)


def host_words(plan: Plan, schedule: Schedule) -> str:
    """``33.10 GiB, 24.00 of it pinned``; the latter where the plan limits it."""
    sizes, pinned = schedule.host.values(), plan.budget.pinned
    known = sum(size for size in sizes if size is not None)
    if not known and None in sizes:
        return "not known"
    unit = unit_for([known])
    text = unit.text(known) + (" and what is not known" if None in sizes else "")
    limit = None if pinned is None else pinned.bytes
    if limit is None or (limit >= known and None not in sizes):
        return text
    return f"{text}, {unit.number(min(limit, known))} of it pinned"


def host_line(plan: Plan, schedule: Schedule) -> RenderableType:
    """What the weights take of host memory, and where the reasons are."""
    text = host_words(plan, schedule)
    sources = plan.document.sources
    why = f"      why: plan explain {sources[0].name}" if sources else ""
    return _line(f"  host RAM  {text}{why}")


def picture(
    plan: Plan, schedule: Schedule, device: DeviceInfo | str | None = None, budget: Room | None = None
) -> RenderableType:
    """All that is said before a run: head, timeline, host memory."""
    rows = timeline(schedule)
    return Group(
        head(plan, schedule, device, budget), Text(), timeline_table(rows), host_line(plan, schedule)
    )


def measured_table(report: Report) -> RenderableType:
    """Promised beside measured."""
    p, m = report.promised, report.measured
    unit = unit_for([p.peak_weights, p.moved, m.peak_weights, m.peak_allocated, m.peak_reserved, m.moved])
    made = sheet("!", ">promised", ">measured", "~")
    held = [
        ("weights", p.peak_weights, m.peak_weights),
        ("allocated", None, m.peak_allocated),
        ("reserved", None, m.peak_reserved),
    ]
    shown = [(name, a, b) for name, a, b in held if b is not None]
    for name, a, b in shown:
        last = name == shown[-1][0]
        promised = unit.number(a) if name == "weights" else ""
        made.add(f"{name} {unit.name}", promised, unit.number(b), _verdict(report) if last else "")
    made.add(f"moved {unit.name}", unit.moves(p.moved, p.each_step), unit.number(m.moved), "")
    for name, said, took in (("load s", p.load, m.load), ("apply s", p.apply, m.apply)):
        if took is not None:
            made.add(name, UNKNOWN if said is None else f"{said:.1f}", f"{took:.1f}", "")
    made.add("seconds", "", f"{m.total:.1f}", "(without load)")
    for stage, seconds in m.seconds.items():
        made.add(f"  {stage}", "", f"{seconds:.1f}", "")
    return Padding(Group(made, *_conduct(report)), INDENT)


def _conduct(report: Report) -> Iterator[RenderableType]:
    """Did the calls come as planned, and was all there that was used; what was otherwise, line by line."""
    m = report.measured
    if m.ended != "done":
        stage = next(reversed([*m.seconds]), "")
        yield _line(f"{m.ended}" + (f' in "{stage}"' if stage else "") + ": the figures are of what ran")
        return
    yield _line(f"order    {_said(m.departures, 'as planned', 'departure')}")
    yield from (_line(f"         {text}") for text in m.departures)
    if m.misses is not None:
        yield _line(f"misses   {_said(m.misses, 'none', 'miss')}")
        yield from (_line(f"         {text}") for text in m.misses)


def wrote_line(paths: Iterable[str | Path], seed: int | None) -> RenderableType:
    """``wrote flux-12gb-0.png   seed 0``."""
    files = ", ".join(str(path) for path in paths)
    return _line(f"wrote {files}" + ("" if seed is None else f"   seed {seed}"))


def report_text(report: Report, width: int = 100) -> str:
    """A whole report as plain text: head, timeline, comparison."""
    what = "   ".join(text for text in (report.pipeline, report.source, report.dtype) if text)
    parts: list[RenderableType] = [
        _head(report.plan, what, report.device, report.budget, report.image),
        Text(),
        timeline_table(report.timeline),
        Text(),
        measured_table(report),
    ]
    if report.outputs:
        parts.append(wrote_line(report.outputs, report.seed))
    return to_text(Group(*parts), width)


def to_text(renderable: RenderableType, width: int | None = 100) -> str:
    """As it is printed, without colour and without blanks at the ends of lines. ``width``: columns of a
    terminal; None for as many as the longest line needs."""
    out = io.StringIO()
    console = _console(out, natural_width(renderable) if width is None else width)
    console.print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")) + "\n"


def natural_width(renderable: RenderableType) -> int:
    """Columns: of the longest line, where none folds."""
    console = _console(io.StringIO(), WHOLE)
    return max(1, Measurement.get(console, console.options, renderable).maximum)


def _console(out: IO[str], width: int) -> Console:
    return Console(file=out, width=width, color_system=None, highlight=False, markup=False, emoji=False)


def _head(name: str, what: str, device: DeviceInfo | None, budget: Room, image: str) -> RenderableType:
    made = sheet("!", "~", head=False)
    made.add(name, what)
    if device is not None:
        made.add("device", _device(device))
    made.add("budget", _budget(budget))
    made.add("image", image)
    return made


def _line(text: str) -> RenderableType:
    return Text(visible(text), overflow="fold")


def _device(device: DeviceInfo) -> str:
    unit = unit_for([device.total])
    text = f"{device.name} {device.kind}" if device.kind else device.name
    if device.total is not None:
        text += f", {unit.text(device.total)}"
        text += "" if device.free is None else f", {unit.number(device.free)} free"
    return text


def _budget(budget: Room) -> str:
    if budget.budget is None:
        return "none set, so whether it fits is not checked"
    unit: Unit = unit_for([budget.budget])
    if not budget.overhead:
        return unit.text(budget.budget)
    ours = unit.number(budget.budget - budget.overhead)
    return f"{unit.text(budget.budget)} = {unit.number(budget.overhead)} context + {ours} for us"


def _verdict(report: Report) -> str:
    if report.within is None or report.budget.budget is None:
        return ""
    over = report.held - report.budget.budget
    return "within budget" if over <= 0 else f"over budget by {unit_for([over]).text(over)}"


def _said(found: Sequence[str], none: str, one: str) -> str:
    many = one + ("es" if one.endswith("s") else "s")
    return f"{len(found)} {one if len(found) == 1 else many}" if found else none
