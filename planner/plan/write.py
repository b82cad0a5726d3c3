"""A Plan as YAML, with everything that it leaves unsaid; reading it back gives the same plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from planner.document.parse import resolved
from planner.plan.model import Amount, Component, Plan, Stage

HEAD = "# yaml-language-server: $schema=plan.v1.schema.json (made by: plan schema -o plan.v1.schema.json)\n"
"""The schema by its name, and how to have it: it comes with the package, and an editor looks for it beside
the plan. The server reads the name up to the first blank (modelineUtil.ts)."""


def to_yaml(plan: Plan) -> str:
    """The plan's text. The same plan gives the same bytes."""
    return HEAD + yaml.dump(to_dict(plan), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def to_dict(plan: Plan) -> dict[str, Any]:
    """Plain values under the language's keys, in the order in which the schema lists them."""
    pipeline = {
        key: value
        for key, value in (
            ("class", plan.pipeline.cls),
            ("source", plan.pipeline.source),
            ("dtype", plan.pipeline.dtype),
            ("variant", plan.pipeline.variant),
            ("revision", plan.pipeline.revision),
        )
        if value is not None
    }
    budget = {
        key: amount.text
        for key in ("vram", "ram", "pinned", "leave_free")
        if isinstance(amount := getattr(plan.budget, key), Amount)
    }
    made: dict[str, Any] = {"version": 1, "name": plan.name}
    made |= {"requires": dict(plan.requires)} if plan.requires else {}
    made |= {"pipeline": pipeline, "device": plan.device}
    made |= {"budget": budget} if budget else {}
    components = {name: _component(said) for name, said in plan.components.items()}
    made |= {"components": components} if components else {}
    if plan.stages is not None:
        if plan.from_order:
            made["order"] = [str(use) for stage in plan.stages for use in stage.runs]
        else:
            made["stages"] = [_stage(stage) for stage in plan.stages]
    made |= {"exclude": [name.name for name in plan.exclude]} if plan.exclude else {}
    rules = [
        {
            "component": rule.component,
            "backend": rule.backend,
            **({"match": rule.match} if rule.match is not None else {}),
            **({"classes": list(rule.classes)} if rule.classes else {}),
            **({"skip": list(rule.skip)} if rule.skip else {}),
            **({} if rule.required else {"required": False}),
            **_plain(rule.options),
        }
        for rule in plan.quantization
    ]
    made |= {"quantization": rules} if rules else {}
    loras = [
        {
            key: value
            for key in ("lora_id", "lora_scale", "adapter_name", "weight_name")
            if (value := getattr(lora, key)) is not None
        }
        for lora in plan.loras
    ]
    made |= {"loras": loras} if loras else {}
    made |= {"semantics": plan.semantics.value, "idle": plan.idle.value}
    made |= {"run": _plain(plan.run)} if plan.run else {}
    made |= {"workload": _plain(plan.workload)} if plan.workload else {}
    return made


def _component(said: Component) -> dict[str, Any]:
    fields = {
        "policy": said.policy.value if said.policy else None,
        "resident": said.resident.text if said.resident else None,
        "prefetch": said.prefetch,
        "source": said.source,
        **said.vae_options,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _stage(stage: Stage) -> dict[str, Any]:
    made: dict[str, Any] = {"id": stage.id}
    if stage.stages:
        made["stages"] = [_stage(inner) for inner in stage.stages]
    else:
        made["runs"] = [str(use) for use in stage.runs]
    if stage.loop is not None:
        made["loop"] = stage.loop.count if stage.loop.count is not None else stage.loop.text
    if stage.after is not None:
        made["after"] = [name for name, _ in stage.after]
    if stage.optional:
        made["optional"] = True
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


class _Dumper(yaml.SafeDumper):
    """Text that our reader (``1e3``) or one of YAML 1.1 (``off``) would take for something else is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is written as an alias: a plan is read by people."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text.isprintable() and isinstance(resolved(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
