"""Where a plan runs, with how much memory, and what is asked of it there."""

from __future__ import annotations

from planner.document.language.shape import Shape, mapping, ref, said, text, whole
from planner.source.limits import ENTRIES, WORKLOAD

PIPELINE: Shape = said(
    "Which pipeline: a class name alone, or a mapping.",
    [
        "StableDiffusionXLPipeline",
        {"class": "FluxPipeline", "source": "black-forest-labs/FLUX.1-dev", "dtype": "bfloat16"},
    ],
    **mapping(
        {
            "class": said("The diffusers pipeline class.", ["FluxPipeline"], **text()),
            "source": said(
                "Where the weights are: a folder (relative to this file), a single file, a hub id, or "
                "builtin:NAME.",
                ["black-forest-labs/FLUX.1-dev", "./sdxl", "builtin:tiny-sdxl"],
                **text(),
            ),
            "dtype": said(
                "The dtype that the weights are loaded in; float32 when left out.",
                ["bfloat16"],
                enum=["float32", "float16", "bfloat16", "float64"],
            ),
            "variant": said(
                "The variant of the weight files, as in model.fp16.safetensors.", ["fp16"], **text()
            ),
            "revision": said("The commit, tag or branch of a hub id.", ["main"], **text()),
        },
        required=["class"],
    )
    | text()
    | {"type": ["string", "object"]},
)

REQUIRES: Shape = said(
    "Versions of packages that the plan was written for, as PEP 440 specifiers. diffusers chooses the "
    "catalogue "
    "that the plan is checked against; offload-planner is checked first of all.",
    [{"diffusers": ">=0.40"}],
    type="object",
    maxProperties=ENTRIES.most,
    propertyNames={"title": "package", "pattern": "^[A-Za-z0-9._-]+$"},
    additionalProperties=said("A version specifier.", [">=0.40,<1"], type="string"),
)

DEVICE: Shape = said(
    "Where the components run. auto takes the accelerator that is there.",
    ["auto", "cuda", "cuda:1", "xpu:0", "mps"],
    title="device",
    type="string",
    pattern="^(auto|(cuda|xpu|mps|npu)(:[0-9]{1,3})?)$",
)

BUDGET: Shape = said(
    "How much memory there is.",
    [{"vram": "11GiB"}],
    **mapping(
        {
            "vram": said(
                "What the driver may show for this process on the device, context and activations included. "
                "What is free at apply less leave_free when left out; N% is a share of the card.",
                ["11GiB", "80%"],
                **ref("amount"),
            ),
            "ram": said(
                "Host memory for weights. What the machine has when left out.", ["24GiB"], **ref("bytes")
            ),
            "pinned": said(
                "How much of the host memory may be registered for fast copies.", ["16GiB"], **ref("bytes")
            ),
            "leave_free": said(
                "Device memory to leave to others; 512MiB when left out, 1GiB on Windows.",
                ["512MiB"],
                **ref("amount"),
            ),
        }
    ),
)

RUN: Shape = said(
    "Arguments of the call, under diffusers' own names; seed makes the generator. Images and videos are "
    "paths "
    "relative to this file.",
    [{"prompt": "a cat", "num_inference_steps": 30, "seed": 0}],
    type="object",
    maxProperties=ENTRIES.most,
    propertyNames={"title": "argument", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
)

WORKLOAD_MAP: Shape = said(
    "What to promise memory for, where that is more than run asks.",
    [{"height": 1024, "width": 1024, "batch": 2}],
    **mapping(
        {
            key: said(what, [example], **whole(1, WORKLOAD.most))
            for key, what, example in (
                ("height", "Pixels.", 1024),
                ("width", "Pixels.", 1024),
                ("batch", "Images a prompt.", 2),
                ("frames", "Frames of a video.", 81),
                ("steps", "Denoising steps.", 30),
                ("max_sequence_length", "Tokens of a prompt.", 512),
            )
        }
    ),
)
