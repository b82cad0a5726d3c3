"""diffusers' ``enable_model_cpu_offload``: whole components by the class's sequence (0.42.1)."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p8_tools import FAULTY_SEQUENCE, OWN_METHOD, SETTINGS_REFUSED
from planner.target.model import Target
from planner.translation.tools.device import SETTINGS, chosen
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Draft, Line, Tool, Values
from planner.translation.tools.parts import modules, sequence, walk_line


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """``semantics: diffusers`` with the sequence as diffusers reads it: strange and second names dropped."""
    device, found = chosen(values)
    if target.overrides:
        said = f'"{target.cls}" has an enable_model_cpu_offload of its own'
        return _whole(device, target), (*found, finding(OWN_METHOD, said))
    if target.sequence is None:
        said = f'"{target.cls}" has no model_cpu_offload_seq: enable_model_cpu_offload refuses it'
        return Draft(), (*found, finding(SETTINGS_REFUSED, said))
    chain = sequence(target)
    names = target.sequence.split("->")
    dropped = [n for i, n in enumerate(names) if n not in target.modules or n in names[:i]]
    if dropped:
        listed = ", ".join(shown(name) for name in dropped)
        said = f'diffusers passes over {listed} in the sequence of "{target.cls}"'
        found = (*found, finding(FAULTY_SEQUENCE, said))
    why = "model_cpu_offload_seq"
    if not chain:  # these semantics need an order
        chain = tuple(name for name in modules(target) if name not in target.excluded)[:1]
        why = "nothing is in the sequence: a chain of one evicts nothing"
    # What is both in the sequence and excluded is offloaded: the sequence comes first.
    kept = [name for name in target.excluded if name in modules(target) and name not in chain]
    made = Draft(
        device=device,
        order=Line("order", " -> ".join(chain), why),
        exclude=Line("exclude", kept, "_exclude_from_cpu_offload") if kept else None,
        semantics=Line("semantics", "diffusers", "each component evicts the one before it"),
    )
    return made, found


def _whole(device: Line | None, target: Target) -> Draft:
    kept = [name for name in target.excluded if name in modules(target)]
    return Draft(
        device=device,
        components=tuple(
            Line(name, "offload", "whole, when it is used") for name in modules(target) if name not in kept
        ),
        order=walk_line(target, kept),
        exclude=Line("exclude", kept, "_exclude_from_cpu_offload") if kept else None,
    )


TOOL = Tool(
    name="model-cpu-offload",
    title="enable_model_cpu_offload",
    takes="gpu_id, device",
    example="{device: cuda}",
    settings=SETTINGS,
    draft=draft,
    calls=("enable_model_cpu_offload",),
)
