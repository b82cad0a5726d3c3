"""Seconds by memory: the best plan for each of several budgets, what more memory would buy, and the knees."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from planner.fitting.fit import Fitted
from planner.fitting.least import least_budget
from planner.fitting.price import Price
from planner.fitting.search import NothingFits
from planner.fitting.solution import solve_task
from planner.fitting.watch import NOBODY, Watch
from planner.plan.model import Policy
from planner.schedule.card import Room
from planner.schedule.fit import gib

GIB = 1 << 30
POINTS = 8
"""Budgets between the least that fits and what everything takes."""
KNEE = 3.0
"""A budget below which memory bought so many times the seconds that it buys above is a knee."""


@dataclass(frozen=True, slots=True)
class Point:
    """``budget``: bytes that the driver may show; ``price``: of the best plan that was found; ``bound``:
    microseconds; ``knee``: more memory than this buys far less than it did up to here."""

    budget: int
    price: Price
    bound: int
    knee: bool = False

    @property
    def seconds(self) -> float:
        """Predicted."""
        return self.price.cost / 1e6


def frontier(made: Fitted, watch: Watch = NOBODY) -> tuple[Point, ...]:
    """The best plans from the least memory in which one fits to what everything takes, the budget that was
    asked for and 2 GiB more among them; memory that buys nothing is left out."""
    task = made.task.alike(most=64, watch=watch)
    watch.begins("looking for the least memory")
    room, least = task.room, least_budget([task])
    if least is None:
        return ()
    asked = () if room.budget is None else (room.budget, room.budget + 2 * GIB)
    points: list[Point] = []
    for budget in budgets(least, task.unhindered.peak + GIB // 4, asked):
        watch.begins(f"searching in {gib(budget)}")
        if budget == room.budget:
            points.append(Point(budget, made.solution.price, made.solution.bound))
            continue
        there = task.within(Room(budget, room.overhead))
        try:
            solution = solve_task(there)
        except NothingFits:
            continue
        points.append(Point(budget, solution.price, solution.bound))
    return tuple(_with_knees(points))


def budgets(least: int, most: int, asked: Sequence[int] = ()) -> list[int]:
    """Bytes, ascending: evenly by ratio, on whole GiB where they are apart so far."""
    whole = {least, max(least, most), *(b for b in asked if b >= least)}
    for at in range(1, POINTS):
        value = least * (max(most, least) / least) ** (at / POINTS)
        step = GIB if least >= 4 * GIB else GIB // 16 if least >= GIB // 4 else 1 << 20
        whole.add(max(least, round(value / step) * step))
    return sorted(whole)


def _with_knees(points: Sequence[Point]) -> Iterator[Point]:
    for at, point in enumerate(points):
        if 0 < at < len(points) - 1:
            before, after = _slope(points[at - 1], point), _slope(point, points[at + 1])
            yield replace(point, knee=before > 0 and before >= KNEE * max(after, 0.0))
        else:
            yield point


def _slope(less: Point, more: Point) -> float:
    """Seconds that a byte buys."""
    return (less.price.cost - more.price.cost) / max(1, more.budget - less.budget) / 1e6


def buys(points: Sequence[Point], budget: int | None) -> str:
    """What 2 GiB more than ``budget`` would do."""
    here = next((p for p in points if p.budget == budget), None)
    there = next((p for p in points if budget is not None and p.budget == budget + 2 * GIB), None)
    if here is None or there is None:
        return ""
    less = here.seconds - there.seconds
    if less < 0.005 * here.seconds:
        return f"2 GiB more than {gib(here.budget)} would buy nothing"
    return f"2 GiB more than {gib(here.budget)} would save {less:.2f} s, {less / here.seconds:.0%}"


def what(point: Point) -> str:
    """``transformer streams (10.13 of 22.17 GiB stay); idle keep``."""
    schedule = point.price.compiled.schedule
    streams = [
        f"{name} {gib(p.split.resident)} stay"
        for name, p in schedule.placements.items()
        if p.streams and p.split is not None
    ]
    placed = [n for n, p in schedule.placements.items() if p.policy is Policy.RESIDENT and not p.excluded]
    parts = [
        f"streams: {', '.join(streams)}" if streams else "all come whole",
        f"placed: {', '.join(placed)}" if placed else "",
        f"idle {schedule.course.idle.value}",
    ]
    return "; ".join(filter(None, parts))


def drawn(points: Sequence[Point], title: str, path: Path) -> bytes:
    """A picture by the name's ending (.svg, .png); the same points give the same bytes. Raises ImportError
    without matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "offload-plans", "font.size": 9}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        x = [point.budget / GIB for point in points]
        axes.fill_between(
            x, [p.bound / 1e6 for p in points], color="#bcc8d6", linewidth=0, label="no plan is here"
        )
        axes.plot(x, [p.seconds for p in points], marker="o", color="#123f7d", label="the best plan found")
        for point in points:
            if point.knee:
                axes.annotate(
                    gib(point.budget),
                    (point.budget / GIB, point.seconds),
                    xytext=(6, 8),
                    textcoords="offset points",
                )
        axes.set_title(title, loc="left")
        axes.set_xlabel("GiB of the device")
        axes.set_ylabel("seconds of a call")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        out = io.BytesIO()
        about = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(out, format=kind, dpi=150, metadata=about)
    return out.getvalue()
