"""The schema that ships, and one narrowed to a single pipeline class."""

from __future__ import annotations

from planner.document.language.shape import Shape, ref
from planner.document.wording import TOOL
from planner.editor.arguments import of_call
from planner.editor.base import base_schema, markdown
from planner.editor.classes import (
    Offers,
    arguments,
    beside,
    common_arguments,
    components_of,
    entries_of,
    offers,
)
from planner.editor.compact import compact
from planner.editor.offer import of_list, offered, with_offer
from planner.editor.rules import rule_definitions
from planner.target.model import Target


def editor_schema(target: Target | None = None) -> Shape:
    """The JSON Schema (draft 2020-12) of plans, for all classes of the newest catalogue, or for ``target``.

    One for a target also judges: the names of its components, and the arguments of its call.
    """
    made = base_schema()
    found = offers() if target is None else _offers_of(target)
    definitions = made["$defs"]
    definitions |= rule_definitions(definitions["rule"])
    _offer_policies(definitions)
    # In a stage inside another the class is out of sight.
    within = definitions["stage"]["properties"]["stages"]
    within["items"] = {"allOf": [within["items"], beside({"^runs$": {"items": found.anything}})]}
    usual = common_arguments() if target is None else {}
    for kind in ("whole", "part"):
        definition = definitions[kind]
        keys = definition["properties"]
        pipeline = keys["pipeline"]
        pipeline["properties"]["class"] = with_offer(pipeline["properties"]["class"], ref("classes"))
        keys["pipeline"] = with_offer(pipeline, ref("classes"))
        keys["run"]["properties"] = usual
        requires = keys["requires"]
        requires["properties"] = dict.fromkeys(("diffusers", TOOL), requires["additionalProperties"])
        if target is not None:
            components = keys["components"]
            components["properties"] = _components(target, components["additionalProperties"])
            keys["order"] = with_offer(keys["order"], offered(_walk(target)))
        definition["allOf"] = [*definition["allOf"], *found.branches]
    definitions |= found.definitions
    return made


def schema_json(target: Target | None = None) -> str:
    """``editor_schema`` as text, as ``schemas/plan.v1.schema.json`` has it; the same bytes each time."""
    return compact(editor_schema(target)) + "\n"


def _offer_policies(definitions: Shape) -> None:
    """Policies where a component may be one. What a hover shows first is of the component, and not of the
    policy that it is, so that has no description there."""
    policy = definitions["policy"]
    words = dict(zip(policy["enum"], policy["enumDescriptions"], strict=True))
    definitions["policies"] = offered(words, words.values())
    definitions["named"] = with_offer({}, ref("policies"), "named")
    then = {"then": {key: policy[key] for key in ("enum", "enumDescriptions")}}
    definitions["component"] = with_offer(definitions["component"], ref("policies")) | then
    components = definitions["part"]["properties"]["components"]
    of_part = with_offer(components["additionalProperties"], ref("policies")) | then
    components["additionalProperties"] = of_part


def _offers_of(target: Target) -> Offers:
    """What one class has, and what a plan for it may say."""
    components = [*target.modules]
    definitions: Shape = {
        "classes": offered([target.cls]),
        "any-component": of_list(components),
        "any-use": of_list([*components, *entries_of(target)]),
    }
    keys = components_of((), ref("any-component"), ref("any-use"))
    keys["^components$"] = {
        "properties": dict.fromkeys(target.components, True),
        "additionalProperties": False,
        "errorMessage": f"components of {target.cls}: {', '.join(target.components)}",
    }
    if target.call is not None:
        keys |= arguments(of_call(target.call))
        if not target.call.more:
            known = ", ".join(keys["^run$"]["properties"])
            keys["^run$"] |= {
                "additionalProperties": False,
                "errorMessage": f"arguments of {target.cls} that a plan can write: {known}",
            }
    is_it: Shape = {"const": target.cls}
    it = {"anyOf": [is_it, {"type": "object", "required": ["class"], "properties": {"class": is_it}}]}
    other = {"required": ["pipeline"], "properties": {"pipeline": {"not": it}}}
    return Offers(definitions, [{"if": {"not": other}, "then": beside(keys)}], ref("any-use"))


def _components(target: Target, shape: Shape) -> Shape:
    """``shape`` for each component that has weights, with the classes that it may be of."""
    made = {}
    for name in target.modules:
        said = f"{' or '.join(target.components[name].classes)}, of {target.cls}."
        shown = markdown(said, {name: {"policy": "stream"}})
        made[name] = {**shape, "title": name, "description": said, "markdownDescription": shown}
    return made


def _walk(target: Target) -> list[str]:
    """The class's own walk as an order, where one can say it: stages inside stages take ``stages``."""
    uses = [str(use) for stage in target.walk or () for use in stage.runs]
    nested = any(stage.stages for stage in target.walk or ())
    return [" -> ".join(uses)] if uses and not nested and len(uses) == len({*uses}) else []
