"""A schedule in words: each move and use with its bytes, its reason and its line."""

from __future__ import annotations

from rich.table import Table

from planner.schedule.fit import gib
from planner.schedule.model import Schedule, Step

SIGNS = {"place": "+", "prefetch": "+", "load": "+", "use": " ", "evict": "-"}


def steps_table(schedule: Schedule) -> Table:
    """A row a step: ``+`` comes to the device, ``-`` leaves it, the others are uses."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "step", "component", "stage"):
        made.add_column(name, no_wrap=True)
    for name in ("bytes", "on device"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("line", justify="right", no_wrap=True)
    made.add_column("why", overflow="fold")
    for step in schedule.steps:
        made.add_row(
            SIGNS[step.do],
            step.do,
            _use(step),
            step.stage,
            _size(step.bytes) if step.do != "use" else "",
            _size(step.after),
            str(step.origin.line),
            step.why if step.do != "use" else f"x {step.times}" if step.times else "",
        )
    return made


def placements_table(schedule: Schedule) -> Table:
    """A row a component: its policy, its bytes and why."""
    made = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("component", "policy"):
        made.add_column(name, no_wrap=True)
    made.add_column("bytes", justify="right", no_wrap=True)
    made.add_column("why", overflow="fold")
    for name, placement in schedule.placements.items():
        policy = "excluded" if placement.excluded else placement.policy.value
        on_demand = (
            "; in no stage, so it comes when it is called" if name in schedule.course.on_demand else ""
        )
        made.add_row(name, policy, _size(schedule.course.sizes.get(name)), placement.why + on_demand)
    return made


def totals(schedule: Schedule) -> str:
    """``peak 9.71 GiB of weights in "prompt"; 33.10 GiB to the device in a call``."""
    top = schedule.peak_step
    where = f' in "{top.stage}"' if top is not None and top.stage else ""
    return f"peak {_size(schedule.peak)} of weights{where}; {_size(schedule.moved)} to the device in a call"


def pinned_first(schedule: Schedule) -> str:
    """``pinned first: transformer, text_encoder_2, vae``."""
    return f"pinned first: {', '.join(schedule.pins)}"


def _use(step: Step) -> str:
    return f"{step.component}.{step.entry}" if step.entry else step.component


def _size(nbytes: int | None) -> str:
    return "?" if nbytes is None else gib(nbytes)
