"""SGLang-Diffusion's ``--component-residency COMPONENT=MODE`` and the flags before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.target.vae_options import VAE_OPTIONS
from planner.translation.tools.kinds import ANY, BOOL, NAMES, choice, is_count, is_number, shown
from planner.translation.tools.model import WRONG, Command, Draft, Kind, Line, Setting, Tool, Values
from planner.translation.tools.parts import (
    NONE_STAYS,
    autoencoders,
    denoisers,
    image_encoders,
    modules,
    text_encoders,
    unknown,
    walk_line,
    with_options,
)
from planner.translation.tools.read import pointer

MODES = ("resident", "component-offload", "snapshot-offload", "layerwise-offload")
_GROUPS = {  # in the order in which SGLang asks them, after the component's own name and before all
    "dit": denoisers,
    "text_encoder": text_encoders,
    "image_encoder": image_encoders,
    "vae": autoencoders,
}
_FLAGS = {
    "dit_cpu_offload": "dit",
    "text_encoder_cpu_offload": "text_encoder",
    "image_encoder_cpu_offload": "image_encoder",
    "vae_cpu_offload": "vae",
}
_LISTS = {
    "cpu_offload_components": "component-offload",
    "layerwise_offload_components": "layerwise-offload",
}
_PRESETS = {"speed": "resident", "memory": "component-offload"}
_KEY = "component_residency"


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Each component by its own mode, else its group's, else that of all, else the preset's."""
    modes, why = _assigned(values)
    named = [key for key in modes if key != "all" and key not in _GROUPS]
    found = [*unknown(named, target, _KEY)]
    lines, left = [], []
    for name in modules(target):
        groups = [group for group, members in _GROUPS.items() if name in members(target)]
        key = next((key for key in (name, *groups, "all") if key in modes), None)
        if key is None:
            left.append(name)
        else:
            ahead = values["dit_offload_prefetch_size"] if name in denoisers(target) else 1
            lines.append(Line(name, _policy(modes[key], ahead), why[key]))
    options = {option: key for option in VAE_OPTIONS if values[key := f"vae_{option}"]}
    components, problems = with_options(lines, options, target)
    found += problems
    if left:
        said = f"nothing is said of {', '.join(left)}: the plan leaves it to the compiler"
        found.append(finding(codes.DEFAULT_NOT_KNOWN, said, pointer=pointer(_KEY)))
    if isinstance(values["dit_offload_prefetch_size"], float):
        said = "dit_offload_prefetch_size as a share of the layers has no place in a plan: prefetch is 1"
        found.append(finding(codes.HOW_IT_COPIES, said, pointer="/dit_offload_prefetch_size"))
    return Draft(components=components, order=walk_line(target)), tuple(found)


def _assigned(values: Values) -> tuple[dict[str, str], dict[str, str]]:
    """Modes by component or group, and where each was said. The newer option goes over the older flags."""
    modes, why = {}, {}
    preset = _PRESETS.get(values["performance_mode"])
    if preset:
        modes["all"], why["all"] = preset, f"performance_mode: {values['performance_mode']}"
    for flag, group in _FLAGS.items():
        if values[flag] is not None:
            modes[group] = "component-offload" if values[flag] else "resident"
            why[group] = f"{flag}: {str(values[flag]).lower()}"
    if values["dit_layerwise_offload"]:
        modes["dit"], why["dit"] = "layerwise-offload", "dit_layerwise_offload: true"
    for flag, mode in _LISTS.items():
        for name in values[flag] or ():
            modes[name], why[name] = mode, flag
    for key, mode in values[_KEY].items():
        modes[key], why[key] = mode, f"{shown(key)[1:-1]}={mode}"
    return modes, why


def _policy(mode: str, ahead: float) -> Any:
    if mode == "resident":
        return "resident"
    if mode == "layerwise-offload":
        blocks = ahead if is_count(ahead) else 1
        return {"policy": "stream", "resident": NONE_STAYS, "prefetch": max(1, blocks)}
    return "offload"  # a snapshot is what every offload is here: nothing is copied back


def _residency(value: Any) -> Any:
    """``a=mode b=mode`` or with commas, a list of them, or a mapping; folded as SGLang folds them."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    else:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
            return WRONG
        words = [word for text in texts for word in re.split(r"[,\s]+", text) if word]
        pairs = [tuple(w.split("=", 1)) for w in words if w.lstrip("-").replace("-", "_") != _KEY]
    made = {}
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            return WRONG
        name = pair[0].strip().replace("-", "_").lower()
        mode = pair[1].strip().replace("_", "-").lower()
        if not name or mode not in MODES:
            return WRONG
        made[name] = mode
    return made


def _prefetch(value: Any) -> Any:
    """Below 1 it is a share of the layers; larger numbers are cut to whole ones (server_args.py)."""
    if isinstance(value, float) and is_number(value) and (value >= 1 or value == 0):
        value = int(value)
    if is_count(value):
        return value if 0 <= value <= 64 else WRONG
    return value if is_number(value) and 0 < value < 1 else WRONG


_SOURCE = "components.NAME.source is where a component comes from"
_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"

TOOL = Tool(
    name="sglang",
    title="SGLang-Diffusion",
    takes="COMPONENT=MODE for components, dit, text_encoder, image_encoder, vae or all; the older flags",
    example="text_encoder=component-offload,dit=layerwise-offload",
    settings=(
        Setting(_KEY, Kind(f"COMPONENT=MODE with a mode of {', '.join(MODES)}", _residency), {}),
        *(Setting(flag, BOOL) for flag in _FLAGS),
        Setting("dit_layerwise_offload", BOOL, False),
        *(Setting(name, NAMES) for name in _LISTS),
        Setting("dit_offload_prefetch_size", Kind("a number of layers, or a share", _prefetch), 1),
        Setting("performance_mode", choice("auto", "manual", "speed", "memory"), "auto"),
        Setting("pin_cpu_memory", BOOL, True, codes.HOW_IT_COPIES, _PINS),
        *(Setting(f"vae_{option}", BOOL, False) for option in VAE_OPTIONS),
        Setting("use_fsdp_inference", BOOL, False, codes.SEVERAL_DEVICES, "the plan is for one card"),
        Setting("lora_path", ANY, None, codes.OTHER_FEATURE, "loras has the plan's own"),
        Setting("transformer_path", ANY, None, codes.OTHER_FEATURE, _SOURCE),
        Setting("transformer_weights_path", ANY, None, codes.OTHER_FEATURE, _SOURCE),
        Setting("vae_path", ANY, None, codes.OTHER_FEATURE, _SOURCE),
        Setting("text_encoder_path", ANY, None, codes.OTHER_FEATURE, _SOURCE),
        Setting("vae_precision", ANY, None, codes.OTHER_FEATURE, "a plan has one dtype"),
        Setting("vae_config", ANY, None, codes.OTHER_FEATURE, "tiles have the component's own sizes"),
        Setting("quantization", ANY, None, codes.QUANTIZES_OTHERWISE, "quantization has a plan's own rules"),
        Setting("config", ANY, None, codes.SETTINGS_ELSEWHERE, "what that file says is not read"),
    ),
    draft=draft,
    short=_KEY,
    nested=bool,
    command=Command(
        programs=(("sglang", "generate"), ("sglang", "serve"), ("sglang",)),
        options={"mode": "performance_mode"},
        several=(_KEY, *_LISTS),
        pipeline={
            "model_path": "source",
            "model": "source",
            "revision": "revision",
            "dit_precision": "dtype",
            "precision": "dtype",
        },
        elsewhere=(
            *("prompt", "negative_prompt", "image_path", "image", "num_inference", "guidance", "seed"),
            *("height", "width", "num_frames", "fps", "output", "save_output", "return_", "size"),
            *("host", "port", "scheduler_port", "master_port", "nccl_port", "webui", "log_", "strict_ports"),
            *("attention", "component_attention", "diffusers_attention", "cache", "enable_teacache"),
            *("backend", "model_id", "model_type", "served_model", "trust_remote_code", "api_key"),
            *("enable_torch_compile", "warmup", "disable_autocast", "flow_shift", "boundary_ratio"),
            *("batching", "enable_metrics", "enable_layerwise_nvtx", "profile", "perf_dump"),
            *("enable_breakable_cuda_graph", "dist_timeout", "embedded_cfg", "diffusers_kwargs"),
        ),
        spread=(
            *("num_gpus", "tp_size", "tp", "sp_degree", "sp_size", "ulysses_degree", "ring_degree", "dp"),
            *("data_parallel_size", "dp_size", "dp_degree", "hsdp_replicate_dim", "hsdp_shard_dim"),
            *("enable_cfg_parallel", "vae_sp"),
        ),
    ),
)
