"""P80x: sequence strings: what is wrong with them, and what a plan or a string cannot say."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

UNKNOWN_NAME = Code(
    id="P801",
    name="sequence-unknown-name",
    severity=Severity.ERROR,
    help="model_cpu_offload_seq names something that the class does not have. diffusers says nothing: the "
    "name is passed over, and the component that was meant is in no chain, so it stays on the device from "
    "its first use to the end of the call.",
    wrong='model_cpu_offload_seq = "text_encoder->image_encoder-unet->vae"',
    right='model_cpu_offload_seq = "text_encoder->image_encoder->unet->vae"',
)
EMPTY_SEQUENCE = Code(
    id="P802",
    name="sequence-empty",
    severity=Severity.ERROR,
    help="model_cpu_offload_seq is an empty string: no component has a predecessor, so none leaves before "
    "the end of the call.",
    wrong='model_cpu_offload_seq = ""',
    right='model_cpu_offload_seq = "vae->latent_upsampler"',
)
REPEATED_NAME = Code(
    id="P803",
    name="sequence-repeated-name",
    severity=Severity.ERROR,
    help="A name stands twice in model_cpu_offload_seq. diffusers drops the second one: a chain has one "
    "place for each component. A plan can say both uses, with their entry points.",
    wrong='model_cpu_offload_seq = "text_encoder->movq->unet->movq"',
    right="order: text_encoder -> movq.encode -> unet -> movq.decode",
)
SEQUENCED_AND_EXCLUDED = Code(
    id="P804",
    name="sequenced-and-excluded",
    severity=Severity.ERROR,
    help="A component stands in model_cpu_offload_seq and in _exclude_from_cpu_offload. The sequence wins: "
    "it is offloaded, though the class asks for it to stay.",
    wrong='model_cpu_offload_seq = "text_encoder->prior"\n_exclude_from_cpu_offload = ["prior"]',
    right='model_cpu_offload_seq = "text_encoder"\n_exclude_from_cpu_offload = ["prior"]',
)
OUTSIDE = Code(
    id="P805",
    name="outside-the-chain",
    severity=Severity.NOTE,
    help="A component with weights is neither in the sequence nor excluded. It comes when it is first used "
    "and stays on the device to the end of the call: it has no successor that would evict it.",
    wrong='model_cpu_offload_seq = "text_encoder->unet->vae"  # and a controlnet',
    right="stages: [{id: denoise, runs: [controlnet, unet], loop: steps}]",
)
NO_SEQUENCE = Code(
    id="P806",
    name="no-sequence",
    severity=Severity.NOTE,
    help="The class has no model_cpu_offload_seq: enable_model_cpu_offload refuses it. --improve makes a "
    "plan from the class's own source.",
    wrong="plan translate VersatileDiffusionPipeline",
    right="plan translate StableCascadeCombinedPipeline --improve",
)
OWN_OFFLOAD = Code(
    id="P807",
    name="own-offload-method",
    severity=Severity.NOTE,
    help="The class has an enable_model_cpu_offload of its own, so its string does not say what happens.",
    wrong="plan translate WuerstchenCombinedPipeline",
    right="plan translate WuerstchenCombinedPipeline --improve",
)
NOT_A_STRING = Code(
    id="P808",
    name="not-sayable-as-a-sequence",
    severity=Severity.ERROR,
    help="A sequence string is one chain of component names. It cannot say stages, entry points, policies, a "
    "component that runs twice, or what is kept between calls.",
    wrong="order: vae.encode -> unet -> vae.decode",
    right="order: unet -> vae\nsemantics: diffusers",
)
NEVER_FREES = Code(
    id="P810",
    name="never-frees-its-hooks",
    severity=Severity.NOTE,
    help="The class's __call__ does not reach maybe_free_model_hooks, so under enable_model_cpu_offload what "
    "ran last stays on the device after the call. Under a plan a call ends when it ends.",
    wrong="pipe = RePaintPipeline(...); pipe.enable_model_cpu_offload()",
    right="planner.apply('repaint.plan.yaml', pipe)",
)
WHICH_CLASS = Code(
    id="P809",
    name="which-class",
    severity=Severity.ERROR,
    exit_code=2,
    help="A plan is for a pipeline class. No class of the catalogue has this sequence, or several have "
    "it, or one that holds it, and do not run alike. Name the one that it is for.",
    wrong='plan translate "text_encoder->unet->vae"',
    right='plan translate "text_encoder->unet->vae" --class StableDiffusionPipeline',
)
TAKEN_FOR = Code(
    id="P811",
    name="taken-for-class",
    severity=Severity.NOTE,
    help="The string was given without a class. It fits one class, or several that have the same plan but "
    "for the name: the plan is for the one that is named here.",
    wrong='plan translate "vae->latent_upsampler"',
    right='plan translate "vae->latent_upsampler" --class LTX2LatentUpsamplePipeline',
)

CODES = (
    UNKNOWN_NAME,
    EMPTY_SEQUENCE,
    REPEATED_NAME,
    SEQUENCED_AND_EXCLUDED,
    OUTSIDE,
    NO_SEQUENCE,
    OWN_OFFLOAD,
    NOT_A_STRING,
    NEVER_FREES,
    WHICH_CLASS,
    TAKEN_FOR,
)

DEFECTS = (UNKNOWN_NAME, EMPTY_SEQUENCE, REPEATED_NAME, SEQUENCED_AND_EXCLUDED)
"""Those that say a sequence is wrong."""
