"""diffusers' ``enable_sequential_cpu_offload``: every leaf comes for its forward and goes (0.42.1)."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p8_tools import BY_BLOCK
from planner.target.model import Target
from planner.translation.tools.device import SETTINGS, chosen
from planner.translation.tools.model import Draft, Line, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, modules, walk_line


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Every component streams and nothing of it stays; copies wait, so nothing is prefetched."""
    device, found = chosen(values)
    kept = [name for name in target.excluded if name in modules(target)]
    policy = {"policy": "stream", "resident": NONE_STAYS, "prefetch": 0}
    said = "every layer comes for its own forward and goes: a plan streams block by block"
    made = Draft(
        device=device,
        components=tuple(
            Line(name, policy, "leaf by leaf, nothing stays, no prefetch")
            for name in modules(target)
            if name not in kept
        ),
        order=walk_line(target, kept),
        exclude=Line("exclude", kept, "_exclude_from_cpu_offload") if kept else None,
    )
    return made, (*found, finding(BY_BLOCK, said))


TOOL = Tool(
    name="sequential-cpu-offload",
    title="enable_sequential_cpu_offload",
    takes="gpu_id, device",
    example="{device: cuda}",
    settings=SETTINGS,
    draft=draft,
    calls=("enable_sequential_cpu_offload",),
)
