"""P90x-P92x: the plan is fine as far as it can be checked; this machine, a file or the run's input is not."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

PACKAGE_MISSING = Code(
    id="P901",
    name="package-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="Checking and compiling need nothing heavy; applying needs torch, diffusers, accelerate and "
    "transformers, and some pipelines a package of their own (sentencepiece, ftfy).",
    wrong="pip install offload-planner && plan apply flux.plan.yaml",
    right="pip install 'offload-planner[apply]' && plan apply flux.plan.yaml",
)
PACKAGE_TOO_OLD = Code(
    id="P902",
    name="package-too-old",
    severity=Severity.ERROR,
    exit_code=4,
    help="A package is older than what a session relies on (accelerate 0.17 brought the hooks that "
    "pipelines ask for their execution device).",
    wrong="pip install accelerate==0.16.0",
    right="pip install -U 'offload-planner[apply]'",
)
NO_SOURCE = Code(
    id="P903",
    name="no-source",
    severity=Severity.ERROR,
    help="The plan does not say where the weights are, so there is nothing to load. A plan without a source "
    "is for a pipeline that a script has loaded: planner.apply(plan, pipe), or `plan apply --from`.",
    wrong="pipeline: FluxPipeline",
    right="pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev}",
)
SOURCE_NOT_FOUND = Code(
    id="P904",
    name="source-not-found",
    severity=Severity.ERROR,
    exit_code=4,
    help="The source is no folder or file here (paths are relative to the plan), and no repository of the "
    "hub, or not one that may be read without logging in.",
    wrong="pipeline: {class: FluxPipeline, source: ./flux-dve}",
    right="pipeline: {class: FluxPipeline, source: ./flux-dev}",
)
HUB_UNREACHABLE = Code(
    id="P905",
    name="hub-unreachable",
    severity=Severity.ERROR,
    exit_code=4,
    help="The weights are not in the cache of this machine, and the hub could not be asked: no network, or "
    "HF_HUB_OFFLINE is set. A folder as the source needs no network.",
    wrong="HF_HUB_OFFLINE=1 plan apply flux.plan.yaml  # never downloaded before",
    right="plan apply flux.plan.yaml --set pipeline.source=./flux-dev",
)
WEIGHTS_MISSING = Code(
    id="P906",
    name="weights-missing",
    severity=Severity.ERROR,
    exit_code=4,
    help="The source is there, but a component's weights are not: a download that stopped, or a variant "
    "that this source does not have.",
    wrong="pipeline: {class: FluxPipeline, source: ./flux, variant: fp16}  # no *.fp16.safetensors in it",
    right="pipeline: {class: FluxPipeline, source: ./flux}",
)
PICKLED = Code(
    id="P907",
    name="pickle-not-allowed",
    severity=Severity.ERROR,
    exit_code=4,
    help="The weights are pickled (.bin, .ckpt, .pt), and reading such files can run code. A plan cannot "
    "grant that; whoever runs it can.",
    wrong="plan apply old.plan.yaml",
    right="plan apply old.plan.yaml --allow-pickle",
)
SOURCE_DAMAGED = Code(
    id="P908",
    name="source-damaged",
    severity=Severity.ERROR,
    exit_code=4,
    help="A file of the source cannot be read: cut short, overwritten, or not what its name says. Download "
    "or copy it again.",
    wrong="truncate -s 1000 flux/transformer/diffusion_pytorch_model.safetensors",
    right="huggingface-cli download black-forest-labs/FLUX.1-dev --local-dir flux",
)
CLASS_NOT_INSTALLED = Code(
    id="P909",
    name="class-not-installed",
    severity=Severity.ERROR,
    exit_code=4,
    help="The diffusers of this machine has no pipeline class of this name: it is older or newer than the "
    "plan, or the name is not that of a class.",
    wrong="pipeline: {class: FluxPipline, source: ./flux}",
    right="pipeline: {class: FluxPipeline, source: ./flux}",
)
CLASS_DIFFERS = Code(
    id="P910",
    name="source-of-another-class",
    severity=Severity.ERROR,
    exit_code=4,
    help="The source lacks components that the plan's class needs, so it holds a pipeline of another class.",
    wrong="pipeline: {class: FluxPipeline, source: ./sdxl}",
    right="pipeline: {class: StableDiffusionXLPipeline, source: ./sdxl}",
)
REMOTE_CODE = Code(
    id="P911",
    name="remote-code",
    severity=Severity.ERROR,
    exit_code=4,
    help="The source brings Python code of its own. A plan cannot grant that it runs; whoever runs the plan "
    "can.",
    wrong="plan apply custom.plan.yaml",
    right="plan apply custom.plan.yaml --trust-remote-code",
)
LOADING_FAILED = Code(
    id="P912",
    name="loading-failed",
    severity=Severity.ERROR,
    exit_code=4,
    help="diffusers or transformers refused to load the pipeline; the message is theirs. Loading the same "
    "source with from_pretrained in a script fails alike.",
    wrong="pipeline: {class: FluxPipeline, source: ./half-converted}",
    right="pipeline: {class: FluxPipeline, source: ./flux-dev}",
)
BAD_FACTORY = Code(
    id="P913",
    name="bad-factory",
    severity=Severity.ERROR,
    exit_code=2,
    help="--from takes module:function, a function without arguments that returns a loaded pipeline. The "
    "current folder is searched first.",
    wrong="plan apply flux.plan.yaml --from make_flux.py",
    right="plan apply flux.plan.yaml --from make_flux:pipeline",
)
FACTORY_FAILED = Code(
    id="P914",
    name="factory-failed",
    severity=Severity.ERROR,
    exit_code=4,
    help="The function of --from, or its module, raised; or what it returned is no diffusers pipeline.",
    wrong="def pipeline():\n    FluxPipeline.from_pretrained('./flux')  # returns None",
    right="def pipeline():\n    return FluxPipeline.from_pretrained('./flux')",
)
UNKNOWN_ARGUMENT = Code(
    id="P915",
    name="unknown-argument",
    severity=Severity.ERROR,
    help="`run` holds arguments of the pipeline's call under diffusers' own names, and this pipeline takes "
    "none of this name. `seed` is the one name of ours: it makes the generator. Where the call has **kwargs, "
    "a name that is like none it is known to take is a warning: it may be passed over in silence.",
    wrong="run: {prompt: a cat, steps: 30}",
    right="run: {prompt: a cat, num_inference_steps: 30}",
)
BAD_ARGUMENT = Code(
    id="P916",
    name="bad-argument",
    severity=Severity.ERROR,
    help="A value of `run` cannot be given to the pipeline as it is written: a seed that is no whole number, "
    "an image that is no path, a tensor that only a script can make.",
    wrong="run: {prompt: a cat, seed: lucky}",
    right="run: {prompt: a cat, seed: 7}",
)
MISSING_ARGUMENT = Code(
    id="P931",
    name="missing-argument",
    severity=Severity.ERROR,
    help="The pipeline's call has an argument that must be given, and the plan's `run` does not have it. A "
    "plan without any `run` is not asked for it: a script calls the pipeline.",
    wrong="pipeline: StableVideoDiffusionPipeline\nrun: {num_frames: 14}",
    right="pipeline: StableVideoDiffusionPipeline\nrun: {image: in.png, num_frames: 14}",
)
INPUT_UNREADABLE = Code(
    id="P917",
    name="input-unreadable",
    severity=Severity.ERROR,
    exit_code=4,
    help="An image or video of `run` is not there or cannot be read. Paths are relative to the plan.",
    wrong="run: {image: in.pgn}",
    right="run: {image: in.png}",
)
BAD_OUTPUT = Code(
    id="P918",
    name="bad-output",
    severity=Severity.ERROR,
    exit_code=2,
    help="The suffix of --out chooses the format, and it is not one for what the pipeline made: images are "
    "png, jpg, webp or bmp; videos mp4, gif or webm; sound wav.",
    wrong="plan apply flux.plan.yaml --out cat.mp4",
    right="plan apply flux.plan.yaml --out cat.png",
)
OUTPUT_UNWRITABLE = Code(
    id="P919",
    name="output-unwritable",
    severity=Severity.ERROR,
    exit_code=4,
    help="The output could not be written: no such folder, no permission, no room. What was there before is "
    "as it was.",
    wrong="plan apply flux.plan.yaml --out /root/cat.png",
    right="plan apply flux.plan.yaml --out cat.png",
)
UNKNOWN_OUTPUT = Code(
    id="P920",
    name="unknown-output",
    severity=Severity.ERROR,
    exit_code=4,
    help="The pipeline returned something that is neither images, nor a video, nor sound (latents, "
    "embeddings, text). Such outputs are for scripts; a tensor that a class of your own returns is kept as "
    ".npy, with a warning.",
    wrong="run: {prompt: a cat, output_type: latent}",
    right="run: {prompt: a cat}",
)
CACHE_UNWRITABLE = Code(
    id="P921",
    name="cache-unwritable",
    severity=Severity.ERROR,
    exit_code=4,
    help="The built-in pipelines are made once and kept in $OFFLOAD_PLANNER_HOME, or in the user's cache "
    "folder. That folder could not be written.",
    wrong="OFFLOAD_PLANNER_HOME=/proc plan apply quickstart.plan.yaml",
    right="OFFLOAD_PLANNER_HOME=~/plans plan apply quickstart.plan.yaml",
)

NO_LORAS = Code(
    id="P922",
    name="no-loras",
    severity=Severity.ERROR,
    exit_code=4,
    help="The pipeline's class has no `load_lora_weights`, so the plan's LoRAs cannot be loaded. Take them "
    "out, or name the class that takes them.",
    wrong="pipeline: DDPMPipeline\nloras: [{lora_id: ./style.safetensors}]",
    right="pipeline: StableDiffusionXLPipeline\nloras: [{lora_id: ./style.safetensors}]",
)

HOST_SHORT = Code(
    id="P930",
    name="host-memory-short",
    severity=Severity.ERROR,
    exit_code=4,
    help="All weights of a pipeline lie in host memory while a plan is applied. They are more than what this "
    "machine, or the cgroup of this process, has left, so none of them was read. Load them in a smaller "
    "dtype, make room, or say with `budget.ram` how much there is.",
    wrong="pipeline: {class: FluxPipeline, source: ./flux, dtype: float32}  # 67 GB",
    right="pipeline: {class: FluxPipeline, source: ./flux, dtype: bfloat16}  # 34 GB",
)

CALL_NOT_TRACED = Code(
    id="P932",
    name="call-not-traced",
    severity=Severity.ERROR,
    exit_code=4,
    help="What a call takes is found by running the pipeline's own call on tensors without data. It raised "
    "an error there: for an argument that it does not take, as on a device, or since a value decides a shape "
    "that is not known before a component has computed it.",
    wrong="run: {height: 1023}  # not divisible by 8",
    right="run: {height: 1024}",
)

CODES = (
    PACKAGE_MISSING,
    PACKAGE_TOO_OLD,
    NO_SOURCE,
    SOURCE_NOT_FOUND,
    HUB_UNREACHABLE,
    WEIGHTS_MISSING,
    PICKLED,
    SOURCE_DAMAGED,
    CLASS_NOT_INSTALLED,
    CLASS_DIFFERS,
    REMOTE_CODE,
    LOADING_FAILED,
    BAD_FACTORY,
    FACTORY_FAILED,
    UNKNOWN_ARGUMENT,
    BAD_ARGUMENT,
    MISSING_ARGUMENT,
    INPUT_UNREADABLE,
    BAD_OUTPUT,
    OUTPUT_UNWRITABLE,
    UNKNOWN_OUTPUT,
    CACHE_UNWRITABLE,
    NO_LORAS,
    HOST_SHORT,
    CALL_NOT_TRACED,
)
