"""What a plan itself says of a pipeline that nothing else tells of."""

from __future__ import annotations

from planner.plan.model import Plan, Policy
from planner.plan.resolve import uses_of
from planner.target.model import ComponentInfo, Target


def target_from(plan: Plan) -> Target:
    """The components that ``plan`` names, taken to be there as it says: those that run, are placed or
    quantized have weights. Sizes and the class's own walk are not known."""
    uses = list(uses_of(plan))
    moved = [use.component for use in uses] + [name.name for name in plan.exclude]
    moved += [rule.component for rule in plan.quantization]
    moved += [name for name, said in plan.components.items() if isinstance(said.policy, Policy)]
    names = dict.fromkeys([*moved, *plan.components])
    return Target(
        cls=plan.pipeline.cls,
        components={
            name: ComponentInfo(
                name=name,
                classes=(),
                module=name in moved,
                entries=tuple(dict.fromkeys(u.entry for u in uses if u.component == name and u.entry)),
            )
            for name in names
        },
        sequence=None,
        excluded=(),
        walk=None,
        version="",
        origin="plan",
    )
