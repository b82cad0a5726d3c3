"""What a component weighs under its rules."""

from __future__ import annotations

from dataclasses import replace

from planner.plan.model import Plan
from planner.target.model import Target


def unsized(plan: Plan, target: Target) -> Target:
    """``target`` without the bytes of components that rules change: what they will weigh is known exactly
    when the pipeline is loaded."""
    ruled = {rule.component for rule in plan.quantization}
    if target.origin == "loaded" or not ruled:
        return target
    components = {
        name: replace(info, bytes=None, blocks=None) if name in ruled else info
        for name, info in target.components.items()
    }
    return replace(target, components=components)
