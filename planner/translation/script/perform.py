"""Each call of a snippet, by its name and what it is called on: what it says of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.diagnostics.table import p8_tools as codes
from planner.source.text import Span
from planner.target.vae_options import VAE_OPTIONS, may_have
from planner.translation.script import load, place, quantize
from planner.translation.script.sheet import Sheet
from planner.translation.script.values import (
    Act,
    Component,
    Known,
    Made,
    Many,
    Member,
    NotKnown,
    Pipeline,
    Unknown,
    Value,
    names_of,
    plain,
    words,
)
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Tool
from planner.translation.tools.parts import autoencoders

_MOST_SCALE = 1e6
"""Of a LoRA, far above any that is used."""
_AGAIN = "do it again after planner.apply"
_BY_HAND = "it is not in a plan, and works beside one"
_ATTENTION = "slicing in a plan is a VAE's: attention in slices is not in it, and works beside one"
ASIDE: Mapping[str, str] = {
    **dict.fromkeys(("enable_attention_slicing", "disable_attention_slicing"), _ATTENTION),
    **dict.fromkeys(("enable_xformers_memory_efficient_attention", "set_attention_backend"), _BY_HAND),
    **dict.fromkeys(("set_attn_processor", "set_default_attn_processor", "enable_freeu"), _BY_HAND),
    **dict.fromkeys(("set_progress_bar_config", "enable_cache", "disable_cache", "eval"), _BY_HAND),
    **dict.fromkeys(("requires_grad_", "train", "enable_gradient_checkpointing"), _BY_HAND),
    **dict.fromkeys(("compile", "compile_repeated_blocks"), f"compiling is not in a plan: {_AGAIN}"),
    **dict.fromkeys(("fuse_qkv_projections", "unfuse_qkv_projections"), "do it before planner.apply"),
    **dict.fromkeys(("maybe_free_model_hooks", "free"), "a session frees what a call leaves"),
}
"""Methods of a pipeline or a component that do not say where weights lie."""
VAE_CALLS: Mapping[str, tuple[str, bool]] = {
    f"{verb}_{owner}{option}": (option, verb == "enable")
    for option in VAE_OPTIONS
    for owner in ("", "vae_")
    for verb in ("enable", "disable")
}
"""What each sets."""
_ON_WEIGHTS = frozenset({"to", "cuda", "half", "bfloat16", *VAE_CALLS})
"""Methods that a plan would have, were it known what they are called on."""


def perform(act: Act, sheet: Sheet, tools: Mapping[str, Tool]) -> Value:
    """What the call makes. ``tools`` by the names of their calls."""
    tool = tools.get(act.name)
    match act.receiver:
        case Pipeline() | Component() if act.name:
            return _method(act.receiver, act, sheet, tool)
        case Pipeline() | Component():
            sheet.aside(f"{act.path}(...): a plan has no call of the pipeline in it", act.span)
            return Unknown(act.path)
        case Member(of=Pipeline(), name="_exclude_from_cpu_offload"):
            _excluded(act, sheet)
            return Known(None)
        case Member(of=Pipeline(), name=name) if act.name in ("to", *ASIDE) or tool is not None:
            sheet.has(name, act.span)
            return act.receiver
    if tool is not None and (made := _tool(tool, act, sheet)) is not None:
        return made
    return _function(act, sheet)


def assigned(there: Member | Component, made: Value, span: Span, sheet: Sheet) -> None:
    """What is set on the pipeline or a component."""
    match there, made:
        case Component(name=name, inside=""), Made(loaded=True):
            load.adopt(name, made, sheet)
        case Component(name=name, inside=""), Component(name=same, inside="") if name == same:
            pass
        case Component(name=name, inside=""), Known(value=None):
            sheet.absent.add(name)
            sheet.lose(f'"{name}" is set to None: a plan that loads the pipeline itself has it', span)
        case Component(name=name, inside=""), _ if not sheet.target.components[name].module:
            sheet.aside(f'"{name}" has no weights that are moved', span)
        case Component(name=name), _:
            sheet.lose(f'"{name}" is replaced: what by is not known here', span)
        case Member(of=Pipeline(), name="_exclude_from_cpu_offload"), Many(items=items):
            sheet.excluded += [str(item.value) for item in items if isinstance(item, Known)]
            sheet.keep(f"{words(made)} is excluded from offloading", span)
        case Member(of=Pipeline(), name=name), _:
            sheet.lose(f"{name} of the pipeline is set: a plan does not say it", span)
        case _:
            sheet.aside("an attribute of a component is set: it is not in a plan", span)


def _method(of: Pipeline | Component, act: Act, sheet: Sheet, tool: Tool | None) -> Value:
    if tool is not None and act.name not in tool.parts:
        if isinstance(of, Component):
            if tool.one is None:
                sheet.lose(f'{act.name} of "{of.name}": only a pipeline has it', act.span)
            place.part(tool, of, act, sheet)
        elif tool.settings:
            place.whole(tool, act, sheet)
        return Known(None)
    match act.name:
        case "to" | "cuda" | "cpu":
            place.move(of, act, sheet)
            return of
        case "half" | "bfloat16" | "float" | "double":
            place.cast(of, Known(place.CASTS[act.name]), act.span, sheet)
            return of
        case name if name in VAE_CALLS:
            _vae_option(of, act, sheet)
        case "enable_layerwise_casting" if isinstance(of, Component) and not of.inside:
            if sheet.has(of, act.span):
                quantize.cast(of.name, act, sheet)
        case "load_lora_weights" if isinstance(of, Pipeline):
            _lora(act, sheet)
        case "set_adapters" if isinstance(of, Pipeline):
            _scales(act, sheet)
        case name if name in load.LOADERS:
            return load.load_pipeline(sheet.target.cls, act, sheet)
        case "load_components" if isinstance(of, Pipeline):
            for key in ("torch_dtype", "dtype"):
                if key in act.keywords:
                    load.pipeline_dtype(act.keywords[key], act.places[key], sheet)
        case name if name in ASIDE:
            sheet.aside(f"{act.path}: {ASIDE[name]}", act.span)
            return of
        case _:
            sheet.lose(f"{act.path}: a plan does not say it", act.span)
            return Unknown(act.path)
    return Known(None)


def _tool(tool: Tool, act: Act, sheet: Sheet) -> Value | None:
    """A function of a tool, or a method of what is not known; None where the name only looks like one."""
    first = act.args[0] if act.args else next(iter(act.keywords.values()), None)
    own = not tool.modules or act.path.startswith(tuple(f"{name}." for name in tool.modules))
    if not own and (act.receiver is not None or not isinstance(first, (Pipeline, Component))):
        return None
    if isinstance(act.receiver, Made) and load.is_pipeline(act.receiver.name):
        return None
    if act.name in tool.parts and isinstance(first, Component):
        place.part(tool, first, act, sheet, 1)
    elif act.name in tool.parts and tool.settings and isinstance(first, Pipeline):
        place.whole(tool, act, sheet, 1)
    elif act.name in tool.parts:
        said = f"what {words(first) if first is not None else act.path} is is not known here"
        sheet.lose(f"{act.name}: {said}: nothing is placed", act.span, "name a component: pipe.transformer")
    elif tool.before and isinstance(first, Component) and tool.one is None:
        place.one_model(tool, first, act, sheet)
    elif isinstance(act.receiver, Unknown) and tool.one is not None:
        said = f"what {act.receiver.text} is is not known here: nothing is placed"
        sheet.lose(f"{act.name}: {said}", act.span, "name a component: pipe.transformer")
    elif tool.settings:
        place.whole(tool, act, sheet, tool.before)
    return first if isinstance(first, Component) else Known(None)


def _function(act: Act, sheet: Sheet) -> Value:
    touched = [value for value in (*act.args, *act.keywords.values()) if _ours(value)]
    owner = act.path.rpartition(".")[0].rpartition(".")[2]
    if act.name in load.LOADERS and owner[:1].isupper() and act.receiver is None:
        if load.is_pipeline(owner):
            return load.load_pipeline(owner, act, sheet)
        return load.load_component(owner, act, sheet)
    if act.receiver is None and act.name[:1].isupper():
        if load.is_pipeline(act.name) and not quantize.is_config(act.name):
            return load.load_pipeline(act.name, act, sheet)
        return Made(act.name, act)
    match act.name:
        case name if name in place.ACCELERATE and act.receiver is None:
            place.accelerated(act, sheet)
            return Many((touched[0], Unknown(act.path))) if touched else Unknown(act.path)
        case "apply_layerwise_casting" if act.args and isinstance(of := act.args[0], Component):
            if sheet.has(of, act.span):
                quantize.cast(of.name, act, sheet, 1)
        case "infer_auto_device_map" if touched:
            said = "what goes where is worked out from sizes: the plan leaves it to the compiler"
            sheet.say(codes.PLACED_BY_SIZE, said, act.span)
        case "compile" if touched:
            sheet.aside(f"{act.path}: {ASIDE['compile']}", act.span)
            return touched[0]
        case name if name in _ON_WEIGHTS and isinstance(act.receiver, Unknown) and not touched:
            sheet.lose(f"what {act.receiver.text} is is not known here: not in the plan", act.span)
            return act.receiver
        case _ if isinstance(act.receiver, Made) and load.is_pipeline(act.receiver.name):
            sheet.lose(f"{act.path}: of another pipeline, and the plan is for one", act.span)
            return act.receiver
        case _ if isinstance(act.receiver, Made) and act.receiver.loaded:
            sheet.lose(f"{act.path}: which component it is is not known here", act.span)
            return act.receiver
        case name if name in ASIDE:
            sheet.aside(f"{act.path}: {ASIDE[name]}", act.span)
        case _ if touched and act.path not in ("print", "len", "id", "type", "isinstance", "hasattr"):
            sheet.lose(f"{act.path}: what it does with the pipeline is not known here", act.span)
        case _:
            sheet.aside(f"{act.path}(...) is not about where weights lie", act.span)
    return Unknown(act.path)


def _ours(value: Value) -> bool:
    return isinstance(value, (Pipeline, Component)) or (isinstance(value, Made) and value.loaded)


def _vae_option(of: Pipeline | Component, act: Act, sheet: Sheet) -> None:
    option, on = VAE_CALLS[act.name]
    able = autoencoders(sheet.target)
    name = of.name if isinstance(of, Component) else "vae" if "vae" in able else next(iter(able), "vae")
    if not sheet.has(name, act.span):
        return
    if name not in able or (isinstance(of, Component) and of.inside):
        sheet.lose(f'{act.name} of "{name}": only an autoencoder has {option}', act.span)
        return
    if not may_have(option, classes := sheet.target.components[name].classes):
        sheet.lose(f'{act.name} of "{name}": {", ".join(classes)} has no {option}', act.span)
        return
    first = act.args[0] if act.args else act.keywords.get("use_tiling")
    if isinstance(first, Known) and isinstance(first.value, bool):
        on = on and first.value
    sheet.options.setdefault(name, {})[option] = on
    sizes = [key for key in act.keywords if key != "use_tiling"]
    if sizes:
        sheet.lose(f"{', '.join(sizes)}: tiles have the component's own sizes in a plan", act.span)
    sheet.keep(f'{option} of "{name}" is {"on" if on else "off"}', act.span)


def _lora(act: Act, sheet: Sheet) -> None:
    try:
        given = {
            key: plain(act.keywords[key]) for key in ("weight_name", "adapter_name") if key in act.keywords
        }
        source = plain(act.args[0]) if act.args else None
    except NotKnown as error:
        source, given = None, {"": str(error)}
    if not isinstance(source, str) or not source:
        sheet.lose(f"{act.path}: where the LoRA is is not known here", act.span)
        return
    for key in act.keywords:
        if key not in given:
            sheet.lose(f"{key} of {act.path}: a plan does not say it", act.places[key])
    names = {key: value for key, value in given.items() if isinstance(value, str) and value}
    sheet.loras.append({"lora_id": source, **names})
    sheet.keep(f"the LoRA {shown(source)} is loaded", act.span)


def _scales(act: Act, sheet: Sheet) -> None:
    """``set_adapters(["a", "b"], adapter_weights=[0.8, 1])``: the scales of LoRAs that have names."""
    weights = act.args[1] if len(act.args) > 1 else act.keywords.get("adapter_weights", Known(1.0))
    listed: list[str] = []
    try:
        listed = names_of(act.args[0] if act.args else act.keywords.get("adapter_names", Known(None)))
        scales = plain(weights)
    except NotKnown:
        scales = None
    given = scales if isinstance(scales, list) else [scales] * len(listed)
    known = {lora.get("adapter_name"): lora for lora in sheet.loras}
    fits = len(given) == len(listed) and all(map(_is_scale, given))
    if not listed or not fits or not known.keys() >= set(listed):
        sheet.lose(f"{act.path}: which LoRAs get which scale is not known here", act.span)
        return
    for lora in sheet.loras:  # those that are not named are switched off
        lora["lora_scale"] = 0.0
    for name, scale in zip(listed, given, strict=True):
        known[name]["lora_scale"] = float(scale)
    off = [lora["lora_id"] for lora in sheet.loras if lora.get("adapter_name") not in listed]
    others = f"; {', '.join(map(shown, off))} is off: its scale is 0" if off else ""
    sheet.keep(f"the scales of {', '.join(listed)}{others}", act.span)


def _is_scale(made: Any) -> bool:
    return isinstance(made, (int, float)) and abs(made) < _MOST_SCALE


def _excluded(act: Act, sheet: Sheet) -> None:
    items = act.args[0].items if act.args and isinstance(act.args[0], Many) else act.args
    names = [str(item.value) for item in items if isinstance(item, Known)]
    if act.name not in ("append", "extend") or len(names) < len(items) or not names:
        sheet.lose(f"{act.path}: what is excluded is not known here", act.span)
        return
    sheet.excluded += [name for name in names if sheet.has(name, act.span)]
    sheet.keep(f"{', '.join(names)}: excluded from offloading", act.span)
