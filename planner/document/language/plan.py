"""A whole plan: its keys, and the schema that judges one file as it is written.

A file that ``extends`` another is a part of a plan: nothing need be in it, and null removes what stands
below. Every other file is a whole plan, and so is what parts merge to.
"""

from __future__ import annotations

from planner.document.language.component import COMPONENT, COMPONENT_MAP, POLICY
from planner.document.language.machine import BUDGET, DEVICE, PIPELINE, REQUIRES, RUN, WORKLOAD_MAP
from planner.document.language.part import part_of
from planner.document.language.shape import Shape, listed, ref, said, text
from planner.document.language.stage import ORDER, STAGE, STAGE_LIST
from planner.document.language.units import UNITS
from planner.document.language.weights import LORA, LORA_LIST, RULE, RULE_LIST
from planner.source.limits import COMPONENTS, NAME

ID = "https://github.com/offload-planner/offload-planner/schemas/plan.v1.schema.json"

DEFS: Shape = {
    **UNITS,
    "policy": POLICY,
    "component": COMPONENT,
    "stage": STAGE,
    "rule": RULE,
    "lora": LORA,
}

EXTENDS: Shape = said(
    "Another plan, relative to this file: this one's keys go on top of it. Mappings merge by key, scalars "
    "and "
    "lists replace, null removes; order replaces stages and the other way round.",
    ["flux-12gb.plan.yaml"],
    **text(),
)

KEYS: Shape = {
    "version": said("The version of the plan language.", [1], title="version", const=1),
    "name": said(
        "What reports and outputs are called. The file's name without .plan.yaml when left out.",
        ["sdxl-8gb"],
        title="name",
        type="string",
        maxLength=NAME.most,
        pattern=r"^[^/\\\x00-\x1f]+$",
    ),
    "requires": REQUIRES,
    "pipeline": PIPELINE,
    "device": DEVICE,
    "budget": BUDGET,
    "components": COMPONENT_MAP,
    "order": ORDER,
    "stages": STAGE_LIST,
    "exclude": said(
        "Components that are placed on the device once and left there.",
        [["image_encoder"]],
        **listed(said("A component.", ["image_encoder"], **text(NAME.most)), COMPONENTS.most),
    ),
    "quantization": RULE_LIST,
    "loras": LORA_LIST,
    "semantics": said(
        "Which moves are made. liveness: a component leaves when another needs its room or nothing needs "
        "it any "
        "more. diffusers: those of enable_model_cpu_offload, its quirks included; it needs order.",
        ["liveness"],
        enum=["liveness", "diffusers"],
    ),
    "idle": said(
        "What stays on the device between calls. release: only resident and excluded components. keep: what "
        "fits.",
        ["release"],
        enum=["release", "keep"],
    ),
    "run": RUN,
    "workload": WORKLOAD_MAP,
}


def schema() -> Shape:
    """The JSON Schema (draft 2020-12) of one file as it is written."""
    whole = {
        "required": ["version", "pipeline"],
        "properties": KEYS,
        "not": {"required": ["order", "stages"]},
    }
    listed_keys = {"version": KEYS["version"], "extends": EXTENDS, **KEYS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "offload plan",
        "description": "In which order a diffusers pipeline's components run, what is excluded, what is "
        "quantized, "
        "and how much memory there is.",
        "examples": [
            {
                "version": 1,
                "pipeline": {
                    "class": "FluxPipeline",
                    "source": "black-forest-labs/FLUX.1-dev",
                    "dtype": "bfloat16",
                },
                "budget": {"vram": "11GiB"},
            }
        ],
        "type": "object",
        "additionalProperties": False,
        # Every key is explained here; what its value may be is said below, for a part and for a whole plan.
        "properties": {
            key: {word: shape[word] for word in ("description", "examples")}
            for key, shape in listed_keys.items()
        }
        | {"extends": EXTENDS},
        "if": {"required": ["extends"]},
        "then": ref("part"),
        "else": ref("whole"),
        "$defs": {
            "whole": said(
                "A plan that stands by itself.", [{"version": 1, "pipeline": "FluxPipeline"}], **whole
            ),
            "part": said(
                "A plan on top of another: null removes a key of the other.",
                [{"extends": "flux.plan.yaml", "idle": "keep", "budget": None}],
                **part_of(whole, DEFS),
            ),
            **DEFS,
        },
    }
