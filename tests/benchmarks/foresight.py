"""``python -m tests.benchmarks.foresight``: what was predicted of calls beside what a CUDA card shows.

Pipelines of true size with random weights, from ``tests.benchmarks.cases``, under plans with several budgets.
A JSON line for each plan: bytes and seconds, predicted (``p``) and measured (``m``), of the whole call and of
each use; ``table FILE`` prints them as ratios.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch

import planner
from planner.api import attach, device_for
from planner.cards.data import CardData
from planner.cards.shipped import card_at
from planner.loading.meter import Meter
from planner.loading.recorder import Recorder
from planner.predict.call import forecast
from planner.predict.forecast import Forecast
from planner.session.machine import card_data, card_on
from planner.source.text import SourceText
from planner.tracing.hollow import Part, built
from planner.tracing.trace import trace

from .cases import cases
from .measure import _clean, _driver, _sync, device_of

SHARES = "1.2,0.75,0.4"
"""Budgets as shares of all weights; above 1 everything may stay."""


@click.command(help=__doc__)
@click.option(
    "--cases", "names", default="", help="Names (or their beginnings), with commas; all by default."
)
@click.option("--shares", default=SHARES, help="Budgets as shares of the weights' bytes, with commas.")
@click.option("--steps", default=4, help="Denoising steps of a call.")
@click.option("--calls", default=3, help="Calls under each plan.")
@click.option("--card", default="", help="A card's name or file (plan doctor --measure); else by the device.")
@click.option(
    "--configs", default="", help="A file in the form of measured.json, or `models`: those that ship."
)
@click.option("--device", default="cuda:0")
@click.option("--seconds", default=500.0, help="No plan is begun after so many.")
def main(
    names: str, shares: str, steps: int, calls: int, card: str, configs: str, device: str, seconds: float
) -> None:
    start = time.perf_counter()
    where, data = opened(device, card)
    for case in cases(names, configs):
        name = case["name"]
        pipe, call = loaded(case, where), {**arguments(case), "num_inference_steps": steps}
        profile = traced(case, call, data)
        for share in map(float, shares.split(",")):
            if time.perf_counter() - start > seconds:
                return
            try:
                made = measured(pipe, call, profile, case, share, calls, data, where)
            except Exception as error:
                made = {"failed": f"{type(error).__name__}: {str(error)[-600:]}"}
            print(json.dumps({"case": name, "share": share, "card": data.name, **made}), flush=True)
        del pipe
        _clean(where)


def opened(device: str, card: str) -> tuple[torch.device, CardData]:
    """The device, and the data of ``card``, or of what the device is. Raises click.UsageError."""
    where = device_of(device)
    data = card_at(card) if card else card_data(where)
    if data is None:
        raise click.UsageError(f"no card that ships has the name of {device}: --card FILE")
    return where, data


def arguments(case: dict[str, Any]) -> dict[str, Any]:
    """Of the call, without the number of steps."""
    call = {"prompt": case["prompt"], **case["call"]}
    if case["image"]:
        from PIL import Image

        call["image"] = Image.new("RGB", (call["width"], call["height"]))
    return call


def hollow(case: dict[str, Any]) -> Any:
    """The pipeline on the meta device, with its dtypes."""
    made = built(
        case["class"], {name: Part(**said) for name, said in case["parts"].items()}, case.get("more") or {}
    )
    if case["tiling"]:
        made.pipe.vae.enable_tiling()
    return made


def traced(case: dict[str, Any], call: dict[str, Any], data: CardData) -> Any:
    """The profile of its call."""
    made = hollow(case)
    return trace(made.pipe, call, data.kernels, dtypes=made.dtypes)


def loaded(case: dict[str, Any], device: torch.device) -> Any:
    """The same pipeline with random weights on the CPU, drawn on ``device``."""
    made = hollow(case)
    torch.manual_seed(0)
    for name, part in made.pipe.components.items():
        if not isinstance(part, torch.nn.Module):
            continue
        filled(part, made.dtypes[name], device)
    made.pipe.set_progress_bar_config(disable=True)
    return made.pipe


def filled(part: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """A module of the meta device with random weights on the CPU, drawn on ``device``."""
    part.to(dtype).to_empty(device="cpu" if device.type == "sim" else device)
    if hasattr(part, "tie_weights"):
        part.tie_weights()  # each module has got its own
    with torch.no_grad():
        for tensor in (*part.parameters(), *part.buffers()):
            tensor.normal_(0, 0.02) if tensor.is_floating_point() else tensor.zero_()
    _fill_others(part)
    part.requires_grad_(False).eval().to("cpu")
    _clean(device)
    return part


def _fill_others(part: torch.nn.Module) -> None:
    """Tensors that a module keeps as plain attributes (tables of positions) come from nowhere else."""
    for module in part.modules():
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_meta:
                setattr(module, name, torch.zeros_like(value, device="cpu"))


def measured(
    pipe: Any,
    call: dict[str, Any],
    profile: Any,
    case: dict[str, Any],
    share: float,
    calls: int,
    data: CardData,
    where: torch.device,
) -> dict[str, Any]:
    """Under a plan with a budget of ``share`` of the weights: the first call is recorded use by use."""
    weights = sum(
        t.nbytes
        for part in pipe.components.values()
        if isinstance(part, torch.nn.Module)
        for t in (*part.parameters(), *part.buffers())
    )
    budget = int(share * weights) + (6 << 30 if share > 1 else 0)
    text = f"version: 1\nname: foresight\npipeline: {{class: {case['class']}}}\nbudget: {{vram: {budget}B}}\n"
    plan = planner.load(SourceText(name="foresight.plan.yaml", text=text))
    _clean(where)
    card = card_on(where)
    session, compiled = attach(plan, pipe, device_for(where), call=profile)
    predicted = forecast(compiled.graph, compiled.schedule, profile, data)
    made: dict[str, Any] = {"budget": budget, "p": _said(predicted)}
    try:
        meter = Meter(session.device)
        recorder = Recorder(session, meter, card)
        seconds, drivers, moved, retries = [], [], [], []
        for number in range(calls):
            before = session.device.retry_count()
            with _driver(where, True) as seen:
                _sync(where)
                start = time.perf_counter()
                if number == calls - 2:
                    session.applied.observers.append(meter.observe)
                    meter.start()
                    with recorder.recording():
                        pipe(**call, output_type="pt", generator=generator())
                    session.applied.observers.remove(meter.observe)
                else:
                    pipe(**call, output_type="pt", generator=generator())
                _sync(where)
                seconds.append(time.perf_counter() - start)
            drivers.append(max(seen, default=0))
            moved.append(session.applied.last.moved if session.applied.last else 0)
            retries.append(session.device.retry_count() - before)
        made["m"] = {
            **_said(recorder.forecast()),
            "driver": drivers,
            "all_seconds": seconds,
            "all_moved": moved,
            "retries": retries,
            "departures": session.applied.last.departures if session.applied.last else [],
        }
        if where.type == "cuda":
            free, total = torch.cuda.mem_get_info(where)
            made["context"] = total - free - session.device.reserved()
    finally:
        session.remove()
        gc.collect()
    return made


def generator() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(1)


def _said(call: Forecast) -> dict[str, Any]:
    return {
        "peak": call.peak,
        "seconds": call.seconds,
        "first": call.first,
        "moved": call.moved,
        "fits": call.fits,
        "uses": [
            [u.component, u.entry, u.times, u.allocated, u.reserved, u.needed, round(u.seconds, 4)]
            for u in call.uses
        ],
        "notes": [*call.notes],
    }


def rows(lines: Iterator[str]) -> Iterator[str]:
    """A line a plan: ratios of predicted to measured."""
    for line in lines:
        said = json.loads(line)
        if "m" not in said:
            yield f"{said['case']} {said['share']}: {said.get('failed')}"
            continue
        p, m = said["p"], said["m"]
        last, moved = m["all_seconds"][-1], max(1, m["all_moved"][-1])
        yield (
            f"{said['case']:28} {said['budget'] / 1e9:6.1f} GB  peak {p['peak'] / 1e9:.2f}/"
            f"{max(m['driver']) / 1e9:.2f}  s {p['seconds']:.2f}/{last:.2f} ({p['seconds'] / last:.2f})"
            f"  moved {p['moved'] / moved:.3f}  fits {p['fits']}/{not any(m['retries'])}"
        )
        for use, seen in zip(p["uses"], m["uses"], strict=False):
            yield (
                f"    {use[0]}.{use[1]} x{use[2]}: allocated {use[3] / max(1, seen[3]):.3f}"
                f" reserved {use[4] / max(1, seen[4]):.3f} s {use[6]:.3f}/{seen[6]:.3f}"
            )


@click.command(help="Ratios from a file of JSON lines.")
@click.argument("file", type=click.Path(path_type=Path))
def table(file: Path) -> None:
    for row in rows(line for line in file.read_text().splitlines() if line.startswith("{")):
        print(row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["table"]:
        table(sys.argv[2:])
    else:
        main()
