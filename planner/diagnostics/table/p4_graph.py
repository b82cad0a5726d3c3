"""P4xx: the order of the stages."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

RING = Code(
    id="P401",
    name="ring",
    severity=Severity.ERROR,
    help="Stages wait for each other in a ring, so none of them can ever start. The message prints the "
    "ring. Take one `after` out of it.",
    wrong="""\
version: 1
pipeline: StableDiffusionXLPipeline
stages:
  - {id: denoise, runs: [unet], after: [decode]}
  - {id: decode, runs: [vae.decode], after: [denoise]}
""",
    right="""\
version: 1
pipeline: StableDiffusionXLPipeline
stages:
  - {id: denoise, runs: [unet]}
  - {id: decode, runs: [vae.decode], after: [denoise]}
""",
)

UNKNOWN_WALK = Code(
    id="P402",
    name="unknown-walk",
    severity=Severity.ERROR,
    help="The plan has neither `order` nor `stages`, and the catalogue does not know in which order this "
    "class runs its components. Write `order`.",
    wrong="""\
version: 1
pipeline: VersatileDiffusionPipeline
""",
    right="""\
version: 1
pipeline: VersatileDiffusionPipeline
order: text_encoder -> image_unet -> vae
""",
)

CONTRADICTS_CLASS = Code(
    id="P403",
    name="contradicts-class",
    severity=Severity.WARNING,
    help="The order in the plan is not the order in which the class calls its components. Results stay "
    "right, since any call order is served, but components come and go at the wrong moments and the "
    "prediction is off. The message prints the class's own walk.",
    wrong="""\
version: 1
pipeline: StableDiffusionXLPipeline
order: unet -> text_encoder -> text_encoder_2 -> vae
""",
    right="""\
version: 1
pipeline: StableDiffusionXLPipeline
order: text_encoder -> text_encoder_2 -> unet -> vae
""",
)

ON_DEMAND = Code(
    id="P404",
    name="on-demand",
    severity=Severity.NOTE,
    help="A component with weights is neither in the walk nor excluded. It is loaded when it is called, "
    "and its bytes count in every stage, since it may run in any of them. Name it in a stage, or exclude it.",
    wrong="""\
version: 1
pipeline: StableDiffusionXLControlNetPipeline
order: text_encoder -> text_encoder_2 -> unet -> vae
""",
    right="""\
version: 1
pipeline: StableDiffusionXLControlNetPipeline
stages:
  - {id: prompt, runs: [text_encoder, text_encoder_2]}
  - {id: denoise, runs: [controlnet, unet], loop: steps}
  - {id: decode, runs: [vae.decode]}
exclude: [image_encoder]
""",
)

UNORDERED = Code(
    id="P405",
    name="unordered-stages",
    severity=Severity.NOTE,
    help="No path orders two stages, so either may run first; the schedule holds for both. Write `after` "
    "if one of them always follows the other: less needs to fit at once.",
    wrong="""\
version: 1
pipeline: StableDiffusionXLPipeline
stages:
  - {id: prompt, runs: [text_encoder]}
  - {id: prompt2, runs: [text_encoder_2], after: []}
  - {id: denoise, runs: [unet], loop: steps, after: [prompt, prompt2]}
  - {id: decode, runs: [vae.decode]}
""",
    right="""\
version: 1
pipeline: StableDiffusionXLPipeline
stages:
  - {id: prompt, runs: [text_encoder]}
  - {id: prompt2, runs: [text_encoder_2]}
  - {id: denoise, runs: [unet], loop: steps}
  - {id: decode, runs: [vae.decode]}
""",
)

CODES = (RING, UNKNOWN_WALK, CONTRADICTS_CLASS, ON_DEMAND, UNORDERED)
