"""``python -m tests.benchmarks.least``: whether less would do than the least budget that is predicted to do.

Pipelines of true size with random weights, from ``tests.benchmarks.cases``. Two budgets are looked for:
the least with which the plan compiles (``runs``), and the least with which no allocation is predicted to be
tried twice (``fits``).
The plan is applied with each of them, and again with the device held to 3%, 6%, ... less of it, until a call
raises, tries an allocation twice or keeps less on the device than was planned. A JSON line for each run.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import click
import torch

import planner
from planner.api import attach, device_for
from planner.diagnostics.diagnostic import PlanError
from planner.plan.model import Plan
from planner.predict.forecast import Forecast
from planner.schedule.card import Card
from planner.session.machine import card_on

from .cases import cases
from .fitted import _timed, text_for
from .foresight import arguments, loaded, opened, traced
from .measure import _clean

MIB = 1 << 20
STEP = 4
"""MiB: budgets are looked for in whole ones of these."""


@click.command(help=__doc__)
@click.option(
    "--cases", "names", default="", help="Names (or their beginnings), with commas; all by default."
)
@click.option("--levels", default="fits,runs", help="Which of the two budgets: see above.")
@click.option("--shares", default="1,0.97,0.94,0.91", help="Of the budget that is looked for, with commas.")
@click.option("--steps", default=4, help="Denoising steps of a call.")
@click.option("--calls", default=2, help="Calls under each plan.")
@click.option("--card", default="", help="A card's name or file (plan doctor --measure); else by the device.")
@click.option("--configs", default="models", help="A file in the form of measured.json, or `models`.")
@click.option("--device", default="cuda:0")
@click.option("--seconds", default=500.0, help="Nothing is begun after so many.")
def main(
    names: str,
    levels: str,
    shares: str,
    steps: int,
    calls: int,
    card: str,
    configs: str,
    device: str,
    seconds: float,
) -> None:
    start = time.perf_counter()
    where, data = opened(device, card)
    for case in cases(names, configs):
        if time.perf_counter() - start > seconds:
            return
        pipe, call = loaded(case, where), {**arguments(case), "num_inference_steps": steps}
        profile = traced(case, call, data)
        there = replace(card_on(where), data=data)
        for level, mib in _looked_for(partial(_predicted, case, pipe, there, profile), there).items():
            if level not in levels.split(","):
                continue
            for share in map(float, shares.split(",")):
                if time.perf_counter() - start > seconds:
                    return
                made = _held_to(share, _plan(case, mib), pipe, call, profile, calls, where)
                line = {"case": case["name"], "level": level, "mib": mib, "share": share, **made}
                print(json.dumps(line), flush=True)
                if made["failed"] or any(made["retries"]) or made["departures"]:
                    break
        del pipe
        _clean(where)


def _looked_for(predicted: Callable[[int], Forecast | None], there: Card) -> dict[str, int]:
    """MiB from which on no allocation is tried twice, and from which on there is a forecast."""
    most = (there.total or 0) // MIB
    return {
        "fits": _least(lambda mib: (said := predicted(mib)) is not None and said.fits, most),
        "runs": _least(lambda mib: predicted(mib) is not None, most),
    }


def _predicted(case: dict[str, Any], pipe: Any, there: Card, profile: Any, mib: int) -> Forecast | None:
    """None where the plan does not compile with such a budget."""
    try:
        return planner.compile(_plan(case, mib), pipe, card=there, call=profile, advice=False).forecast
    except PlanError:
        return None


def _plan(case: dict[str, Any], mib: int) -> Plan:
    return planner.load(text_for(case, f"{mib}MiB"))


def _least(does: Callable[[int], bool], most: int) -> int:
    """The least MiB that does, of up to ``most``, which does."""
    return STEP * bisect_left(range(0, most, STEP), True, key=does)


def _held_to(
    share: float,
    plan: Plan,
    pipe: Any,
    call: dict[str, Any],
    profile: Any,
    calls: int,
    where: torch.device,
) -> dict[str, Any]:
    """Calls of a plan, with the device held to ``share`` of its budget."""
    _clean(where)
    session, compiled = attach(plan, pipe, device_for(where), call=profile)
    made: dict[str, Any] = {"driver": [], "retries": [], "seconds": [], "failed": None}
    try:
        budget, own = session.budget or 0, compiled.schedule.course.budget or 0
        session.device.cap(own - int((1 - share) * budget))
        for _ in range(calls):
            before = session.device.retry_count()
            one = _timed(pipe, call, 1, where)
            made["seconds"] += one["seconds"]
            made["driver"] += one["driver"]
            made["retries"].append(session.device.retry_count() - before)
    except torch.OutOfMemoryError as error:
        made["failed"] = str(error)[-300:]
    last = session.applied.last
    made["departures"] = [] if last is None else last.departures
    session.remove()
    _clean(where)
    return made


if __name__ == "__main__":
    main()
