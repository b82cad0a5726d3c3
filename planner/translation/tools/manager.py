"""ComponentsManager's ``enable_auto_cpu_offload`` of modular pipelines (diffusers 0.42.1)."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p8_tools import CODE_OF_ITS_OWN, COUNTED_OTHERWISE
from planner.target.model import Target
from planner.translation.tools.kinds import ANY, DEVICE, SIZE, shown, written
from planner.translation.tools.model import Draft, Line, Setting, Tool, Values
from planner.translation.tools.parts import modules, walk_line

_MARGIN = 3 * 10**9


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Whole components, which stay until another needs their room, between calls as well."""
    found = []
    margin = values["memory_reserve_margin"]
    budget: tuple[Line, ...] = ()
    if margin:
        size = written(margin)
        budget = (Line("leave_free", size, "memory_reserve_margin"),)
        said = f"the margin of {size} is for activations, which budget.vram counts by itself"
        hint = "leave_free may be lower: it is for other programs"
        found.append(finding(COUNTED_OTHERWISE, said, pointer="/memory_reserve_margin", hint=hint))
    if values["offload_strategy"] is not None:
        said = f"the strategy {shown(values['offload_strategy'])} decides while the pipeline runs"
        found.append(finding(CODE_OF_ITS_OWN, said, pointer="/offload_strategy"))
    device = values["device"]
    made = Draft(
        device=None if device is None else Line("device", device, "device"),
        budget=budget,
        components=tuple(Line(name, "offload", "whole, when it is used") for name in modules(target)),
        order=walk_line(target),
        idle=Line("idle", "keep", "what fits stays between calls"),
    )
    return made, tuple(found)


TOOL = Tool(
    name="components-manager",
    title="ComponentsManager.enable_auto_cpu_offload",
    takes="device, memory_reserve_margin, offload_strategy",
    example="{device: cuda, memory_reserve_margin: 3GB}",
    settings=(
        Setting("device", DEVICE),
        Setting("memory_reserve_margin", SIZE, _MARGIN),
        Setting("offload_strategy", ANY),
    ),
    draft=draft,
    calls=("enable_auto_cpu_offload",),
)
