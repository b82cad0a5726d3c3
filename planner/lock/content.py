"""What a lock says of a compiled plan: meanings alone, so that a comment that moves a line changes none.

Bytes are weights on the device; null where something is not known or not said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from planner.plan.model import Amount, Plan, QuantizationRule
from planner.predict.profile import CallProfile
from planner.schedule.card import Card
from planner.schedule.model import Schedule, Step
from planner.schedule.timeline import timeline
from planner.target.model import ComponentInfo, Target, WalkStage
from planner.target.record import optional_of
from planner.version import VERSION

CARD = ("name", "total", "free", "context", "held", "left")
DATA = "data"
"""Key of a card's own data; locks of earlier versions have none."""
Said = Mapping[str, Any]


def content_of(
    plan: Plan,
    target: Target,
    schedule: Schedule,
    *,
    card: Card | None = None,
    commit: str | None = None,
    call: CallProfile | None = None,
    prediction: Said | None = None,
) -> dict[str, Any]:
    """``card``: that it was compiled for, None for the plan's own budget; ``commit``: of the hub, that the
    sizes were read from; ``call``: whose forecast decided, None where none did; ``prediction``: figures by
    name (seconds, bytes of activations), where there are any."""
    return {
        "plan": plan.name,
        "versions": {"offload-planner": VERSION, "diffusers": schedule.version},
        "pipeline": _pipeline(plan, target, commit),
        "picture": _picture(plan),
        "card": None if card is None else _card(card, call),
        "calibration": None if call is None else _calibration(card, call),
        "budget": _budget(plan, schedule),
        "components": {
            name: _component(plan, info) for name, info in target.components.items() if info.module
        },
        "placements": _placements(schedule),
        "stages": _stages(schedule),
        "totals": {
            "peak": schedule.peak,
            "moved": schedule.moved,
            "each_step": schedule.each_step,
            "pins": list(schedule.pins),
        },
        "steps": [_step(step) for step in schedule.steps],
        "prediction": None if prediction is None else plain(prediction),
    }


def _card(card: Card, call: CallProfile | None) -> dict[str, Any]:
    """With the rates by which a call was forecast on it."""
    said = {key: getattr(card, key) for key in CARD}
    if call is None or card.data is None:
        return said
    return {**said, DATA: {"name": card.data.name, "source": card.data.source, "digest": card.data.digest}}


def _calibration(card: Card | None, call: CallProfile) -> dict[str, Any] | None:
    """What a run measured of the call, with which it was forecast."""
    if not call.calibration:
        return None
    uses = [
        f"{use.component}.{use.entry}" if use.entry else use.component for use in call.uses if use.measured
    ]
    on = None if card is None else card.kind or card.name
    if card is not None and card.data is not None:
        on = card.data.name
    return {"card": on, "uses": [*dict.fromkeys(uses)], "digest": call.calibration}


def plain(value: Any) -> Any:
    """As JSON has it: no infinities, keys that are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def _pipeline(plan: Plan, target: Target, commit: str | None) -> dict[str, Any]:
    said = plan.pipeline
    return {
        "class": target.cls,
        "source": said.source,
        "variant": said.variant,
        "revision": said.revision,
        "commit": commit,
        "sequence": target.sequence,
        "exclude": list(target.excluded),
        "walk": None if target.walk is None else _walk(target.walk),
    }


def _walk(stages: Sequence[WalkStage]) -> list[dict[str, Any]]:
    return [
        {
            "id": stage.id,
            **(
                {"stages": _walk(stage.stages)}
                if stage.stages
                else {"runs": [str(use) for use in stage.runs]}
            ),
            **({"loop": stage.loop} if stage.loop else {}),
            **({"optional": optional} if (optional := optional_of(stage)) else {}),
        }
        for stage in stages
    ]


def _picture(plan: Plan) -> dict[str, Any]:
    rules: dict[str, list[Any]] = {}
    for rule in plan.quantization:
        rules.setdefault(rule.component, []).append(_rule(rule))
    return {
        "dtype": plan.pipeline.dtype,
        "tiling": _said(plan, "tiling"),
        **({"slicing": slicing} if (slicing := _said(plan, "slicing")) else {}),
        "quantization": rules,
        "loras": [
            {
                "lora_id": lora.lora_id,
                "lora_scale": plain(float(lora.lora_scale)),
                "adapter_name": lora.adapter_name,
                "weight_name": lora.weight_name,
            }
            for lora in plan.loras
        ],
    }


def _said(plan: Plan, option: str) -> dict[str, bool]:
    """What it says of ``tiling`` or ``slicing``, by component."""
    said = {name: component.vae_options.get(option) for name, component in plan.components.items()}
    return {name: on for name, on in said.items() if on is not None}


def _rule(rule: QuantizationRule) -> dict[str, Any]:
    made = {
        "backend": rule.backend,
        **plain(rule.options),
        "match": rule.match,
        "classes": list(rule.classes),
        "skip": list(rule.skip),
        "required": rule.required,
    }
    return {key: value for key, value in made.items() if value not in (None, [], True) or key in rule.options}


def _budget(plan: Plan, schedule: Schedule) -> dict[str, Any]:
    budget = plan.budget
    return {
        "device": schedule.device,
        "vram": _amount(budget.vram),
        "ram": _amount(budget.ram),
        "pinned": _amount(budget.pinned),
        "leave_free": _amount(budget.leave_free),
        "weights": schedule.course.budget,
        "semantics": schedule.course.semantics.value,
        "idle": schedule.course.idle.value,
    }


def _amount(amount: Amount | None) -> int | str | None:
    """Bytes, or the share as it is written."""
    return None if amount is None else amount.text if amount.bytes is None else amount.bytes


def _component(plan: Plan, info: ComponentInfo) -> dict[str, Any]:
    said = plan.components.get(info.name)
    return {
        "classes": list(info.classes),
        "present": info.present,
        "source": None if said is None else said.source,
        "bytes": info.bytes,
        "fixed": None if info.blocks is None else info.blocks.fixed,
        "blocks": None if info.blocks is None else list(info.blocks.streamable),
    }


def _placements(schedule: Schedule) -> dict[str, Any]:
    course = schedule.course
    return {
        name: {
            "policy": placed.policy.value,
            "excluded": placed.excluded,
            "on_demand": name in course.on_demand,
            "stays": None if placed.split is None else placed.split.resident,
            "crosses": None if placed.split is None else placed.split.crossing,
            "prefetch": placed.prefetch,
            "predecessor": course.predecessor.get(name),
        }
        for name, placed in schedule.placements.items()
    }


def _stages(schedule: Schedule) -> dict[str, dict[str, Any]]:
    made: dict[str, dict[str, Any]] = {}
    for row in timeline(schedule):
        said = {"moves": row.moves, "each_step": row.each_step, "peak": row.peak}
        made.setdefault(row.stage, {})[row.component] = said
    return made


def _step(step: Step) -> dict[str, Any]:
    made = {"do": step.do, "component": step.component, "entry": step.entry, "stage": step.stage}
    return {
        **{key: value for key, value in made.items() if value},
        "bytes": step.bytes,
        "after": step.after,
        **({"times": step.times} if step.times else {}),
    }
