"""``python -m tests.benchmarks.fitted``: fitted plans beside the compiler's own and stock modes, on CUDA.

``fits`` writes, without a card, a JSON line for each case and budget: what ``plan fit`` chose and predicts.
``run FILE`` runs each of them, the plan that says nothing, the one that only keeps, and diffusers' modes, and
prints a JSON line for each; ``table FILE`` prints ratios.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch

import planner
from planner.cards.data import CardData
from planner.cards.shipped import card_at
from planner.diagnostics.diagnostic import PlanError
from planner.fitting.search import NothingFits
from planner.fitting.solution import Task, solve_task
from planner.schedule.card import imagined_as
from planner.session.machine import card_data
from planner.source.text import SourceText

from .cases import cases
from .foresight import arguments, generator, loaded, traced
from .measure import _clean, _driver, _sync, device_of
from .modes import entered

STOCK = ("model", "group-leaf")
GIB = 1 << 30


def text_for(case: dict[str, Any], budget: str) -> SourceText:
    """The plan that says nothing but its budget."""
    said = f"version: 1\nname: fitted\npipeline: {{class: {case['class']}}}\nbudget: {{vram: {budget}}}\n"
    return SourceText(name="fitted.plan.yaml", text=said)


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command("fits")
@click.option("--cases", "names", default="")
@click.option("--configs", default="")
@click.option("--budgets", default="6GiB,8GiB,12GiB,16GiB,24GiB,48GiB")
@click.option("--steps", default=8)
@click.option("--card", default="h200")
def fits(names: str, configs: str, budgets: str, steps: int, card: str) -> None:
    data = card_at(card)
    for case in cases(names, configs):
        call = {**arguments(case), "num_inference_steps": steps}
        profile = traced(case, call, data)
        for budget in budgets.split(","):
            print(json.dumps(_fitted(case, budget, profile, data)), flush=True)


def _fitted(case: dict[str, Any], budget: str, profile: Any, data: CardData) -> dict[str, Any]:
    plan = planner.load(text_for(case, budget))
    task = Task(plan=plan, call=profile, card=imagined_as(data), data=data)
    made: dict[str, Any] = {"case": case["name"], "budget": budget, "steps": profile.steps}
    for name, settings in (("own", ()), ("keep", (("idle", "keep"),))):
        try:
            found = task.compiled(settings).forecast
            assert found is not None
            made[name] = {"seconds": found.seconds, "peak": found.peak, "fits": found.fits}
        except PlanError as error:
            made[name] = {"refused": str(error).splitlines()[0]}
    start = time.perf_counter()
    try:
        solution = _solved(task)
    except NothingFits as error:
        return {**made, "nothing": str(error)}
    return {
        **made,
        "fit": {"seconds": solution.price.cost / 1e6, "peak": solution.price.outcome.peak},
        "bound": solution.bound / 1e6,
        "settings": [f"{key}={value}" for key, value in solution.found.settings],
        "compared": len(solution.found.prices),
        "took": round(time.perf_counter() - start, 1),
    }


def _solved(task: Task) -> Any:
    """As ``plan fit``: where nothing fits, what has allocations that are tried twice."""
    try:
        return solve_task(task)
    except NothingFits:
        return solve_task(replace(task, tight=True))


@main.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--cases", "names", default="")
@click.option("--configs", default="")
@click.option("--calls", default=3)
@click.option("--stock", default=",".join(STOCK))
@click.option("--device", default="cuda:0")
@click.option("--seconds", default=500.0, help="Nothing is begun after so many.")
def run(file: Path, names: str, configs: str, calls: int, stock: str, device: str, seconds: float) -> None:
    start = time.perf_counter()
    where = device_of(device)
    data = card_data(where) or card_at("h200")
    wanted = [json.loads(line) for line in file.read_text().splitlines() if line.startswith("{")]
    for case in cases(names, configs):
        lines = [line for line in wanted if line["case"] == case["name"]]
        if not lines:
            continue
        call = {**arguments(case), "num_inference_steps": lines[0]["steps"]}
        profile = traced(case, call, data)
        pipe = loaded(case, where)
        done: dict[str, Any] = {}
        for line in lines:
            plans = {"own": [], "keep": ["idle=keep"], "fit": line.get("settings")}
            for name, said in plans.items():
                if said is None or "refused" in line.get(name, {}):
                    continue
                if time.perf_counter() - start > seconds:
                    return
                key = f"{line['budget']} {sorted(said)}"
                if key not in done:
                    plan = planner.load(text_for(case, line["budget"]), overrides=said)
                    done[key] = _tried(partial(_under, plan, pipe, call, profile, calls, where))
                print(json.dumps({**_head(line), "mode": name, **done[key]}), flush=True)
        for mode in filter(None, stock.split(",")):
            if time.perf_counter() - start > seconds:
                return
            fresh = loaded(case, where)
            made = _tried(partial(_stock, mode, fresh, call, calls, where))
            print(json.dumps({"case": case["name"], "mode": mode, **made}), flush=True)
            del fresh
            _clean(where)
        del pipe
        _clean(where)


def _head(line: dict[str, Any]) -> dict[str, Any]:
    return {"case": line["case"], "budget": line["budget"]}


def _tried(made: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = made()
        return found
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error)[-300:]}"}


def _under(
    plan: planner.Plan, pipe: Any, call: dict[str, Any], profile: Any, calls: int, where: torch.device
) -> dict[str, Any]:
    _clean(where)
    session = planner.apply(plan, pipe, device=str(where), call=profile)
    try:
        made = _timed(pipe, call, calls, where)
        made["retries"] = session.device.retry_count()
        last = session.applied.last
        made["moved"] = last.moved if last is not None else 0
        return made
    finally:
        session.remove()
        _clean(where)


def _stock(mode: str, pipe: Any, call: dict[str, Any], calls: int, where: torch.device) -> dict[str, Any]:
    _clean(where)
    with entered(mode, pipe, where):
        return _timed(pipe, call, calls, where)


def _timed(pipe: Any, call: dict[str, Any], calls: int, where: torch.device) -> dict[str, Any]:
    seconds, drivers = [], []
    for _ in range(calls):
        with _driver(where, True) as seen:
            _sync(where)
            begin = time.perf_counter()
            pipe(**call, output_type="pt", generator=generator())
            _sync(where)
            seconds.append(round(time.perf_counter() - begin, 3))
        drivers.append(max(seen, default=0))
    return {"seconds": seconds, "driver": drivers}


@main.command("table")
@click.argument("fitted", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
def table(fitted: Path, file: Path) -> None:
    """FITTED: of fits; FILE: of run."""
    said = {(d["case"], d["budget"]): d for d in _lines(fitted)}
    runs = _lines(file)
    stock = [d for d in runs if "budget" not in d]
    for (case, budget), one in said.items():
        here = {d["mode"]: d for d in runs if d["case"] == case and d.get("budget") == budget}
        if not here:
            continue
        room = int(float(budget.removesuffix("GiB")) * GIB)
        parts = []
        for mode in ("own", "keep", "fit"):
            found, foretold = here.get(mode, {}), one.get(mode, {})
            if "seconds" not in found:
                parts.append(f"{mode}: {found.get('failed', foretold.get('refused', '-'))[:60]}")
                continue
            most = max(found["driver"])
            over = " OVER" * (most > room) + f" {found['retries']} retries" * bool(found["retries"])
            parts.append(
                f"{mode} {foretold['seconds']:.2f}/{found['seconds'][-1]:.2f} s"
                f" {foretold['peak'] / GIB:.2f}/{most / GIB:.2f} GiB{over}"
            )
        for d in stock:
            if d["case"] == case and "seconds" in d and max(d["driver"]) <= room:
                parts.append(f"{d['mode']} {d['seconds'][-1]:.2f} s {max(d['driver']) / GIB:.2f} GiB")
        print(f"{case:26} {budget:>6}  bound {one.get('bound', 0):.2f}  " + "  ".join(parts))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


if __name__ == "__main__":
    main()
