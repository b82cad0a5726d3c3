"""P35x, P38x: the pipeline that a plan is for, as far as it can be known without loading it."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

UNKNOWN_CLASS = Code(
    id="P351",
    name="unknown-class",
    severity=Severity.ERROR,
    help="The catalogue of diffusers' pipeline classes has no class of this name. Where none is near, or the "
    "plan has an order or stages of its own, it may be a class of yours: then this is a warning, and names "
    "and sizes are checked when the pipeline is loaded. A class that can be seen is checked like diffusers' "
    "own: --from module:Class, or a catalogue file that `plan catalogue` made (--catalogue FILE).",
    wrong="pipeline: StableDiffusionXlPipeline",
    right="pipeline: StableDiffusionXLPipeline",
)
SIZES_UNKNOWN = Code(
    id="P352",
    name="sizes-not-known",
    severity=Severity.NOTE,
    strict=True,
    help="How large the components are is not known here, so whether the plan fits is not checked. Sizes are "
    "read from a folder of weights (its safetensors headers), never from the network or a hub's cache: the "
    "verdict on a plan is the same on every machine. `plan apply` checks before it starts.",
    wrong="plan validate flux.plan.yaml --strict  # its source is a hub id",
    right="plan validate flux.plan.yaml --target ./FLUX.1-dev --strict",
)
BROKEN_FOLDER = Code(
    id="P353",
    name="broken-folder",
    severity=Severity.ERROR,
    help="The folder is there and is no whole pipeline: model_index.json is missing or not JSON, it lacks a "
    "component that the class needs, or a component's config.json, a shard, or the end of a weight file is "
    "missing. Loading it would fail.",
    wrong="pipeline: {class: FluxPipeline, source: ./half-downloaded}",
    right="pipeline: {class: FluxPipeline, source: ./FLUX.1-dev}",
)
PICKLED = Code(
    id="P354",
    name="pickled-weights",
    severity=Severity.WARNING,
    help="A component has only pickled weights. Unpickling runs code from the file, so a plan cannot allow "
    "it: `plan apply --allow-pickle` does. Their size is not read.",
    wrong="unet/diffusion_pytorch_model.bin",
    right="unet/diffusion_pytorch_model.safetensors",
)
MODULAR = Code(
    id="P355",
    name="modular-class",
    severity=Severity.ERROR,
    help="Modular pipelines have their blocks in place of a fixed walk, and diffusers' ComponentsManager "
    "moves their components. Plans are for pipelines with a __call__ of their own.",
    wrong="pipeline: StableDiffusionXLModularPipeline",
    right="pipeline: StableDiffusionXLPipeline",
)
UNKNOWN_BUILTIN = Code(
    id="P356",
    name="unknown-builtin",
    severity=Severity.ERROR,
    help="builtin: names a small pipeline that is made on this machine: tiny-sdxl, tiny-flux or tiny-wan.",
    wrong="pipeline: {class: FluxPipeline, source: 'builtin:flux'}",
    right="pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}",
)
NO_CATALOGUE = Code(
    id="P357",
    name="no-catalogue",
    severity=Severity.WARNING,
    help="The plan requires a version of diffusers that no catalogue is shipped for. It is checked against "
    "the newest one; names and orders may differ.",
    wrong="requires: {diffusers: '<0.20'}",
    right="requires: {diffusers: '>=0.36'}",
)
NO_VARIANT = Code(
    id="P358",
    name="no-such-variant",
    severity=Severity.WARNING,
    help="A component has no weight files of the variant; the plain ones are taken, as diffusers does. Where "
    "no component has the variant it is an error, for diffusers too.",
    wrong="pipeline: {class: FluxPipeline, source: ./flux, variant: fp61}",
    right="pipeline: {class: FluxPipeline, source: ./flux, variant: fp16}",
)
BROKEN_CATALOGUE = Code(
    id="P381",
    name="broken-catalogue",
    severity=Severity.ERROR,
    help="A catalogue file of one's own (--catalogue FILE, OFFLOAD_PLANNER_CATALOGUE) is missing, is not "
    "JSON, or is not what `plan catalogue` writes (schemas/catalogue.v1.schema.json): a walk that names a "
    "component which the class does not have counts too. Nothing of a broken file is used.",
    wrong="plan validate --catalogue model_index.json",
    right="plan catalogue mymodule:MyPipeline -o my.catalogue.json\n"
    "plan validate --catalogue my.catalogue.json",
)
NO_PIPELINE_CLASS = Code(
    id="P382",
    name="no-pipeline-class",
    severity=Severity.ERROR,
    help="What was given as a class is none that plans are for: a subclass of diffusers' DiffusionPipeline, "
    "in a module that can be imported. A catalogue has one class of a name.",
    wrong="plan catalogue mymodule:MyTransformer",
    right="plan catalogue mymodule:MyPipeline",
)

NOT_HERE = Code(
    id="P359",
    name="not-in-this-pipeline",
    severity=Severity.NOTE,
    help="The plan names a component or an entry point that diffusers' class has, and this pipeline does "
    "not: one that is None in its folder, a copy or a subclass without it, or a part that another version of "
    "transformers has. It cannot be called, so nothing is planned for it.",
    wrong="order: text_encoder -> text_encoder.text_model.final_layer_norm -> unet -> vae",
    right="order: text_encoder -> unet -> vae",
)

NO_SUCH_SOURCE = Code(
    id="P360",
    name="no-such-source",
    severity=Severity.ERROR,
    help="A source that is written as a path (./flux, ~/flux, flux.safetensors) is no folder or file here. "
    "Paths are relative to the plan; a hub's id is `owner/name`. The same for a cache of the hub that has no "
    "such snapshot.",
    wrong="pipeline: {class: FluxPipeline, source: ./flux-dve}",
    right="pipeline: {class: FluxPipeline, source: ./flux-dev}",
)
LACKS_COMPONENT = Code(
    id="P361",
    name="source-lacks-component",
    severity=Severity.ERROR,
    help="The folder holds another class's pipeline, which can be loaded as the plan's but for a component "
    "that it does not have: a ControlNet, a second text encoder. `components.NAME.source` brings it from a "
    "folder of its own, from another pipeline's, or from a hub id.",
    wrong="pipeline: {class: StableDiffusionXLControlNetPipeline, source: ./sdxl}",
    right="pipeline: {class: StableDiffusionXLControlNetPipeline, source: ./sdxl}\n"
    "components: {controlnet: {source: ./controlnet-canny}}",
)
FOREIGN_CODE = Code(
    id="P362",
    name="foreign-code",
    severity=Severity.WARNING,
    help="The folder's model_index.json takes a component's class from a package that is neither diffusers "
    "nor transformers. Importing that package runs it, so a plan cannot allow it: `plan apply "
    "--trust-remote-code` does.",
    wrong='model_index.json: "unet": ["my_package", "MyUNet"]',
    right='model_index.json: "unet": ["diffusers", "UNet2DConditionModel"]',
)
CLASS_NOT_KNOWN = Code(
    id="P363",
    name="class-not-known-here",
    severity=Severity.NOTE,
    strict=True,
    help="DiffusionPipeline and the AutoPipelines stand for the class that the source names. A folder's "
    "model_index.json says which; of a well-known model's hub id it is known too. Of another it is known "
    "once the pipeline is loaded, and names, order and sizes are checked then.",
    wrong="pipeline: {class: DiffusionPipeline, source: my-name/my-flux}",
    right="pipeline: {class: FluxPipeline, source: my-name/my-flux}",
)
SHIPPED = Code(
    id="P366",
    name="shipped-sizes",
    severity=Severity.NOTE,
    help="The source is the hub id of a well-known model. How large its components are ships with this tool, "
    "and for some calls (sizes, frames, guidance, dtype, tiling) what activations take: both come from the "
    "model's configs, so neither network nor torch is asked. The message says of which call the activations "
    "are where that is not the plan's own: what does not fit is a warning then. `plan compile --lock` keeps "
    "the sizes that the hub has.",
    wrong="""\
pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev, dtype: bfloat16}
budget: {vram: 27GiB}
""",
    right="""\
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux', dtype: bfloat16}
budget: {vram: 27GiB}
""",
)

CODES = (
    UNKNOWN_CLASS,
    SIZES_UNKNOWN,
    SHIPPED,
    BROKEN_FOLDER,
    PICKLED,
    MODULAR,
    UNKNOWN_BUILTIN,
    NO_CATALOGUE,
    NO_VARIANT,
    NOT_HERE,
    NO_SUCH_SOURCE,
    LACKS_COMPONENT,
    FOREIGN_CODE,
    CLASS_NOT_KNOWN,
    BROKEN_CATALOGUE,
    NO_PIPELINE_CLASS,
)
