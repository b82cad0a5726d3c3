"""P3xx: what the plan says, by itself and of the pipeline that it is for."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity
from planner.source.limits import SECONDS, STAGES

UNKNOWN_STAGE = Code(
    id="P301",
    name="unknown-stage",
    severity=Severity.ERROR,
    help="`after` names the ids of stages beside this one, on the same level.",
    wrong="stages:\n  - {id: prompt, runs: [text_encoder]}\n  - {id: denoise, runs: [unet], after: [promt]}",
    right="stages:\n  - {id: prompt, runs: [text_encoder]}\n  - {id: denoise, runs: [unet], after: [prompt]}",
)
UNKNOWN_COMPONENT = Code(
    id="P302",
    name="unknown-component",
    severity=Severity.ERROR,
    help="The pipeline has no component of this name. Names are those of the pipeline's constructor.",
    wrong="pipeline: StableDiffusionXLPipeline\norder: text_encodr -> unet -> vae",
    right="pipeline: StableDiffusionXLPipeline\norder: text_encoder -> unet -> vae",
)
UNKNOWN_ENTRY = Code(
    id="P303",
    name="unknown-entry-point",
    severity=Severity.ERROR,
    help="The component has no such entry point: a method or a part of it that pipelines call. A bare name "
    "stands for all of them.",
    wrong="order: text_encoder -> unet -> vae.decod",
    right="order: text_encoder -> unet -> vae.decode",
)
NO_WEIGHTS = Code(
    id="P304",
    name="no-weights",
    severity=Severity.ERROR,
    help="The component holds no weights (a tokenizer, a scheduler): there is nothing to move.",
    wrong="order: tokenizer -> text_encoder -> unet -> vae",
    right="order: text_encoder -> unet -> vae",
)
ORDERED_AND_EXCLUDED = Code(
    id="P305",
    name="ordered-and-excluded",
    severity=Severity.ERROR,
    help="An excluded component is placed once and never moves, so it has no place in the order.",
    wrong="order: image_encoder -> unet -> vae\nexclude: [image_encoder]",
    right="order: unet -> vae\nexclude: [image_encoder]",
)
STATED_TWICE = Code(
    id="P306",
    name="stated-twice",
    severity=Severity.ERROR,
    help="The same name stands twice where it can stand once: a stage's id, or an excluded component. (A "
    "component may run in several stages.)",
    wrong="stages:\n  - {id: a, runs: [unet]}\n  - {id: a, runs: [vae]}",
    right="stages:\n  - {id: a, runs: [unet]}\n  - {id: b, runs: [vae]}",
)
AFTER_ITSELF = Code(
    id="P307",
    name="after-itself",
    severity=Severity.ERROR,
    help="A stage cannot wait for itself.",
    wrong="stages:\n  - {id: a, runs: [unet], after: [a]}",
    right="stages:\n  - {id: a, runs: [unet]}",
)
BAD_ORDER = Code(
    id="P308",
    name="bad-order",
    severity=Severity.ERROR,
    help="An order string is names with -> or commas between them, one of the two throughout. A name is a "
    "component or an entry point, such as vae.encode.",
    wrong="order: text_encoder -> image_encoder-unet -> vae",
    right="order: text_encoder -> image_encoder -> unet -> vae",
)
NOT_WITH_DIFFUSERS = Code(
    id="P309",
    name="not-with-diffusers-semantics",
    severity=Severity.ERROR,
    help="`semantics: diffusers` makes the moves of enable_model_cpu_offload, which knows an order and "
    "nothing else: stages, policies and idle: keep have no meaning there.",
    wrong="semantics: diffusers\norder: unet -> vae\nidle: keep",
    right="semantics: liveness\norder: unet -> vae\nidle: keep",
)
TOO_DEEP = Code(
    id="P310",
    name="stages-too-deep",
    severity=Severity.ERROR,
    help="Stages may hold stages, three deep.",
    wrong="stages: [{id: a, stages: [{id: b, stages: [{id: c, stages: [{id: d, runs: [unet]}]}]}]}]",
    right="stages: [{id: a, stages: [{id: b, stages: [{id: c, runs: [unet]}]}]}]",
)
BAD_SIZE = Code(
    id="P311",
    name="bad-size",
    severity=Severity.ERROR,
    help="A share is more than 0% and at most 100%; a size is at least one byte. A loop's share likewise. "
    "A LoRA's scale is "
    "a number, and finite.",
    wrong="budget: {vram: 120%}",
    right="budget: {vram: 80%}",
)
BAD_PATTERN = Code(
    id="P312",
    name="bad-pattern",
    severity=Severity.ERROR,
    help="`match` is a regular expression as Python's re module reads it.",
    wrong="quantization: [{component: unet, match: 'attn(', backend: torchao, type: int8_weight_only}]",
    right="quantization: [{component: unet, match: 'attn', backend: torchao, type: int8_weight_only}]",
)
STREAM_ONLY = Code(
    id="P313",
    name="stream-only",
    severity=Severity.ERROR,
    help="`resident` and `prefetch` say how a component streams; they need policy: stream.",
    wrong="components: {unet: {policy: offload, resident: 50%}}",
    right="components: {unet: {policy: stream, resident: 50%}}",
)
EXCLUDED_WITH_POLICY = Code(
    id="P314",
    name="excluded-with-policy",
    severity=Severity.ERROR,
    help="An excluded component stays on the device: another policy contradicts that.",
    wrong="exclude: [vae]\ncomponents: {vae: offload}",
    right="exclude: [vae]",
)
OTHER_CLASS = Code(
    id="P315",
    name="other-class",
    severity=Severity.ERROR,
    help="The folder or target holds a pipeline of another class than the plan is for.",
    wrong="pipeline: {class: FluxPipeline, source: ./sdxl}",
    right="pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl}",
)
TWO_BACKENDS = Code(
    id="P316",
    name="two-backends",
    severity=Severity.ERROR,
    help="Two rules of `quantization` give one component two backends that work while the weights are read: "
    "bitsandbytes, torchao, quanto and gguf. diffusers takes one a component; layerwise_cast may come on "
    "top.",
    wrong="quantization:\n  - {component: unet, match: attn, backend: torchao, type: int8_weight_only}\n"
    "  - {component: unet, backend: bitsandbytes, type: nf4}",
    right="quantization:\n  - {component: unet, match: attn, backend: torchao, type: int8_weight_only}\n"
    "  - {component: unet, backend: layerwise_cast, storage_dtype: float8_e4m3fn}",
)
ENTRY_NOT_CHECKED = Code(
    id="P317",
    name="entry-not-checked",
    severity=Severity.NOTE,
    strict=True,
    help="An entry point may be any callable part of a component. Those that its pipelines call are known; "
    "whether the built model has this one is seen when the plan is applied.",
    wrong="order: text_encoder -> unet.mid_block -> vae",
    right="order: text_encoder -> unet -> vae.decode",
)
NO_GGUF_FILE = Code(
    id="P318",
    name="no-gguf-file",
    severity=Severity.ERROR,
    help="A rule of backend gguf quantizes nothing: it says in which dtype a component computes whose source "
    "is a .gguf file, which holds quantized weights.",
    wrong="quantization: [{component: transformer, backend: gguf, compute_dtype: bfloat16}]",
    right="components: {transformer: {source: ./flux-Q4_0.gguf}}\n"
    "quantization: [{component: transformer, backend: gguf, compute_dtype: bfloat16}]",
)
TOO_MANY_STAGES = Code(
    id="P319",
    name="too-many-stages",
    severity=Severity.ERROR,
    help=f"A plan has at most {STAGES}; a name in an order string is a stage too. What repeats is a loop.",
    wrong="order: " + " -> ".join(["unet"] * (STAGES.most + 1)),
    right="stages: [{id: denoise, runs: [unet], loop: 501}]",
)
SHARES_OVER_WHOLE = Code(
    id="P320",
    name="shares-over-whole",
    severity=Severity.ERROR,
    help="Shares of one thing are together more than the whole of it: of the steps of a loop that several "
    "stages split, or of the card that budget.vram takes and budget.leave_free leaves.",
    wrong="stages:\n  - {id: high, runs: [unet], loop: 50%}\n  - {id: low, runs: [unet], loop: 60%}",
    right="stages:\n  - {id: high, runs: [unet], loop: 50%}\n  - {id: low, runs: [unet], loop: 50%}",
)
NOTHING_LEFT = Code(
    id="P321",
    name="nothing-left",
    severity=Severity.ERROR,
    help="budget.leave_free leaves all of the card to others.",
    wrong="budget: {leave_free: 100%}",
    right="budget: {leave_free: 10%}",
)
SLOW_PATTERN = Code(
    id="P322",
    name="slow-pattern",
    severity=Severity.ERROR,
    help="A regular expression takes too long: what repeats inside a repeat is tried in every way. At most "
    f"{SECONDS}.",
    wrong="quantization: [{component: unet, match: '(a|aa)+[#]', backend: torchao, type: int8_weight_only}]",
    right="quantization: [{component: unet, match: 'a+[#]', backend: torchao, type: int8_weight_only}]",
)
MORE_PINNED = Code(
    id="P323",
    name="more-pinned-than-ram",
    severity=Severity.WARNING,
    help="budget.pinned is a part of budget.ram: more than that is never registered.",
    wrong="budget: {ram: 16GiB, pinned: 24GiB}",
    right="budget: {ram: 24GiB, pinned: 16GiB}",
)
TWO_LORAS = Code(
    id="P324",
    name="lora-twice",
    severity=Severity.ERROR,
    help="The same LoRA is loaded twice, or two are called alike: an adapter has a name of its own, and its "
    "scale says how much of it there is.",
    wrong="loras: [{lora_id: ./style}, {lora_id: ./style}]",
    right="loras: [{lora_id: ./style, lora_scale: 2.0}]",
)
CANNOT_TILE_OR_SLICE = Code(
    id="P325",
    name="cannot-tile-or-slice",
    severity=Severity.ERROR,
    help="`tiling` and `slicing` are for what encodes and decodes images: the autoencoders of diffusers. No "
    "other class has `enable_tiling` and `enable_slicing`, and a few of them (AutoencoderKLTemporalDecoder, "
    "VQModel) have not either.",
    wrong="components: {unet: {tiling: on}}",
    right="components: {vae: {tiling: on}}",
)
LORAS_LATER = Code(
    id="P393",
    name="loras-not-counted",
    severity=Severity.NOTE,
    help="`plan apply` loads and scales the LoRAs, and counts their bytes on the loaded pipeline. Before "
    "that, checks and schedules know nothing of them: leave them room.",
    wrong="loras: [{lora_id: ./style.safetensors}]\nbudget: {vram: 6.1GiB}  # the exact size without it",
    right="loras: [{lora_id: ./style.safetensors}]\nbudget: {vram: 7GiB}",
)
WORKLOAD_LATER = Code(
    id="P394",
    name="workload-not-executed",
    severity=Severity.WARNING,
    help="What a call needs beside its weights is not predicted yet, so a workload changes nothing.",
    wrong="workload: {batch: 4}",
    right="budget: {vram: 9GiB}  # leave room for activations yourself",
)

CODES = (
    UNKNOWN_STAGE,
    UNKNOWN_COMPONENT,
    UNKNOWN_ENTRY,
    NO_WEIGHTS,
    ORDERED_AND_EXCLUDED,
    STATED_TWICE,
    AFTER_ITSELF,
    BAD_ORDER,
    NOT_WITH_DIFFUSERS,
    TOO_DEEP,
    BAD_SIZE,
    BAD_PATTERN,
    STREAM_ONLY,
    EXCLUDED_WITH_POLICY,
    OTHER_CLASS,
    TWO_BACKENDS,
    ENTRY_NOT_CHECKED,
    NO_GGUF_FILE,
    *(TOO_MANY_STAGES, SHARES_OVER_WHOLE, NOTHING_LEFT, SLOW_PATTERN, MORE_PINNED, TWO_LORAS),
    CANNOT_TILE_OR_SLICE,
    LORAS_LATER,
    WORKLOAD_LATER,
)
