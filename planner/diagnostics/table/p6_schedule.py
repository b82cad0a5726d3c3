"""P6xx: does it fit."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

_FITS = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: float16}
budget: {vram: 8GiB}
"""

COMPONENT_TOO_LARGE = Code(
    id="P601",
    name="component-too-large",
    severity=Severity.ERROR,
    help="A component's weights alone are larger than the budget: under the policy that the plan writes, or, "
    "where it writes none, even when all of its blocks come and go (`policy: stream`). Raise `budget.vram` "
    "to what the hint says, which is the least that fits, or load the component in a smaller dtype or "
    "quantized.",
    wrong=_FITS.replace("8GiB", "64MiB"),
    right=_FITS,
)

STAGE_TOO_LARGE = Code(
    id="P602",
    name="stage-too-large",
    severity=Severity.ERROR,
    help="What one stage must hold at once is more than the budget: the components of a looped stage "
    "together, and everything that never leaves (`policy: resident`, `exclude`, components on demand).",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: float16}
budget: {vram: 6GiB}
components: {text_encoder_2: resident}
""",
    right=_FITS,
)

UNORDERED_TOO_LARGE = Code(
    id="P603",
    name="unordered-too-large",
    severity=Severity.ERROR,
    help="No path orders two stages, so they may overlap, and what both hold is more than the budget. "
    "Write `after` in one of them.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: float16}
budget: {vram: 5GiB}
stages:
  - {id: prompt, runs: [text_encoder_2]}
  - {id: denoise, runs: [unet], loop: steps, after: []}
  - {id: decode, runs: [vae.decode], after: [prompt, denoise]}
""",
    right="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: float16}
budget: {vram: 5GiB}
stages:
  - {id: prompt, runs: [text_encoder_2]}
  - {id: denoise, runs: [unet], loop: steps}
  - {id: decode, runs: [vae.decode]}
""",
)

DIFFUSERS_TOO_LARGE = Code(
    id="P604",
    name="diffusers-too-large",
    severity=Severity.ERROR,
    help="Under `semantics: diffusers` the moves are those of `enable_model_cpu_offload`, whatever the "
    "budget; at this step they leave more on the device than the budget. `semantics: liveness` may fit.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl, dtype: float16}
budget: {vram: 5GiB}
order: text_encoder -> unet -> vae -> text_encoder_2
semantics: diffusers
""",
    right=_FITS,
)

NOT_CHECKED = Code(
    id="P605",
    name="fit-not-checked",
    severity=Severity.NOTE,
    strict=True,
    help="The fit was not checked, because a size or the budget is not known here: a hub id has no sizes, "
    "`N%` and a missing `vram` need a card. `plan apply` checks both before it moves anything.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: stabilityai/stable-diffusion-xl-base-1.0}
budget: {vram: 50%}
""",
    right=_FITS,
)

HOST_TOO_SMALL = Code(
    id="P606",
    name="host-too-small",
    severity=Severity.ERROR,
    help="All weights of a pipeline lie in host memory while a plan is applied, and together they are more "
    "than `budget.ram`. Raise it, take it out (then what the machine has free is the limit), or load the "
    "pipeline in a smaller dtype.",
    wrong=_FITS.replace("8GiB", "8GiB, ram: 4GiB"),
    right=_FITS.replace("8GiB", "8GiB, ram: 16GiB"),
)

ACTIVATIONS_TOO_LARGE = Code(
    id="P607",
    name="activations-too-large",
    severity=Severity.ERROR,
    help="A component's weights fit the budget, and what it computes with the height, width, frames and "
    "batch of `run` does not fit beside them, even where libraries do without the scratch memory that they "
    "can do without. `plan explain --activations` predicts what activations take from a trace of the call. "
    "Raise `budget.vram` to what the hint says, tile the VAE, or ask for less at once.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
budget: {vram: 6MiB}
run: {prompt: a cat, height: 1024, width: 1024}
""",
    right="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
budget: {vram: 2GiB}
run: {prompt: a cat, height: 1024, width: 1024}
""",
)

ALLOCATION_TOO_LITTLE = Code(
    id="P608",
    name="allocation-finds-too-little",
    severity=Severity.WARNING,
    help="Weights and what activations must take fit the budget, and in the forecast of the call an "
    "allocation still finds too little beside them: torch gives back what it cached and tries again, a "
    "library takes another kernel, which may round otherwise, or the call runs out of memory. It is told "
    "where the call is known and the card's rates are (`plan validate --activations --card NAME`). "
    "`plan fit` looks for a plan in which none does; raising `budget.vram` by a few percent helps too.",
    wrong="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
budget: {vram: 540MiB}  # --activations --card rtx-4090
run: {prompt: a cat, height: 256, width: 256}
""",
    right="""\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: builtin:tiny-sdxl}
budget: {vram: 2GiB}
run: {prompt: a cat, height: 256, width: 256}
""",
)

CODES = (
    COMPONENT_TOO_LARGE,
    STAGE_TOO_LARGE,
    UNORDERED_TOO_LARGE,
    DIFFUSERS_TOO_LARGE,
    NOT_CHECKED,
    HOST_TOO_SMALL,
    ACTIVATIONS_TOO_LARGE,
    ALLOCATION_TOO_LITTLE,
)
