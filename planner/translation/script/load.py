"""``from_pretrained`` and its like, of the pipeline and of components."""

from __future__ import annotations

import re

from planner.diagnostics.diagnostic import errors
from planner.diagnostics.table import p8_tools as codes
from planner.source.text import Span
from planner.translation.script.quantize import pipeline_quantized, quantized
from planner.translation.script.sheet import Place, Sheet
from planner.translation.script.values import (
    Act,
    Component,
    Known,
    Made,
    NotKnown,
    Pipeline,
    Value,
    plain,
    words,
)
from planner.translation.tools import device_map
from planner.translation.tools.kinds import device, shown
from planner.translation.tools.model import WRONG, Line
from planner.translation.tools.read import placed, read

LOADERS = ("from_pretrained", "from_single_file", "from_config", "from_pipe")
DTYPES = ("float32", "float16", "bfloat16", "float64")
_ALIASES = {"half": "float16", "float": "float32", "double": "float64"}
_PIPELINE = ("dtype", "torch_dtype", "quantization_config", "device_map", "max_memory")
_HUB_FILE = re.compile(
    r"(?:https?://[\w.-]+/)?(?P<repository>\w[\w.-]*/[\w.-]+)/(?:(?:blob|resolve)/[\w.-]+/)?"
    r"(?P<file>[\w./-]+\.\w+)\Z"
)
SOURCES = (
    *("pretrained_model_name_or_path", "pretrained_model_link_or_path"),
    *("pretrained_model_link_or_path_or_dict", "pretrained_model_path", "pretrained_model_or_path"),
)
"""The first argument of loaders, of diffusers and transformers."""
_QUIET = (
    *("use_safetensors", "low_cpu_mem_usage", "cache_dir", "local_files_only", "token", "use_auth_token"),
    *(
        "components_manager",
        "force_download",
        "resume_download",
        "proxies",
        "trust_remote_code",
        "custom_revision",
        "subfolder",
    ),
)
"""How files are found and read; nothing of it is left once they are loaded."""


def dtype_of(value: Value) -> str | None:
    """A dtype that a pipeline may have, or None."""
    made = value.value if isinstance(value, Known) else None
    name = _ALIASES.get(made, made) if isinstance(made, str) else None
    return name if name in DTYPES else None


def is_pipeline(cls: str) -> bool:
    """Whether a class is a pipeline's, by its name."""
    return cls.endswith("Pipeline") or cls.startswith("AutoPipelineFor")


def load_pipeline(cls: str, act: Act, sheet: Sheet) -> Value:
    """The pipeline is loaded, or made of components."""
    if sheet.loaded or (cls != sheet.target.cls and sheet.target.cls in sheet.classes):
        sheet.lose(f"{act.path}: another pipeline, and the plan is for one", act.span)
        return Made(cls, act)
    sheet.loaded = True
    if cls != sheet.target.cls and not is_general(cls):
        sheet.lose(f"the snippet makes a {cls}, the plan is for {sheet.target.cls}", act.span)
    source = _source(act)
    if act.name in ("from_pretrained", "from_single_file"):
        if isinstance(source, Known) and isinstance(source.value, str) and source.value:
            sheet.pipeline["source"] = _file_here(source.value, act, sheet)
        elif source is not None:
            sheet.lose(f"the source {words(source)} is not known here: the plan has none", act.span)
    for key, value in act.keywords.items():
        _argument(key, value, act, sheet)
    if act.spread:
        sheet.lose("what * or ** stands for is not known here", act.span)
    kept = ", ".join(f"{key} {shown(value)}" for key, value in sheet.pipeline.items())
    sheet.keep(f"the pipeline is loaded{': ' + kept if kept else ''}", act.span)
    _mapped(act, sheet, "")
    return Pipeline()


def load_component(cls: str, act: Act, sheet: Sheet) -> Value:
    """A model of its own: which component it is, its class or its subfolder tells, else where it goes."""
    folder = act.keywords.get("subfolder")
    if isinstance(folder, Known) and folder.value in sheet.target.components:
        name = str(folder.value)
    else:
        same = [name for name, info in sheet.target.components.items() if cls in info.classes]
        name = same[0] if len(same) == 1 else ""
    made = Made(cls, act, loaded=True)
    if not name:
        sheet.apart.append(act)
        return made
    adopt(name, made, sheet)
    return Component(name)


def adopt(name: str, made: Made, sheet: Sheet) -> None:
    """``name`` is the component that was loaded."""
    act, info = made.act, sheet.target.components.get(name)
    sheet.apart = [other for other in sheet.apart if other is not act]
    if info is None or not info.module:
        sheet.aside(f"{act.path}: {shown(name)} has no weights that are moved", act.span)
        return
    if made.name.startswith("Nunchaku"):
        hint = f"load it as before, and give it to the pipeline that you plan: {name}="
        said = "a plan has no backend for Nunchaku's weights"
        sheet.lose(f'"{name}": {said}: it is not loaded by the plan', act.span, hint)
    elif act.name in ("from_pretrained", "from_single_file") and (source := _source(act)) is not None:
        _component_source(name, source, act, sheet)
    for key, value in act.keywords.items():
        at = act.places[key]
        if key == "quantization_config":
            quantized(name, value, at, sheet)
        elif key in ("torch_dtype", "dtype"):
            component_dtype(name, value, at, sheet)
        elif key not in (*_PIPELINE, *_QUIET, *SOURCES, "offload"):
            sheet.lose(f'{key}={words(value)} of "{name}": a plan does not say it', at)
    _mapped(act, sheet, name)


def component_dtype(name: str, value: Value, span: Span, sheet: Sheet) -> None:
    """Noted, and compared with the pipeline's once that is known."""
    made = dtype_of(value)
    if made is None:
        sheet.lose(f'the dtype of "{name}", {words(value)}, is not known here', span)
    else:
        if name in sheet.dtypes:
            before = sheet.dtypes[name][1]
            said = f'the dtype of "{name}" is set again in line {span.line}'
            sheet.say(codes.WITHOUT_EFFECT, said, before)
        sheet.dtypes[name] = (made, span)


def forget_dtypes(span: Span, sheet: Sheet) -> None:
    """Of components, which casting the whole pipeline undoes."""
    for name, (_, before) in sheet.dtypes.items():
        said = f'the dtype of "{name}" is set again in line {span.line}, with all of the pipeline'
        sheet.say(codes.WITHOUT_EFFECT, said, before)
    sheet.dtypes.clear()


def pipeline_dtype(value: Value, span: Span, sheet: Sheet) -> None:
    """The plan's ``pipeline.dtype``; a mapping of components is not sayable."""
    made = dtype_of(value)
    if made is None:
        known = "is not one that a plan has" if isinstance(value, Known) else "is not known here"
        sheet.lose(f"the dtype {words(value)} {known}", span)
        return
    sheet.pipeline["dtype"] = made
    sheet.keep(f"pipeline.dtype is {made}", span)


def _argument(key: str, value: Value, act: Act, sheet: Sheet) -> None:
    at, infos = act.places[key], sheet.target.components
    if key in ("torch_dtype", "dtype"):
        pipeline_dtype(value, at, sheet)
    elif key in ("variant", "revision") and isinstance(value, Known):
        if isinstance(value.value, str) and value.value:
            sheet.pipeline[key] = value.value
    elif key == "quantization_config":
        pipeline_quantized(value, at, sheet)
    elif key in infos and infos[key].module and isinstance(value, Known) and value.value is None:
        sheet.absent.add(key)
        sheet.lose(f'"{key}" is None here: a plan that loads the pipeline itself has it', at)
    elif key in infos and isinstance(value, Made) and value.loaded:
        adopt(key, value, sheet)
    elif key in infos and isinstance(value, Component):
        if value.name != key and sheet.has(key, at):
            sheet.lose(f'"{value.name}" is given as "{key}": what it is is not followed', at)
    elif key in infos and infos[key].module and not isinstance(value, Pipeline):
        sheet.lose(f'what is given as "{key}" is not known here: the plan has the pipeline\'s own', at)
    elif key not in (*_PIPELINE, *_QUIET, *SOURCES, *infos, "config"):
        sheet.lose(f"{key}={words(value)}: a plan does not say it", at)


def _source(act: Act) -> Value | None:
    """Where weights come from: the first argument, by whichever of its names."""
    named = (act.keywords[key] for key in SOURCES if key in act.keywords)
    return act.args[0] if act.args else next(named, None)


def _source_place(act: Act) -> Span:
    return next((act.places[at] for at in ("0", *SOURCES) if at in act.places), act.span)


def _component_source(name: str, source: Value, act: Act, sheet: Sheet) -> None:
    folder = act.keywords.get("subfolder")
    if not (isinstance(source, Known) and isinstance(source.value, str) and source.value):
        sheet.lose(f'where "{name}" comes from, {words(source)}, is not known here', act.span)
        return
    sheet.sources[name] = _file_here(source.value, act, sheet)
    if isinstance(folder, Known) and folder.value and folder.value != name:
        at = act.places["subfolder"]
        sheet.lose(f'"{name}" comes from the subfolder {shown(folder.value)}: a plan does not say it', at)
    sheet.keep(f'"{name}" is loaded from {shown(sheet.sources[name])}', act.span)


def _file_here(source: str, act: Act, sheet: Sheet) -> str:
    """A file of the hub (``https://huggingface.co/A/B/blob/main/X.gguf``, ``A/B/X.gguf``) as one beside the
    plan: a plan loads files that are here."""
    found = _HUB_FILE.match(source)
    if found is None:
        return source
    repository, file = found["repository"], found["file"]
    said = f"{shown(file)} of {shown(repository)} is on the hub: a plan loads a file that is here"
    sheet.lose(said, _source_place(act), f"hf download {repository} {file} --local-dir .")
    return f"./{file}"


def _mapped(act: Act, sheet: Sheet, component: str) -> None:
    """``device_map=`` and ``max_memory=`` beside the call."""
    wanted = act.keywords.get("device_map")
    if wanted is None or (isinstance(wanted, Known) and wanted.value is None):
        if "max_memory" in act.keywords:
            sheet.lose("max_memory without a device_map does nothing", act.places["max_memory"])
        return
    at = act.places["device_map"]
    try:
        given = {key: plain(act.keywords[key]) for key in ("device_map", "max_memory") if key in act.keywords}
    except NotKnown as error:
        sheet.lose(f"the value of {shown(str(error))} is not known here: nothing is placed", at)
        return
    made = given["device_map"]
    if component and made in device_map.BY_SIZE:
        sheet.say(codes.PLACED_BY_SIZE, f'"{component}" is placed by its size: the compiler decides', at)
    elif component and device(made) is not WRONG:
        line = Line(component, "resident", f"device_map: {shown(made)}")
        where = Place(name="device_map", span=at, component=component, line=line, device=device(made))
        sheet.places.append(where)
    elif component:
        sheet.say(codes.WHICH_PARTS, f'"{component}": a plan does not say where each part lies', at)
    else:
        values, problems = read(device_map.TOOL, given)
        sheet.found += placed(problems, act.places, at)
        if values is not None and not errors(problems):
            tool = device_map.TOOL
            sheet.places.append(
                Place(name="device_map", span=at, tool=tool, values=values, places=act.places)
            )


def is_general(cls: str) -> bool:
    """Whether a class stands for whichever pipeline the weights are of."""
    return cls in ("DiffusionPipeline", "ModularPipeline") or cls.startswith("AutoPipelineFor")
