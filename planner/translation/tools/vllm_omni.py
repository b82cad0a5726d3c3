"""vLLM-Omni's ``diffusion_offload_config`` and the flags before it (its offloader/config.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.target.vae_options import VAE_OPTIONS
from planner.translation.tools.kinds import ANY, BOOL, MAPPING, NAMES, between, choice, shown
from planner.translation.tools.model import Command, Draft, Line, Setting, Tool, Values
from planner.translation.tools.parts import (
    NONE_STAYS,
    autoencoders,
    denoisers,
    image_encoders,
    modules,
    text_encoders,
    walk_line,
    with_options,
)
from planner.translation.tools.read import pointer, read

_CONFIG = "diffusion_offload_config"
_GROUPS = {"dit": denoisers, "text_encoder": text_encoders, "vae": autoencoders}
_FLAGS = {  # the first one that is on wins
    "enable_distributed_layerwise_offload": "layer",
    "enable_layerwise_offload": "layer",
    "enable_cpu_offload": "module",
}


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Selected components come whole or block by block; the others stay."""
    found: list[Diagnostic] = []
    flag = next((name for name in _FLAGS if values[name]), "")
    mode, layers, spread = _FLAGS.get(flag, ""), values["dlo_resident_layers"], False
    layers_at, spread_at = pointer("dlo_resident_layers"), pointer("dlo_use_allgather")
    moved = set(denoisers(target))
    if flag == "enable_cpu_offload":  # encoders and denoisers take turns
        moved |= {*text_encoders(target), *image_encoders(target)}
    if flag == "enable_distributed_layerwise_offload":
        spread = values["dlo_use_allgather"]
    if values[_CONFIG] is not None:
        config, found = _config(values[_CONFIG])
        if config is None or errors(found):
            return Draft(), tuple(found)
        if flag and _FLAGS[flag] != config["mode"]:
            said = f'"{flag}" and mode {config["mode"]} are different things'
            return Draft(), (*found, finding(codes.SETTINGS_REFUSED, said, pointer=pointer(flag)))
        mode = config["mode"]
        layers_at = spread_at = pointer(_CONFIG, "layer_options")
        options = config["layer_options"].values()
        layers = max((each["resident_layers"] for each in options), default=0)
        spread = any(each["weight_transfer"] == "allgather" for each in options)
        moved = {name for group in config["components"] for name in _GROUPS[group](target)}
    if layers and mode == "layer":
        said = f"{layers} layers stay: a plan says how much, in bytes or as a share; the compiler chooses"
        found.append(finding(codes.WHICH_PARTS, said, pointer=layers_at))
    if spread:
        said = "allgather spreads the weights over several cards, the plan is for one"
        found.append(finding(codes.SEVERAL_DEVICES, said, pointer=spread_at))
    lines = [
        _line(name, mode if name in moved else "", layers if name in denoisers(target) else 0)
        for name in modules(target)
    ]
    options = {option: key for option in VAE_OPTIONS if values[key := f"vae_use_{option}"]}
    components, problems = with_options(lines, options, target)
    return Draft(components=components, order=walk_line(target)), (*found, *problems)


def _line(name: str, mode: str, layers: int) -> Line:
    if mode == "module":
        return Line(name, "offload", "mode module")
    if mode == "layer":
        policy = {"policy": "stream", **({} if layers else {"resident": NONE_STAYS}), "prefetch": 1}
        return Line(name, policy, f"mode layer, {layers} layers stay" if layers else "mode layer")
    return Line(name, "resident", "not selected: stays")


def _config(given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[Diagnostic]]:
    """The config, checked as vLLM-Omni does before it loads anything."""
    config, problems = read(_CONFIG_TOOL, given, _CONFIG)
    found = list(problems)
    if config is None:
        return None, found
    found += _refused(config)
    options = {}
    for group, said in (config["layer_options"] or {}).items():
        if group not in (config["components"] or ()):
            known = f"{shown(group)} is not among the components"
            at = pointer(_CONFIG, "layer_options", str(group))
            found.append(finding(codes.SETTINGS_REFUSED, f"layer_options: {known}", pointer=at))
            continue
        layer, problems = read(_LAYER_TOOL, said, _CONFIG, "layer_options", group)
        found += problems
        if layer is None:
            continue
        options[group] = layer
        if layer["resident_layers"] and (group != "dit" or layer["weight_transfer"] == "allgather"):
            known = "resident_layers is for dit, with weight_transfer rank-local"
            at = pointer(_CONFIG, "layer_options", group, "resident_layers")
            found.append(finding(codes.SETTINGS_REFUSED, known, pointer=at))
    return {**config, "layer_options": options}, found


def _refused(config: Values) -> Iterator[Diagnostic]:
    at = pointer(_CONFIG)
    for key in ("mode", "components"):
        if not config[key]:
            yield finding(codes.SETTINGS_REFUSED, f'{_CONFIG} needs "{key}"', pointer=at)
    for name in config["components"] or ():
        if name not in _GROUPS:
            said = f"{shown(name)} is no component of {_CONFIG}, expected {', '.join(_GROUPS)}"
            yield finding(codes.WRONG_SETTING, said, pointer=pointer(_CONFIG, "components"))
    if config["mode"] == "layer" and "vae" in (config["components"] or ()):
        yield finding(codes.SETTINGS_REFUSED, 'the component "vae" needs mode module', pointer=at)
    if config["mode"] == "module" and config["layer_options"]:
        yield finding(codes.SETTINGS_REFUSED, "layer_options need mode layer", pointer=at)


def _nothing(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    return Draft(), ()


_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"
_RULES = "quantization has a plan's own rules"
_EXAMPLE = "{mode: layer, components: [dit]}"

_CONFIG_TOOL = Tool(
    name=_CONFIG,
    title=_CONFIG,
    takes="mode, components, layer_options, pin_memory",
    example=_EXAMPLE,
    settings=(
        Setting("mode", choice("module", "layer")),
        Setting("components", NAMES),
        Setting("layer_options", MAPPING),
        Setting("pin_memory", BOOL, True, codes.HOW_IT_COPIES, _PINS),
    ),
    draft=_nothing,
)
_LAYER_TOOL = Tool(
    name="layer_options",
    title="layer_options",
    takes="weight_transfer, resident_layers",
    example="{resident_layers: 8}",
    settings=(
        Setting("weight_transfer", choice("rank-local", "allgather")),
        Setting("resident_layers", between(0), 0),
    ),
    draft=_nothing,
)
TOOL = Tool(
    name="vllm-omni",
    title="vLLM-Omni",
    takes="diffusion_offload_config, or enable_cpu_offload and the other flags",
    example=_EXAMPLE,
    settings=(
        Setting(_CONFIG, MAPPING),
        Setting("enable_cpu_offload", BOOL, False),
        Setting("enable_layerwise_offload", BOOL, False),
        Setting("enable_distributed_layerwise_offload", BOOL, False),
        Setting("dlo_use_allgather", BOOL, True),
        Setting("dlo_resident_layers", between(0), 0),
        Setting(
            "layerwise_num_gpu_layers",
            between(0),
            1,
            codes.WHICH_PARTS,
            "it says how much stays, in bytes or as a share",
        ),
        Setting("pin_cpu_memory", BOOL, True, codes.HOW_IT_COPIES, _PINS),
        *(Setting(f"vae_use_{option}", BOOL, False) for option in VAE_OPTIONS),
        Setting("lora_path", ANY, None, codes.OTHER_FEATURE, "loras has the plan's own"),
        Setting("quantization", ANY, None, codes.QUANTIZES_OTHERWISE, _RULES),
        Setting("diffusion_quantization_config", ANY, None, codes.QUANTIZES_OTHERWISE, _RULES),
    ),
    draft=draft,
    short=_CONFIG,
    nested=bool,
    command=Command(
        programs=(
            *(("vllm", "serve"), ("vllm-omni", "serve", "diffusion"), ("vllm-omni", "serve"), ("vllm",)),
            *(("vllm-omni", "generate"), ("vllm-omni",)),
            ("python", "-m", "vllm_omni.entrypoints.openai.api_server"),
        ),
        positional="source",
        fixed={
            "dlo_no_use_allgather": ("dlo_use_allgather", False),
            "no_pin_cpu_memory": ("pin_cpu_memory", False),
        },
        pipeline={"model": "source", "revision": "revision", "dtype": "dtype"},
        elsewhere=(
            *("omni", "port", "host", "api_", "served_model", "stage", "init_", "log", "batch_timeout"),
            *("worker_backend", "ray_address", "shm_", "cache", "enable_cache", "boundary_ratio"),
            *("flow_shift", "default_", "max_", "diffusion_attention", "diffusion_compile", "fa_"),
            *("diffusion_kv", "diffusion_load", "diffusion_streaming", "diffusers_", "custom_pipeline"),
            *("model_class_name", "model_config", "enforce_eager", "enable_sleep_mode", "trust_remote_code"),
            *("gpu_memory_utilization", "disable_multithread", "num_weight", "enable_broadcast"),
            *("deploy_config", "strategy_config", "task_type", "async_chunk", "step_execution", "no_guard"),
            *("request_batch", "enable_diffusion", "enable_ar", "enable_orch", "video_output", "uvicorn"),
            *("headless", "allowed", "chat_template", "tokenizer", "seed", "load_format", "replica_id"),
        ),
        spread=(
            *("num_gpus", "tensor_parallel_size", "tp", "pipeline_parallel_size", "data_parallel_size"),
            *("usp", "ulysses_degree", "ring", "ring_degree", "cfg_parallel_size", "allgather_degree"),
            *("vae_patch_parallel_size", "text_encoder_tp_size", "use_hsdp", "hsdp_shard_size"),
            "hsdp_replicate_size",
        ),
    ),
)
