"""``python -m tests.benchmarks flux --steps 4,28``: a table of the modes, as ratios to resident."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from planner.loading.builtin import NAMES

DEFAULT = {
    "sdxl": "resident plan:budget.vram=6.5GB plan:budget.vram=6.5GB,idle=keep model group-leaf mmgp1",
    "flux": "resident plan:budget.vram=25GB plan:budget.vram=25GB,idle=keep plan:budget.vram=16GB "
    "plan:budget.vram=12GB plan:budget.vram=8GB plan:budget.vram=6GB model group-leaf mmgp1 mmgp2",
    "wan": "resident plan:budget.vram=32GB plan:budget.vram=16GB model group-leaf mmgp1 mmgp2",
}
OTHER = "resident plan: translated model"
GIVES_BACK = ("resident", "plan", "translated", "cast", "int8")
"""Modes after which the pipeline is as it was; each peer gets a process of its own."""


@click.command(help="Times plans beside the resident pipeline and the peers that are installed.")
@click.argument("pipeline", type=click.Choice([*DEFAULT, *NAMES]))
@click.option("--steps", default="4,28", help="Numbers of steps, with commas.")
@click.option("--calls", default=2, help="Calls with each; the median of all but the first counts.")
@click.option(
    "--modes", default="", help="Modes with spaces: resident, {plan,cast,int8}:KEY=VALUE,..., or a peer."
)
@click.option("--small", is_flag=True, help="The same structure with few layers, for a CPU.")
@click.option("--saved", is_flag=True, help="The components are saved and loaded again before.")
@click.option("--device", default="", help="cuda:0 by default, sim:0 without a GPU.")
@click.option("--out", default="", help="A file to which each mode's record is added, a JSON line each.")
@click.option("--one", is_flag=True, help="Every mode in this process; JSON lines and no table.")
def main(
    pipeline: str,
    steps: str,
    calls: int,
    modes: str,
    small: bool,
    saved: bool,
    device: str,
    out: str,
    one: bool,
) -> None:
    wanted = (modes or DEFAULT.get(pipeline, OTHER)).split()
    if one:
        _measure(pipeline, [int(s) for s in steps.split(",")], calls, wanted, small, saved, device)
        return
    flags = [f for f, on in (("--small", small), ("--saved", saved), (f"--device={device}", device)) if on]
    flags.append(f"--calls={calls}")
    command = [sys.executable, "-m", "tests.benchmarks", pipeline, "--one", "--steps", steps, *flags]
    together = [m for m in wanted if m.partition(":")[0] in GIVES_BACK]
    groups = ([together] if together else []) + [[m] for m in wanted if m not in together]
    records = [record for group in groups for record in _spawned(command, group, out)]
    Console(width=170).print(table(pipeline, records))


def _spawned(command: list[str], modes: list[str], out: str) -> Iterator[dict[str, Any]]:
    """The records of ``modes`` as a process of their own makes them, kept in ``out`` one by one."""
    process = subprocess.Popen([*command, "--modes", " ".join(modes)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout or ():
        if not line.startswith("{"):
            continue
        record = json.loads(line)
        if out:
            with open(out, "a", encoding="utf-8") as file:
                file.write(line)
        print(_brief(record), file=sys.stderr, flush=True)
        yield record
    if process.wait():
        yield {"mode": " ".join(modes), "failed": f"exit {process.returncode}", "runs": []}


def _brief(record: dict[str, Any]) -> str:
    runs = ", ".join(f"{run['steps']} steps {run['seconds']:.3f} s" for run in record["runs"])
    return f"{record['mode']}: {record.get('failed') or runs or 'not installed'}"


def _measure(
    pipeline: str, steps: list[int], calls: int, modes: list[str], small: bool, saved: bool, device: str
) -> None:
    import torch

    from .measure import device_of, measure
    from .modes import here
    from .sizes import SIZES, builtin

    name = device or ("cuda:0" if torch.cuda.is_available() else "sim:0")
    where = device_of(name)
    size = SIZES.get(pipeline) or builtin(pipeline)
    start = time.perf_counter()
    pipe = size.make(small, torch.device("cpu") if where.type == "sim" else where)
    if saved:
        _reload(pipe)
    pipe.set_progress_bar_config(disable=True)
    built = time.perf_counter() - start
    for mode in modes:
        made: dict[str, Any] = {"mode": mode, "runs": []}
        if here(mode):
            made = measure(mode, pipe, size, steps, where, small, calls)
        print(json.dumps({"pipeline": pipeline, "built_s": built, **made}), flush=True)


def _reload(pipe: Any) -> None:
    """Each component saved and read again: its parameters are then views of mapped files."""
    import torch

    modules: dict[str, Any] = {
        name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    for name, component in modules.items():
        folder = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))
        component.save_pretrained(folder)
        made = type(component).from_pretrained(folder, torch_dtype=component.dtype)
        setattr(pipe, name, made.eval().requires_grad_(False))
        component.to("meta")
    os.sync()  # a page that is still being written makes its reader wait


def table(pipeline: str, records: list[dict[str, Any]]) -> Table:
    """A row for each mode and number of steps; GB are 1e9 bytes, the seconds the median but for the first."""
    made = Table(title=pipeline)
    for column in ("mode", "steps", "first s", "s", "to resident", "allocated", "reserved", "driver"):
        made.add_column(column, justify="left" if column == "mode" else "right")
    for column in ("host RAM", "apply s", "apply + first", "picture"):
        made.add_column(column, justify="right")
    base: dict[int, dict[str, Any]] = {}
    for record in records:
        runs = record["runs"]
        if not runs:
            made.add_row(record["mode"], "", "", "", "failed" if record.get("failed") else "not installed")
        for count in dict.fromkeys(run["steps"] for run in runs):
            own = [run for run in runs if run["steps"] == count]
            later = sorted(own[1:] or own, key=lambda run: run["seconds"])
            timed = later[(len(later) - 1) // 2]
            if record["mode"] == "resident":
                base[count] = timed
            ratio = f"{timed['seconds'] / base[count]['seconds']:.2f}" if count in base else ""
            same = count in base and all(run["picture"] == base[count]["picture"] for run in own)
            first = count == runs[0]["steps"]
            made.add_row(
                record["mode"],
                str(count),
                f"{own[0]['seconds']:.2f}",
                f"{timed['seconds']:.2f}",
                ratio,
                *(
                    _gb(max((run[k] or 0 for run in own), default=0))
                    for k in ("allocated", "reserved", "driver")
                ),
                _gb(record.get("ram")) if first else "",
                f"{record.get('apply_s', 0):.2f}" if first else "",
                f"{record.get('first_s', 0):.2f}" if first else "",
                "same" if same else "DIFFERS" if count in base else "",
            )
    return made


def _gb(nbytes: int | None) -> str:
    return f"{nbytes / 1e9:.2f}" if nbytes else ""


if __name__ == "__main__":
    main()
