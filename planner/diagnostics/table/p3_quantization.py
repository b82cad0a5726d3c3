"""P37x: what `quantization` says, by itself and of the modules that it is for."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

UNKNOWN_OPTION = Code(
    id="P371",
    name="unknown-option",
    severity=Severity.ERROR,
    help="A rule holds `component`, `backend`, what chooses modules (`match`, `classes`, `skip`, `required`) "
    "and the options of its backend. This backend, or this format of it, has no such option.",
    wrong="quantization: [{component: unet, backend: torchao, typ: int8_weight_only}]",
    right="quantization: [{component: unet, backend: torchao, type: int8_weight_only}]",
)
BAD_OPTION = Code(
    id="P372",
    name="bad-option",
    severity=Severity.ERROR,
    help="An option's value is not one that the backend knows: a format, a dtype, a number.",
    wrong="quantization: [{component: unet, backend: bitsandbytes, type: nf5}]",
    right="quantization: [{component: unet, backend: bitsandbytes, type: nf4}]",
)
SHADOWED_RULE = Code(
    id="P373",
    name="shadowed-rule",
    severity=Severity.ERROR,
    help="Rules are read in order and the first that matches a module wins: rules above this one take every "
    "module that it would. Write the narrower rule first.",
    wrong="quantization:\n  - {component: unet, backend: torchao, type: int8_weight_only}\n"
    "  - {component: unet, match: attn, backend: torchao, type: float8_weight_only}",
    right="quantization:\n  - {component: unet, match: attn, backend: torchao, type: float8_weight_only}\n"
    "  - {component: unet, backend: torchao, type: int8_weight_only}",
)
UNMATCHED_RULE = Code(
    id="P374",
    name="unmatched-rule",
    severity=Severity.ERROR,
    help="No module of the component is what the rule asks for: by name (`match`), by class (`classes`), "
    "left out by `skip` or by the model's class, of a kind that the backend does not quantize, or of a shape "
    "that its format does not pack. `required: false` says that this is fine.",
    wrong="quantization: [{component: unet, match: 'atn\\d', backend: torchao, type: int8_weight_only}]",
    right="quantization: [{component: unet, match: 'attn\\d', backend: torchao, type: int8_weight_only}]",
)
RULE_NOT_CHECKED = Code(
    id="P375",
    name="rule-not-checked",
    severity=Severity.NOTE,
    strict=True,
    help="Which modules a rule takes, and what they weigh then, is seen where their names are known: in a "
    "folder's files, and exactly in the model that is built before its weights are read.",
    wrong="pipeline: FluxPipeline\nquantization: [{component: transformer, backend: quanto, type: int8}]",
    right="pipeline: {class: FluxPipeline, source: ./flux-dev}\n"
    "quantization: [{component: transformer, backend: quanto, type: int8}]",
)
PAIR_REFUSED = Code(
    id="P376",
    name="refused-pair",
    severity=Severity.ERROR,
    help="A backend does not go together with what the plan or the machine has beside it: a policy, LoRAs, "
    "torch.compile, the device, a version. `plan doctor` prints what goes with what, and why.",
    wrong="device: mps\nquantization: [{component: unet, backend: quanto, type: float8}]",
    right="device: mps\nquantization: [{component: unet, backend: quanto, type: int8}]",
)
QUANTIZED_ALREADY = Code(
    id="P377",
    name="quantized-already",
    severity=Severity.ERROR,
    help="The component's config.json has a quantization_config: its weights were quantized when they were "
    "saved, and are loaded so. diffusers and transformers then pass over what a rule asks for. Take the rule "
    "away, or take weights that are not quantized; `required: false` says that the rule is for those alone.",
    wrong="components: {transformer: {source: ./flux-nf4/transformer}}\n"
    "quantization: [{component: transformer, backend: bitsandbytes, type: nf4}]",
    right="components: {transformer: {source: ./flux-nf4/transformer}}",
)

CODES = (
    *(UNKNOWN_OPTION, BAD_OPTION, SHADOWED_RULE, UNMATCHED_RULE, RULE_NOT_CHECKED),
    *(PAIR_REFUSED, QUANTIZED_ALREADY),
)
