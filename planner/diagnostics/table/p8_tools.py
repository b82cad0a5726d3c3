"""P85x to P89x: other tools' settings made into plans. Those below P860 stop it, the others say what
does not carry over: a warning where memory or the result differs, a note where only the way there does.
"""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

UNKNOWN_TOOL = Code(
    id="P850",
    name="unknown-tool",
    severity=Severity.ERROR,
    help="Settings are read of the tools that are listed, by these names.",
    wrong="group-ofload: {onload_device: cuda, offload_type: leaf_level}",
    right="group-offload: {onload_device: cuda, offload_type: leaf_level}",
)
SETTINGS_NOT_READ = Code(
    id="P851",
    name="settings-not-read",
    severity=Severity.ERROR,
    help="Settings are a mapping in YAML or JSON, Python with the tool's call, or a server's command line. "
    "Nothing of it is run: arguments must be written out.",
    wrong="group-offload: pipe.enable_group_offload(onload_device=device)",
    right='group-offload: pipe.enable_group_offload(onload_device="cuda", offload_type="leaf_level")',
)
UNKNOWN_SETTING = Code(
    id="P852",
    name="unknown-setting",
    severity=Severity.ERROR,
    help="The tool has no setting of this name.",
    wrong="group-offload: {onload_device: cuda, offload_typ: leaf_level}",
    right="group-offload: {onload_device: cuda, offload_type: leaf_level}",
)
WRONG_SETTING = Code(
    id="P853",
    name="wrong-setting",
    severity=Severity.ERROR,
    help="The tool does not take this value for this setting.",
    wrong="mmgp: {profile_no: 6}",
    right="mmgp: {profile_no: 4}",
)
SETTINGS_REFUSED = Code(
    id="P854",
    name="settings-refused",
    severity=Severity.ERROR,
    help="The tool itself refuses these settings together, or for this pipeline: there is no behaviour to "
    "make a plan of.",
    wrong="group-offload: {onload_device: cuda, offload_type: block_level}",
    right="group-offload: {onload_device: cuda, offload_type: block_level, num_blocks_per_group: 1}",
)
NOTHING_TO_MOVE = Code(
    id="P855",
    name="nothing-to-move",
    severity=Severity.ERROR,
    help="The pipeline has no component with weights that torch could move (an ONNX pipeline, say).",
    wrong="# for OnnxStableDiffusionPipeline\ngroup-offload: {onload_device: cuda, offload_type: leaf_level}",
    right="# for StableDiffusionPipeline\ngroup-offload: {onload_device: cuda, offload_type: leaf_level}",
)
NOT_IN_ONE_PLAN = Code(
    id="P856",
    name="not-in-one-plan",
    severity=Severity.ERROR,
    help="What the settings ask for does not go together in a plan, for a reason that the message gives. "
    "Leave out one of the two.",
    wrong='pipe.load_lora_weights("ByteDance/Hyper-SD")\noffload.profile(pipe, 4)',
    right='pipe.load_lora_weights("ByteDance/Hyper-SD")\noffload.profile(pipe, 4, quantizeTransformer=False)',
)
NO_SUCH_COMPONENT = Code(
    id="P860",
    name="setting-for-no-component",
    severity=Severity.WARNING,
    help="The settings name a component that the pipeline does not have, or that has no weights. Many tools "
    "pass over it in silence; the plan leaves it out.",
    wrong="# for FluxPipeline\ngroup-offload: {onload_device: cuda, offload_type: leaf_level, "
    "exclude_modules: unet}",
    right="# for FluxPipeline\ngroup-offload: {onload_device: cuda, offload_type: leaf_level, "
    "exclude_modules: transformer}",
)
SEVERAL_DEVICES = Code(
    id="P861",
    name="several-devices",
    severity=Severity.WARNING,
    help="A plan is for one device. Components of the other devices are given a policy on the first one.",
    wrong='device-map: {transformer: 0, text_encoder: 1, "": 0}',
    right='device-map: {transformer: 0, text_encoder: cpu, "": 0}',
)
RUNS_ON_CPU = Code(
    id="P862",
    name="runs-on-cpu",
    severity=Severity.WARNING,
    help="The tool leaves the component on the CPU, to run there or piece by piece. A plan runs everything "
    "on the device: the component comes for its use and goes.",
    wrong='device-map: {text_encoder: cpu, "": 0}',
    right="components: {text_encoder: offload}",
)
ON_DISK = Code(
    id="P863",
    name="on-disk",
    severity=Severity.WARNING,
    help="A plan has no weights on disk: all of them are in host memory, which must be large enough.",
    wrong='device-map: {transformer: disk, "": 0}',
    right="components: {transformer: offload}",
)
PLACED_BY_SIZE = Code(
    id="P864",
    name="placed-by-size",
    severity=Severity.WARNING,
    help="The tool decides by the sizes and the cards that it finds. A plan says what should happen, or "
    "leaves it to the compiler, which decides by the sizes and `budget.vram`.",
    wrong="device-map: balanced",
    right="budget: {vram: 12GiB}",
)
BY_BLOCK = Code(
    id="P865",
    name="streamed-by-block",
    severity=Severity.NOTE,
    help="The tool moves every layer by itself, or several blocks together. A plan streams block by block: "
    "somewhat more, or less, is on the device at a time, and the copies are of another size.",
    wrong="group-offload: {onload_device: cuda, num_blocks_per_group: 4}",
    right="components: {transformer: {policy: stream, prefetch: 1}}",
)
WHICH_PARTS = Code(
    id="P866",
    name="parts-not-named",
    severity=Severity.WARNING,
    help="The settings name parts of a component that stay on the device, or how many. A plan says how much "
    "stays, in bytes or as a share, and spreads it evenly.",
    wrong="vllm-omni: {mode: layer, components: [dit], layer_options: {dit: {resident_layers: 8}}}",
    right="components: {transformer: {policy: stream, resident: 4GiB}}",
)
HOW_IT_COPIES = Code(
    id="P867",
    name="how-it-copies",
    severity=Severity.NOTE,
    help="Streams, pinning and the like: a plan does not say them. The session pins what `budget.pinned` "
    "allows, without a second copy, and its copies always overlap.",
    wrong="group-offload: {onload_device: cuda, offload_type: leaf_level, use_stream: true, "
    "record_stream: true}",
    right="budget: {pinned: 16GiB}",
)
COUNTED_OTHERWISE = Code(
    id="P868",
    name="counted-otherwise",
    severity=Severity.NOTE,
    help="The tool's number counts something else than the plan's: the weights alone, say, where a budget "
    "counts activations and the context as well. The number in the plan is near, not equal.",
    wrong="components-manager: {memory_reserve_margin: 3GB}",
    right="budget: {leave_free: 3GB}",
)
QUANTIZES_OTHERWISE = Code(
    id="P869",
    name="quantizes-otherwise",
    severity=Severity.WARNING,
    help="The tool quantizes modules of its own choice once they are loaded. The plan's rule has diffusers "
    "quantize while it loads: the images differ from the tool's as from those without.",
    wrong="mmgp: {profile_no: 4}",
    right="quantization: [{component: transformer, backend: quanto, type: int8}]",
)
OTHER_FEATURE = Code(
    id="P870",
    name="other-feature",
    severity=Severity.NOTE,
    help="The setting is not about where weights lie (torch.compile, LoRAs, distribution, what is printed), "
    "or about something that a session decides by itself.",
    wrong="mmgp: {profile_no: 4, compile: true}",
    right="mmgp: {profile_no: 4}",
)
CODE_OF_ITS_OWN = Code(
    id="P871",
    name="strategy-of-its-own",
    severity=Severity.WARNING,
    help="A function that decides while the pipeline runs cannot be written as a plan. The plan leaves the "
    "decision to the walk: what is needed last leaves first.",
    wrong="components-manager: {offload_strategy: my_strategy}",
    right="components: {text_encoder: offload, transformer: resident}",
)
TOOL_MISREADS = Code(
    id="P872",
    name="tool-misreads",
    severity=Severity.WARNING,
    help="The tool has a known fault with this value and does something else than it says. The plan does "
    "what the value says, as far as it can.",
    wrong="mmgp: {budgets: 3000}",
    right='mmgp: {budgets: {"*": 3000}}',
)
FAULTY_SEQUENCE = Code(
    id="P873",
    name="faulty-sequence",
    severity=Severity.WARNING,
    help="The class's sequence names something that diffusers passes over in silence: a name that it does "
    "not have, or a name for the second time. The plan's order is what is left.",
    wrong="# for KolorsImg2ImgPipeline\nmodel-cpu-offload: {}",
    right="order: text_encoder -> image_encoder -> unet -> vae",
)
DEFAULT_NOT_KNOWN = Code(
    id="P874",
    name="default-not-known",
    severity=Severity.NOTE,
    help="The settings leave out a component, and what the tool does with it depends on its version, the "
    "model and the machine. The plan leaves it to the compiler.",
    wrong="sglang: {transformer: layerwise-offload}",
    right="sglang: {all: component-offload, transformer: layerwise-offload}",
)
OWN_METHOD = Code(
    id="P875",
    name="method-of-its-own",
    severity=Severity.WARNING,
    help="The class replaces diffusers' enable_model_cpu_offload by one of its own, which no sequence "
    "describes. The plan brings each component whole when it is used.",
    wrong="# for AudioLDM2Pipeline\nmodel-cpu-offload: {}",
    right="pipeline: AudioLDM2Pipeline\nsemantics: liveness",
)

STATEMENT_LEFT_OUT = Code(
    id="P876",
    name="statement-left-out",
    severity=Severity.WARNING,
    help="A statement of the snippet is about the pipeline or a component, and the plan does not have it: a "
    "plan cannot say it, or what it does is known only when it runs (a condition, a value from outside).",
    wrong="if args.low_vram:\n    pipe.enable_model_cpu_offload()",
    right="pipe.enable_model_cpu_offload()",
)
CARRIED_OVER = Code(
    id="P877",
    name="carried-over",
    severity=Severity.NOTE,
    help="A statement or an option that the plan has. The comment behind the line of the plan says the same.",
    wrong="pipe.vae.enable_tiling()",
    right="components: {vae: {tiling: on}}",
)
TAKEN_AS = Code(
    id="P878",
    name="taken-as",
    severity=Severity.NOTE,
    help="What the settings leave open was decided for the plan: that there is a card where the snippet asks "
    "for one, say, or which component a name means.",
    wrong='device = "cuda" if torch.cuda.is_available() else "cpu"',
    right='device = "cuda"',
)
WITHOUT_EFFECT = Code(
    id="P879",
    name="without-effect",
    severity=Severity.WARNING,
    help="Two statements or options are about the same thing, and this one does not hold: the other takes "
    "its place, or the library passes over this one.",
    wrong='pipe.to("cuda")\npipe.enable_model_cpu_offload()',
    right="pipe.enable_model_cpu_offload()",
)
OPTION_NOT_KNOWN = Code(
    id="P880",
    name="option-not-known",
    severity=Severity.WARNING,
    help="The command line has an option or a word that is not known here. The plan is made of the others.",
    wrong="sglang generate --model-path Qwen/Qwen-Image --new-option 3 --dit-cpu-offload",
    right="sglang generate --model-path Qwen/Qwen-Image --dit-cpu-offload",
)
SETTINGS_ELSEWHERE = Code(
    id="P881",
    name="settings-elsewhere",
    severity=Severity.WARNING,
    help="The settings name a file with more settings, which is not read.",
    wrong="sglang serve --config server.yaml --vae-cpu-offload",
    right="sglang serve --model-path Qwen/Qwen-Image --dit-cpu-offload --vae-cpu-offload",
)

CODES = (
    UNKNOWN_TOOL,
    SETTINGS_NOT_READ,
    UNKNOWN_SETTING,
    WRONG_SETTING,
    SETTINGS_REFUSED,
    NOTHING_TO_MOVE,
    NOT_IN_ONE_PLAN,
    NO_SUCH_COMPONENT,
    SEVERAL_DEVICES,
    RUNS_ON_CPU,
    ON_DISK,
    PLACED_BY_SIZE,
    BY_BLOCK,
    WHICH_PARTS,
    HOW_IT_COPIES,
    COUNTED_OTHERWISE,
    QUANTIZES_OTHERWISE,
    OTHER_FEATURE,
    CODE_OF_ITS_OWN,
    TOOL_MISREADS,
    FAULTY_SEQUENCE,
    DEFAULT_NOT_KNOWN,
    OWN_METHOD,
    STATEMENT_LEFT_OUT,
    CARRIED_OVER,
    TAKEN_AS,
    WITHOUT_EFFECT,
    OPTION_NOT_KNOWN,
    SETTINGS_ELSEWHERE,
)
