"""A schedule in words: each move and use with its bytes, its reason and its line."""

from __future__ import annotations

from planner.report.sheet import Sheet, sheet
from planner.schedule.fit import gib
from planner.schedule.model import Schedule, Step

SIGNS = {"place": "+", "prefetch": "+", "load": "+", "use": " ", "evict": "-"}


def steps_table(schedule: Schedule) -> Sheet:
    """A row a step: ``+`` comes to the device, ``-`` leaves it, the others are uses."""
    made = sheet("!", "!step", "!component", "stage", ">bytes", ">on device", ">line", "~why", gap=2)
    for step in schedule.steps:
        made.add(
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


def placements_table(schedule: Schedule) -> Sheet:
    """A row a component: its policy, its bytes and why."""
    made = sheet("!component", "policy", ">bytes", "~why", gap=2)
    for name, placement in schedule.placements.items():
        policy = "excluded" if placement.excluded else placement.policy.value
        on_demand = (
            "; in no stage, so it comes when it is called" if name in schedule.course.on_demand else ""
        )
        made.add(name, policy, _size(schedule.course.sizes.get(name)), placement.why + on_demand)
    return made


def totals(schedule: Schedule) -> str:
    """``peak 9.71 GiB of weights in "prompt"; 33.10 GiB to the device in a call``."""
    top = schedule.peak_step
    where = f' in "{top.stage}"' if top is not None and top.stage else ""
    return f"peak {_size(schedule.peak)} of weights{where}; {_moved(schedule)} to the device in a call"


def _moved(schedule: Schedule) -> str:
    each = f" and {gib(schedule.each_step)} a step" if schedule.each_step else ""
    return _size(schedule.moved) + each


def pinned_first(schedule: Schedule) -> str:
    """``pinned first: transformer, text_encoder_2, vae``."""
    return f"pinned first: {', '.join(schedule.pins)}"


def _use(step: Step) -> str:
    return f"{step.component}.{step.entry}" if step.entry else step.component


def _size(nbytes: int | None) -> str:
    return "?" if nbytes is None else gib(nbytes)
