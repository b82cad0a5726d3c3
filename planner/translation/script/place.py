"""Calls that say where weights lie: offloading, and ``.to(device)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.diagnostics.diagnostic import errors
from planner.diagnostics.table import p8_tools as codes
from planner.source.text import Span
from planner.translation.script.load import component_dtype, dtype_of, forget_dtypes, pipeline_dtype
from planner.translation.script.sheet import Place, Sheet
from planner.translation.script.values import (
    Act,
    Component,
    Known,
    NotKnown,
    Pairs,
    Pipeline,
    Value,
    plain,
    words,
)
from planner.translation.tools.kinds import device, shown
from planner.translation.tools.model import WRONG, Line, Tool
from planner.translation.tools.parts import NONE_STAYS, modules
from planner.translation.tools.read import placed, read

CASTS = {"half": "float16", "bfloat16": "bfloat16", "float": "float32", "double": "float64"}
_ACCELERATE: Mapping[str, tuple[Any, str]] = {
    "cpu_offload": (
        {"policy": "stream", "resident": NONE_STAYS, "prefetch": 0},
        "leaf by leaf, nothing stays",
    ),
    "disk_offload": ({"policy": "stream", "resident": NONE_STAYS, "prefetch": 0}, "leaf by leaf, from disk"),
    "cpu_offload_with_hook": ("offload", "whole, until the next one runs"),
}
ACCELERATE = tuple(_ACCELERATE)
"""Functions of accelerate (1.15) that take one model and move it by themselves."""


def whole(tool: Tool, act: Act, sheet: Sheet, first: int = 0) -> None:
    """A tool's call for the pipeline; ``first``: its arguments begin there."""
    given = arguments(tool, act, sheet, first)
    if given is None:
        return
    values, problems = read(tool, given)
    sheet.found += placed(problems, act.places, act.span)
    if values is not None and not errors(problems):
        handed = _handed(act.args[0]) if first and act.args else None
        sheet.places.append(
            Place(name=act.name, span=act.span, tool=tool, values=values, places=act.places, only=handed)
        )


def part(tool: Tool, component: Component, act: Act, sheet: Sheet, first: int = 0) -> None:
    """A tool's call for one component."""
    if component.inside:
        said = f"only {component.inside} of {shown(component.name)} is moved: a plan moves components"
        sheet.lose(said, act.span)
        return
    if tool.one is None or not sheet.has(component, act.span):
        return
    given = arguments(tool, act, sheet, first, tuple(setting.name for setting in tool.one.settings))
    if given is None:
        return
    values, problems = read(tool.one.reader(tool), given)
    if values is not None:
        problems = (*problems, *tool.one.said(values, (component.name,)))
    sheet.found += placed(problems, act.places, act.span)
    if values is None or errors(problems):
        return
    line = tool.one.line(component.name, values)
    if line is None:
        sheet.keep(f"{act.name}: {shown(component.name)} is not moved by it", act.span)
        return
    place = Place(
        name=act.name,
        span=act.span,
        tool=tool,
        component=component.name,
        line=line,
        values=values,
        device=values.get("onload_device") or "",
    )
    sheet.places.append(place)


def one_model(tool: Tool, of: Component, act: Act, sheet: Sheet) -> None:
    """``dispatch_model(pipe.transformer, device_map={...})``: its parts, or all of it."""
    mapped = act.args[1] if len(act.args) > 1 else act.keywords.get("device_map")
    try:
        given = plain(mapped) if mapped is not None else None
    except NotKnown:
        given = None
    if of.inside or not isinstance(given, dict) or not sheet.has(of, act.span):
        if of.name in modules(sheet.target):
            said = f"{act.name}: where the parts of {shown(of.name)} go is not known here"
            sheet.say(codes.WHICH_PARTS, f"{said}: the plan leaves it to the compiler", act.span)
        return
    inner = {f"{of.name}.{key}" if key else of.name: place for key, place in given.items()}
    values, problems = read(tool, {"device_map": inner})
    draft, more = (None, ()) if values is None else tool.draft(values, sheet.target)
    lines = [] if draft is None else [line for line in draft.components if line.key == of.name]
    ours = (d for d in (*problems, *more) if d.code is not codes.DEFAULT_NOT_KNOWN)
    sheet.found += placed(ours, act.places, act.span)
    for line in lines:
        card = draft.device.value if draft is not None and draft.device is not None else ""
        where = Place(name=act.name, span=act.span, component=of.name, line=line, device=card)
        sheet.places.append(where)


def move(of: Pipeline | Component, act: Act, sheet: Sheet) -> None:
    """``.to(...)``, ``.cuda()`` and ``.cpu()``: a device, a dtype, or both."""
    if isinstance(of, Component) and (of.inside or not sheet.has(of, act.span)):
        if of.inside:
            sheet.lose(f"{of.inside} of {shown(of.name)} alone is moved: a plan moves components", act.span)
        return
    if act.name in ("cuda", "cpu"):
        index = act.args[0] if act.args else act.keywords.get("device")
        number = f":{index.value}" if isinstance(index, Known) and act.name == "cuda" else ""
        _moved(of, f"{act.name}{number}", act, sheet)
        return
    given = {str(at): value for at, value in enumerate(act.args)} | dict(act.keywords)
    for key, value in given.items():
        at = act.places.get(key, act.span)
        if dtype_of(value) is not None or key == "dtype":
            cast(of, value, at, sheet)
        elif key in ("non_blocking", "copy", "silence_dtype_warnings"):
            sheet.aside(f"{key}: how it is copied is not in a plan", at)
        elif key == "memory_format":
            sheet.aside("memory_format is kept where it is set before the plan is applied", at)
        elif isinstance(value, Known):
            _moved(of, value.value, act, sheet)
        else:
            sheet.lose(f"where {words(value)} is is not known here: nothing is placed", at)


def cast(of: Pipeline | Component, value: Value, span: Span, sheet: Sheet) -> None:
    """A dtype given to all, or to a component."""
    if isinstance(of, Pipeline):
        if dtype_of(value) is not None:
            forget_dtypes(span, sheet)
        pipeline_dtype(value, span, sheet)
    elif of.inside:
        said = f"{of.inside} of {shown(of.name)} alone is cast: a plan has one dtype for a component"
        sheet.lose(said, span)
    elif sheet.has(of, span):
        component_dtype(of.name, value, span, sheet)


def accelerated(act: Act, sheet: Sheet) -> None:
    """accelerate's functions for one model."""
    of = act.args[0] if act.args else act.keywords.get("model")
    if not isinstance(of, Component) or of.inside:
        sheet.lose(f"what {words(of) if of else act.name} is is not known here: nothing is placed", act.span)
        return
    if not sheet.has(of, act.span):
        return
    policy, why = _ACCELERATE[act.name]
    if act.name == "disk_offload":
        sheet.say(codes.ON_DISK, f"{shown(of.name)} is on disk: all weights are in host memory", act.span)
    if isinstance(policy, dict):
        said = f"{shown(of.name)}: every layer moves by itself: a plan streams block by block"
        sheet.say(codes.BY_BLOCK, said, act.span)
    where = act.keywords.get("execution_device")
    found = device(where.value) if isinstance(where, Known) else WRONG
    sheet.places.append(
        Place(
            name=act.name,
            span=act.span,
            component=of.name,
            line=Line(of.name, policy, why),
            device="" if found is WRONG else found,
        )
    )


def arguments(
    tool: Tool, act: Act, sheet: Sheet, first: int = 0, names: tuple[str, ...] = ()
) -> dict[str, Any] | None:
    """The call's arguments by name; None, with an error, where one is known only when it runs."""
    names = names or tuple(setting.name for setting in tool.settings)
    positional = act.args[first:]
    if len(positional) > len(names):
        said = f"{len(positional)} arguments without a name, at most {len(names)} are known"
        sheet.say(codes.SETTINGS_NOT_READ, f"{act.name} cannot be read: {said}", act.span)
        return None
    if act.spread:
        said = f"{act.name} cannot be read: what * or ** stands for is not known here"
        sheet.say(codes.SETTINGS_NOT_READ, said, act.span, "write its arguments out")
        return None
    lost = {setting.name: setting.why for setting in tool.settings if setting.lost is not None}
    given = dict(tool.implied.get(act.name, {}))
    places = [str(at + first) for at in range(len(positional))]
    for key, place, value in (
        *zip(names, places, positional, strict=False),
        *((key, key, value) for key, value in act.keywords.items() if not (first and key in _FIRST)),
    ):
        try:
            given[key] = plain(value)
        except NotKnown as error:
            said = f"{act.name}: the value of {shown(str(error))} is not known here"
            at = act.places.get(place, act.span)
            if key in lost:
                sheet.say(codes.OTHER_FEATURE, f"{said}, and has no place in a plan: {lost[key]}", at)
                continue
            sheet.say(codes.SETTINGS_NOT_READ, said, at, "write it out")
            return None
    return given


_FIRST = ("module", "model", "root_module", "pipe_or_dict_of_modules")
"""Names of the argument that says on what a function works."""


def _moved(of: Pipeline | Component, where: Any, act: Act, sheet: Sheet) -> None:
    name = of.name if isinstance(of, Component) else ""
    there = "cpu" if where == "cpu" else device(where)
    if there is WRONG:
        sheet.lose(f"{act.name}({shown(where)}): a plan knows no such device", act.span)
        return
    policy = "offload" if there == "cpu" else "resident"
    line = Line(name, policy, f"{act.name}({shown(where)})") if name else None
    said = f"{act.name}({shown(where)})"
    sheet.places.append(Place(name=said, span=act.span, component=name, line=line, device=there))


def _handed(value: Value) -> frozenset[str] | None:
    """The components of a dictionary of modules; None for all."""
    if not isinstance(value, Pairs):
        return None
    named = [inner.name if isinstance(inner, Component) else None for _, inner in value.items]
    keys = [key.value if isinstance(key, Known) else None for key, _ in value.items]
    return frozenset(str(name or key) for name, key in zip(named, keys, strict=True) if name or key)
