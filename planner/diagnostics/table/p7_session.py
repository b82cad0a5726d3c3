"""P70x-P74x: the pipeline is not what was planned, or is used in a way that a plan cannot follow."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

_APPLY = """\
import planner
session = planner.apply("sdxl.plan.yaml", pipe)
image = pipe("a cat").images[0]
"""

DEVICE_MAPPED = Code(
    id="P701",
    name="device-mapped",
    severity=Severity.ERROR,
    help="The pipeline was spread over devices with `device_map`; a plan places components itself. Undo it "
    "with `pipe.reset_device_map()`, or load without `device_map`.",
    wrong='pipe = StableDiffusionXLPipeline.from_pretrained(path, device_map="balanced")\n' + _APPLY,
    right="pipe = StableDiffusionXLPipeline.from_pretrained(path)\n" + _APPLY,
)

GROUP_OFFLOADED = Code(
    id="P702",
    name="group-offloaded",
    severity=Severity.ERROR,
    help="A component is under diffusers' group offloading, which has no public removal. Load the pipeline "
    "again without `enable_group_offload`.",
    wrong="pipe.enable_group_offload(onload_device=torch.device('cuda'), offload_type='leaf_level')\n"
    + _APPLY,
    right=_APPLY,
)

TENSOR_PARALLEL = Code(
    id="P703",
    name="tensor-parallel",
    severity=Severity.ERROR,
    help="A component is sharded with tensor parallelism: its weights are tied to a rank's device and cannot "
    "come and go. Load it without tensor parallelism.",
    wrong="pipe.transformer.enable_parallelism(config=tensor_parallel_config)\n" + _APPLY,
    right=_APPLY,
)

MODULAR_PIPELINE = Code(
    id="P704",
    name="modular-pipeline",
    severity=Severity.ERROR,
    help="A modular pipeline keeps its components in a ComponentsManager, which moves them itself: "
    "`ComponentsManager.enable_auto_cpu_offload()`. Plans are for `DiffusionPipeline` classes.",
    wrong='planner.apply("flux.plan.yaml", modular_pipeline)\n',
    right="components_manager.enable_auto_cpu_offload()\n",
)

DEVICE_TWICE = Code(
    id="P705",
    name="device-twice",
    severity=Severity.ERROR,
    help="Both `gpu_id` and a device with an index were given. Give one of them; `gpu_id=0` means 0.",
    wrong='planner.apply("sdxl.plan.yaml", pipe, device="cuda:1", gpu_id=0)\n',
    right='planner.apply("sdxl.plan.yaml", pipe, device="cuda:0")\n',
)

NO_ACCELERATOR = Code(
    id="P706",
    name="no-accelerator",
    severity=Severity.ERROR,
    help="No accelerator was found, or not the one that was asked for. Offloading needs one; `--simulate` "
    "tries the plan on a virtual one.",
    wrong="plan apply sdxl.plan.yaml\n",
    right="plan apply sdxl.plan.yaml --simulate\n",
    exit_code=4,
)

CPU_REFUSED = Code(
    id="P707",
    name="cpu-as-execution-device",
    severity=Severity.ERROR,
    help="The execution device may not be the CPU: the weights are there already. `--simulate` tries a plan "
    "without a GPU.",
    wrong='planner.apply("sdxl.plan.yaml", pipe, device="cpu")\n',
    right='planner.apply("sdxl.plan.yaml", pipe)\n',
)

COMPONENT_MISSING = Code(
    id="P708",
    name="component-missing",
    severity=Severity.ERROR,
    help="The loaded pipeline lacks a component that the plan names. A pipeline of another class is accepted "
    "only if it has them all.",
    wrong='planner.apply("controlnet.plan.yaml", StableDiffusionXLPipeline(...))\n',
    right='planner.apply("controlnet.plan.yaml", StableDiffusionXLControlNetPipeline(...))\n',
)

DTYPE_DIFFERS = Code(
    id="P709",
    name="dtype-differs",
    severity=Severity.ERROR,
    help="The plan promises another dtype than the pipeline was loaded with, so the promised bytes and the "
    "image would both be wrong. Load with the plan's dtype, or change the plan.",
    wrong="pipe = FluxPipeline.from_pretrained(path)  # float32; the plan says bfloat16\n" + _APPLY,
    right="pipe = FluxPipeline.from_pretrained(path, torch_dtype=torch.bfloat16)\n" + _APPLY,
)

SHARED_COMPONENT = Code(
    id="P710",
    name="component-under-another-plan",
    severity=Severity.ERROR,
    help="A component is shared with a pipeline that is under a plan on another device. Pipelines that share "
    "components may each have a plan, on one device: it has each component once, whichever runs.",
    wrong="a = planner.apply('t2i.plan.yaml', pipe, device='cuda:0')\n"
    "b = planner.apply('i2i.plan.yaml', other, device='cuda:1')  # shares pipe.unet\n",
    right="a = planner.apply('t2i.plan.yaml', pipe, device='cuda:0')\n"
    "b = planner.apply('i2i.plan.yaml', other, device='cuda:0')\n",
)

BUDGET_DIFFERS = Code(
    id="P725",
    name="budget-differs",
    severity=Severity.ERROR,
    help="Plans on one device share one budget, since the driver shows one figure for the process: the first "
    "plan's. Leave `budget.vram` out of the later one, write the same, or say that it may be overruled.",
    wrong="a = planner.apply('t2i.plan.yaml', pipe)  # vram: 11GiB\n"
    "b = planner.apply('i2i.plan.yaml', other)  # vram: 8GiB\n",
    right="a = planner.apply('t2i.plan.yaml', pipe)\n"
    "b = planner.apply('i2i.plan.yaml', other, budget=a.budget)\n",
)

STOCK_OFFLOAD = Code(
    id="P711",
    name="stock-offload-removed",
    severity=Severity.NOTE,
    help="The pipeline was under diffusers' or accelerate's own offload. It was freed of it, as "
    "`enable_model_cpu_offload` does when it is called again.",
    wrong="pipe.enable_model_cpu_offload()\n" + _APPLY,
    right=_APPLY,
)

LEFT_IN_PLACE = Code(
    id="P712",
    name="left-in-place",
    severity=Severity.NOTE,
    help="An 8-bit bitsandbytes component cannot be moved with these versions (transformers before 4.58 or "
    "bitsandbytes before 0.48), so it stays where it is and counts as resident.",
    wrong="pip install bitsandbytes==0.47 transformers==4.57",
    right="pip install 'bitsandbytes>=0.48' 'transformers>=4.58'",
)

MOVE_REFUSED = Code(
    id="P713",
    name="move-refused",
    severity=Severity.ERROR,
    help="A component under a plan was asked to move to a device. The plan moves it; the call would break "
    "its budget. Call `session.remove()` first, or leave the call out.",
    wrong=_APPLY + 'pipe.unet.to("cuda")\n',
    right=_APPLY,
)

OUT_OF_MEMORY = Code(
    id="P714",
    name="out-of-memory",
    severity=Severity.ERROR,
    help="The device had no room for a component's weights, even with everything evicted that was not in "
    "use, or for the activations of a running one. The note on the error says which, and what would fit.",
    wrong="budget: {vram: 7GiB}  # weights alone need 6.8",
    right="plan apply sdxl.plan.yaml --set budget.vram=9GiB",
)

CALL_IGNORED = Code(
    id="P715",
    name="placement-call-ignored",
    severity=Severity.WARNING,
    help="`pipe.to(device)` and `pipe.enable_*_offload()` do nothing while a plan is applied: the plan "
    "decides where components are. `session.remove()` gives the pipeline back.",
    wrong=_APPLY + 'pipe.to("cuda")\n',
    right=_APPLY,
)

MOVED_WHOLE = Code(
    id="P716",
    name="moved-by-module",
    severity=Severity.NOTE,
    help="A component has tensors of a class with state of its own (quantized ones), so it is moved with "
    "`module.to`, and comes back to the host when it leaves.",
    wrong="pipe = load(quantize='torchao')\nplanner.apply('sdxl.plan.yaml', pipe)  # by module.to()",
    right="planner.apply('sdxl.plan.yaml', pipe)  # plain weights move in few large copies",
)

NOT_USED_HERE = Code(
    id="P717",
    name="ignored-on-loaded-pipeline",
    severity=Severity.NOTE,
    help="On a pipeline that is loaded already, `pipeline.source`, `pipeline.variant` and `run` of the plan "
    "are not used.",
    wrong="planner.apply('sdxl.plan.yaml', pipe)  # the plan's source and run are not used",
    right="plan apply sdxl.plan.yaml",
)

BUDGET_LOWERED = Code(
    id="P718",
    name="budget-lowered",
    severity=Severity.WARNING,
    help="The plan's `budget.vram` is more than is free on the device less `leave_free`, so it was lowered "
    "to that.",
    wrong="version: 1\npipeline: StableDiffusionXLPipeline\nbudget: {vram: 900GiB}\n",
    right="version: 1\npipeline: StableDiffusionXLPipeline\nbudget: {vram: 7GiB}\n",
)

VAE_OPTION_UNSUPPORTED = Code(
    id="P719",
    name="tiling-or-slicing-unsupported",
    severity=Severity.ERROR,
    help="The plan asks for tiling or slicing, and the component has no `enable_tiling` or `enable_slicing`, "
    "or inherits one that refuses. Take the key out.",
    wrong="version: 1\npipeline: StableDiffusionXLPipeline\ncomponents: {unet: {tiling: on}}\n",
    right="version: 1\npipeline: StableDiffusionXLPipeline\ncomponents: {vae: {tiling: on}}\n",
)

NOT_A_PIPELINE = Code(
    id="P720",
    name="not-a-pipeline",
    severity=Severity.ERROR,
    help="`planner.apply` takes a loaded diffusers pipeline, an object of a `DiffusionPipeline` class.",
    wrong='planner.apply("sdxl.plan.yaml", "stabilityai/sdxl")\n',
    right=_APPLY,
)

OTHER_DIFFUSERS = Code(
    id="P721",
    name="other-diffusers",
    severity=Severity.NOTE,
    help="Plans are checked against the catalogue of one diffusers version: the one that `requires` admits, "
    "else the newest that ships. Another one is installed, and the class differs there, or nothing is known "
    "of it. The session follows the pipeline that is loaded.",
    wrong="pip install diffusers==0.40.0  # the plan was checked against 0.42.1",
    right="requires: {diffusers: '==0.40.0'}",
)

COMPILED_WHOLE = Code(
    id="P722",
    name="compiled-whole",
    severity=Severity.ERROR,
    help="A component that streams gets its weights between its blocks, and one that was compiled whole "
    "has no place between them. Compile its repeated blocks instead, which also compiles faster.",
    wrong="pipe.transformer = torch.compile(pipe.transformer)  # under a plan that streams it",
    right="pipe.transformer.compile_repeated_blocks(fullgraph=True)",
)

QUANTIZED_OTHERWISE = Code(
    id="P723",
    name="quantized-otherwise",
    severity=Severity.ERROR,
    help="The modules that a rule of `quantization` takes are not quantized as it says. bitsandbytes, quanto "
    "and gguf work while weights are read: load the pipeline with `planner.load_pipeline` or `plan apply`. "
    "torchao and layerwise_cast also work on a loaded pipeline, on modules that are not quantized yet.",
    wrong='pipe = FluxPipeline.from_pretrained("./flux")\n'
    'planner.apply("flux-nf4.plan.yaml", pipe)  # the plan says bitsandbytes\n',
    right='pipe = planner.load_pipeline("flux-nf4.plan.yaml")\nplanner.apply("flux-nf4.plan.yaml", pipe)\n',
)

PAGEABLE_BY_BUDGET = Code(
    id="P730",
    name="pageable-by-budget",
    severity=Severity.NOTE,
    help="Host memory is pinned (registered where it lies) up to `budget.pinned`, those components first "
    "whose bytes cross most often. What is beyond it crosses as pageable memory does: several times slower, "
    "and the host waits for it.",
    wrong="budget: {vram: 11GiB, pinned: 4GiB}",
    right="budget: {vram: 11GiB, pinned: 34GiB}",
)

PAGEABLE_BY_MACHINE = Code(
    id="P731",
    name="pageable-by-machine",
    severity=Severity.WARNING,
    help="The driver did not register some of the host memory, which then crosses as pageable memory does: "
    "several times slower. Some systems limit what may be pinned (WSL 2 does). Those components are pinned "
    "first whose bytes cross most often, and everything runs.",
    wrong="# a machine that pins 8 GiB\nbudget: {vram: 11GiB}",
    right="budget: {vram: 11GiB, pinned: 8GiB}",
)

NO_COUNTS = Code(
    id="P732",
    name="no-reference-counts",
    severity=Severity.ERROR,
    help="This torch does not tell who refers to a tensor. Memory on the device is used again, and a view of "
    "a weight that your code keeps must not be overwritten: without the counts nothing could tell. torch 2.6 "
    "to 2.13 on CPython have them.",
    wrong="pip install 'torch<2.6'\n" + _APPLY,
    right="pip install 'torch>=2.6'\n" + _APPLY,
)

DEVICE_BUSY = Code(
    id="P733",
    name="device-busy",
    severity=Severity.ERROR,
    help="Another thread is in a call on the same device, and has not run a component for a minute: it may "
    "be waiting for this call (a step callback that calls the pipeline in another thread and waits for the "
    "result). Call pipelines from one thread, or do not wait in the callback.",
    wrong="""\
def preview(pipe, step, timestep, tensors):
    executor.submit(pipe, "another prompt").result()  # waits for the call that it is in
    return tensors
""",
    right="""\
def preview(pipe, step, timestep, tensors):
    pipe("another prompt")
    return tensors
""",
)

WEIGHTS_CHANGED = Code(
    id="P734",
    name="weights-changed-before-backward",
    severity=Severity.ERROR,
    help="A weight of an offloaded or streamed component is fetched again when backward needs it, and it has "
    "other values by then: the gradient would be of other weights than the loss. Change weights after "
    "`backward()`.",
    wrong="loss = pipe.unet(x, t, e).sample.mean()\noptimizer.step()\nloss.backward()\n",
    right="loss = pipe.unet(x, t, e).sample.mean()\nloss.backward()\noptimizer.step()\n",
)

NOT_PUT_BACK = Code(
    id="P735",
    name="not-put-back",
    severity=Severity.WARNING,
    help="A component was on the device when the plan was applied, and there is no room for it there now "
    "that the plan is removed. It stays on the CPU; move it when there is room.",
    wrong="""\
pipe.to("cuda")
session = planner.apply("sdxl.plan.yaml", pipe)
other = torch.empty(70 * 2**30, dtype=torch.uint8, device="cuda")
session.remove()
""",
    right="""\
pipe.to("cuda")
session = planner.apply("sdxl.plan.yaml", pipe)
session.remove()
""",
)

EXCLUDED_BY_PIPELINE = Code(
    id="P736",
    name="excluded-by-pipeline",
    severity=Severity.NOTE,
    help="The pipeline was told by `_exclude_from_cpu_offload` to leave a component out of offloading. The "
    "plan does not name it, so it is excluded: placed on the device once and left there. Write `exclude` in "
    "the plan.",
    wrong='pipe._exclude_from_cpu_offload = ["vae"]\n' + _APPLY,
    right=_APPLY,
)

CODES = (
    DEVICE_MAPPED,
    GROUP_OFFLOADED,
    TENSOR_PARALLEL,
    MODULAR_PIPELINE,
    DEVICE_TWICE,
    NO_ACCELERATOR,
    CPU_REFUSED,
    COMPONENT_MISSING,
    DTYPE_DIFFERS,
    SHARED_COMPONENT,
    STOCK_OFFLOAD,
    LEFT_IN_PLACE,
    MOVE_REFUSED,
    OUT_OF_MEMORY,
    CALL_IGNORED,
    MOVED_WHOLE,
    NOT_USED_HERE,
    BUDGET_LOWERED,
    VAE_OPTION_UNSUPPORTED,
    NOT_A_PIPELINE,
    OTHER_DIFFUSERS,
    COMPILED_WHOLE,
    QUANTIZED_OTHERWISE,
    PAGEABLE_BY_BUDGET,
    PAGEABLE_BY_MACHINE,
    BUDGET_DIFFERS,
    NO_COUNTS,
    DEVICE_BUSY,
    WEIGHTS_CHANGED,
    NOT_PUT_BACK,
    EXCLUDED_BY_PIPELINE,
)
