"""What becomes of weights: quantization rules, and LoRAs."""

from __future__ import annotations

from planner.document.language.shape import Shape, listed, mapping, ref, said, text
from planner.source.limits import ENTRIES, LORAS, NAME, PATTERN, RULES

RULE_LIST: Shape = said(
    "Rules in order; the first one that matches a module wins.",
    [[{"component": "text_encoder_2", "backend": "bitsandbytes", "type": "nf4"}]],
    **listed(ref("rule"), RULES.most),
)

RULE: Shape = said(
    "Which modules, and what becomes of them. Rules are read in order: the first that matches a module wins.",
    [
        {"component": "transformer", "backend": "torchao", "type": "int8_weight_only"},
        {"component": "unet", "match": r"attn\d\.to_(q|k|v)$", "backend": "quanto", "type": "int8"},
        {
            "component": "text_encoder_2",
            "backend": "bitsandbytes",
            "type": "nf4",
            "compute_dtype": "bfloat16",
        },
        {
            "component": "transformer",
            "backend": "layerwise_cast",
            "storage_dtype": "float8_e4m3fn",
            "skip": ["proj_out"],
        },
        {"component": "transformer", "backend": "gguf", "compute_dtype": "bfloat16"},
    ],
    type="object",
    required=["component", "backend"],
    maxProperties=ENTRIES.most,
    # Which options there are is the backend's to say (P371).
    additionalProperties=True,
    properties={
        "component": said("The component whose modules it takes.", ["unet"], **text(NAME.most)),
        "backend": said(
            "Who quantizes: bitsandbytes, torchao and quanto while the weights are read, layerwise_cast "
            "after "
            "that; gguf is for a component that comes from a GGUF file.",
            ["torchao"],
            enum=["bitsandbytes", "torchao", "quanto", "gguf", "layerwise_cast"],
        ),
        "match": said(
            "A regular expression searched in the names of modules, as named_modules() has them; write it in "
            "single quotes. Left out: every module that the backend can take.",
            [r"attn\d\.to_(q|k|v)$"],
            **text(PATTERN.most),
        ),
        "classes": said(
            "Class names of modules, or of their bases: Linear, Conv2d, or the model's own.",
            [["Linear"]],
            **listed(said("A class name.", ["Linear"], **text(NAME.most)), ENTRIES.most, least=1),
        ),
        "skip": said(
            "Modules to leave out, with all that is in them: regular expressions searched in their names. "
            "They "
            "are added to what the backend and the model's class leave out.",
            [["norm"]],
            **listed(
                said("A regular expression searched in module names.", ["norm"], **text(PATTERN.most)),
                ENTRIES.most,
            ),
        ),
        "required": said(
            "Whether it is an error that the rule takes no module (true when left out).",
            [False],
            type="boolean",
        ),
        "type": said(
            "The format. bitsandbytes: nf4, fp4, int8. torchao: int8_weight_only, int4_weight_only, "
            "float8_weight_only, int8_dynamic, float8_dynamic. quanto: int8, float8, int4, int2.",
            ["nf4", "int8_weight_only"],
            type="string",
        ),
        "storage_dtype": said(
            "layerwise_cast: the dtype that weights are kept in, float8_e4m3fn (when left out) or "
            "float8_e5m2.",
            ["float8_e4m3fn"],
            type="string",
        ),
        "compute_dtype": said(
            "bitsandbytes 4-bit, gguf, layerwise_cast: the dtype that weights are used in.", ["bfloat16"]
        ),
        "double_quant": said("bitsandbytes 4-bit: quantize the scales too.", [True]),
        "threshold": said("bitsandbytes int8: activations above it are computed in half precision.", [6.0]),
        "group_size": said("torchao int4_weight_only: how many weights share a scale.", [64]),
    },
)

LORA_LIST: Shape = said(
    "LoRAs to load before the plan is applied.",
    [[{"lora_id": "ByteDance/Hyper-SD", "lora_scale": 0.125}]],
    **listed(ref("lora"), LORAS.most),
)

LORA: Shape = said(
    "One LoRA, under diffusers' own names.",
    [{"lora_id": "./style.safetensors", "lora_scale": 0.8}],
    **mapping(
        {
            "lora_id": said("A folder, a file or a hub id.", ["ByteDance/Hyper-SD"], **text()),
            "lora_scale": said("Its weight.", [0.8], type="number"),
            "adapter_name": said("The name that it is known by afterwards.", ["style"], **text(NAME.most)),
            "weight_name": said(
                "The file inside a folder or hub id.", ["pytorch_lora_weights.safetensors"], **text()
            ),
        },
        required=["lora_id"],
    ),
)
