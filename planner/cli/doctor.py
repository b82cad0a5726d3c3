"""``plan doctor``: what this machine and this installation can do."""

from __future__ import annotations

import importlib.util
import platform
import sys
from importlib import metadata
from pathlib import Path

import click

from planner.cli.output import Output
from planner.cli.terminal import put
from planner.quantization.probe import DISTRIBUTIONS, installed
from planner.report.matrix import matrix_table
from planner.report.sheet import sheet
from planner.schedule.fit import gib

PACKAGES = (
    "torch",
    "diffusers",
    "accelerate",
    "transformers",
    "safetensors",
    "imageio",
    *(name for name in DISTRIBUTIONS if name != "accelerate"),
)


@click.command("doctor")
@click.option(
    "--measure", "measured", is_flag=True, help="Time this machine's CUDA device, for --card: about a minute."
)
@click.option(
    "--out",
    type=Output(dir_okay=False),
    metavar="FILE",
    help="With --measure: write the card there.  [default: its name, such as nvidia-h200.card.yaml]",
)
@click.option("--force", is_flag=True, help="With --measure: write over a file that is there.")
def doctor_command(measured: bool, out: Path | None, force: bool) -> int:
    """Show versions, devices and what is missing for apply. Ends with 4 where apply cannot work.

    --measure writes what this machine's card is and does as a file: memory, link, rates by kind of operation,
    which kernels run. Any verb takes it as --card FILE, here or on another machine.
    """
    if measured:
        from planner.cli.measure import measure_card

        return measure_card(out, force=force)
    if out is not None or force:
        raise click.UsageError("--out and --force are for --measure")
    made = sheet("!", "~", head=False, gap=2)
    made.add("python", f"{platform.python_version()}  {sys.platform}")
    for name in ("offload-planner", *PACKAGES):
        made.add(name, _version(name) or "not installed")
    devices, able = _devices()
    for device in devices:
        made.add("device", device)
    put(made)
    table, notes = matrix_table(installed())
    put("", table, "", *notes)
    if importlib.util.find_spec("torch") is None:
        put("", "validate, compile and explain work here; for apply: pip install 'offload-planner[apply]'")
        return 4
    from planner.loading.packages import require

    require()
    if not able:
        put("", "no accelerator: plan apply FILE --simulate works, a plain apply does not")
    return 0


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _devices() -> tuple[list[str], bool]:
    """A line a device, and whether there is one."""
    if importlib.util.find_spec("torch") is None:
        return [], False
    from planner.session.machine import devices

    lines = [f"{d.name}  {d.kind or ''}  {gib(d.total or 0)}, {gib(d.free or 0)} free" for d in devices()]
    return lines or ["none"], bool(lines)
