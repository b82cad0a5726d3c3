"""A snippet to the parts of a plan."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace

from planner.diagnostics.diagnostic import Diagnostic, errors
from planner.diagnostics.table import p8_tools as codes
from planner.source.text import Span
from planner.target.model import Target
from planner.translation.script import load
from planner.translation.script.perform import VAE_CALLS, assigned, perform
from planner.translation.script.settle import Settled, settle
from planner.translation.script.sheet import Sheet
from planner.translation.script.source import Script
from planner.translation.script.values import Act, Component, Made, Member, Value
from planner.translation.script.walk import Walker
from planner.translation.tools.model import Draft, Line, Tool
from planner.translation.tools.parts import modules, spelled, unknown, walk_line
from planner.translation.tools.read import placed


def compose(
    script: Script, target: Target, tools: Mapping[str, Tool]
) -> tuple[Draft, Mapping[str, str], tuple[Diagnostic, ...], frozenset[str]]:
    """The plan's parts, its ``pipeline`` keys, what was found, and the names of the tools that were called.

    ``tools``: by the names of their calls.
    """
    sheet = Sheet(target=target, classes=frozenset(_classes(script)))
    for span in script.magics:
        sheet.aside("a command of a notebook is not about where weights lie", span)
    _walker(script, sheet, tools).walk()
    for act in sheet.apart:
        sheet.lose(f"{act.path}: which component it is is not known here: it is not in the plan", act.span)
    settled = settle(sheet)
    _dtypes(sheet)
    called = frozenset(place.kind for place in sheet.places)
    if errors(sheet.found):
        return Draft(), {}, tuple(sheet.found), called
    there = {
        name: replace(info, present=info.present and name not in sheet.absent)
        for name, info in target.components.items()
    }
    excluded = tuple(dict.fromkeys((*target.excluded, *sheet.excluded)))
    seen = replace(target, components=there, excluded=excluded)
    draft = _parts(_base(settled, seen, sheet), settled, seen, sheet)
    return _rest(draft, seen, sheet), sheet.pipeline, tuple(sheet.found), called


def class_in(script: Script) -> str | None:
    """The first pipeline class that the snippet loads or makes, by its name."""
    return next(_classes(script), None)


def general_in(script: Script) -> tuple[str, str] | None:
    """The first class standing for others (``DiffusionPipeline``) that the snippet loads, and from where;
    None where there is none, or its source is not written out."""
    tree = ast.Module(body=list(script.body), type_ignores=[])
    texts: dict[str, set[str | None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            made = node.value.value if isinstance(node.value, ast.Constant) else None
            for target in node.targets:
                texts.setdefault(ast.unparse(target), set()).add(made if isinstance(made, str) else None)
    for cls, call in _made(script):
        named = [keyword.value for keyword in call.keywords if keyword.arg in load.SOURCES]
        first = next(iter([*call.args, *named]), None)
        if first is None or not load.is_general(cls):
            continue
        said = {first.value} if isinstance(first, ast.Constant) else texts.get(ast.unparse(first), set())
        source = next(iter(said), None)
        if len(said) == 1 and isinstance(source, str):
            return cls, source
    return None


def _classes(script: Script) -> Iterator[str]:
    return (cls for cls, _ in _made(script) if not load.is_general(cls))


def _made(script: Script) -> Iterator[tuple[str, ast.Call]]:
    """Pipeline classes that are loaded or made, with the call."""
    for node in ast.walk(ast.Module(body=list(script.body), type_ignores=[])):
        if not isinstance(node, ast.Call):
            continue
        owner, _, last = ast.unparse(node.func).rpartition(".")
        cls = owner.rpartition(".")[2] if last in load.LOADERS else last
        if load.is_pipeline(cls):
            yield cls, node


def _walker(script: Script, sheet: Sheet, tools: Mapping[str, Tool]) -> Walker:
    def call(act: Act) -> Value:
        return perform(act, sheet, tools)

    def adopt(name: str, made: Made) -> None:
        load.adopt(name, made, sheet)

    def assign(there: Member | Component, made: Value, span: Span) -> None:
        assigned(there, made, span, sheet)

    def matters(node: ast.AST) -> bool:
        return _calls(node, {*tools, "to", "cuda", "from_pretrained", *VAE_CALLS})

    def silent() -> bool:
        return not any(problem.code is codes.CARRIED_OVER for problem in sheet.found)

    def left(node: ast.AST, span: Span, why: str) -> None:
        if matters(node):
            sheet.lose(f"not translated: {why}", span)
        else:
            sheet.aside(f"not followed: {why}", span)

    def assumed(span: Span, said: str) -> None:
        sheet.say(codes.TAKEN_AS, said, span)

    names = sheet.target.components
    return Walker(
        script=script,
        components=names,
        named=_named(script, names),
        call=call,
        adopt=adopt,
        assign=assign,
        left=left,
        assumed=assumed,
        matters=matters,
        silent=silent,
    )


def _named(script: Script, components: Mapping[str, object]) -> dict[str, str]:
    """Variables that are handed to a pipeline's class under the name of a component."""
    made: dict[str, str] = {}
    for node in ast.walk(ast.Module(body=list(script.body), type_ignores=[])):
        if isinstance(node, ast.Call) and "Pipeline" in ast.unparse(node.func):
            for keyword in node.keywords:
                if keyword.arg in components and isinstance(keyword.value, ast.Name):
                    made.setdefault(keyword.value.id, str(keyword.arg))
    return made


def _calls(node: ast.AST, names: set[str]) -> bool:
    found = (inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return any(ast.unparse(func).rpartition(".")[2] in names for func in found)


def _base(settled: Settled, target: Target, sheet: Sheet) -> Draft:
    """What the pipeline's own statement makes of all components."""
    base = settled.base
    if base is None:
        left = [name for name in modules(target) if name not in settled.parts]
        if settled.parts and left:
            said = f"nothing is said of {', '.join(left)}: the plan leaves it to the compiler"
            sheet.say(codes.DEFAULT_NOT_KNOWN, said, next(iter(settled.parts.values())).span)
        return Draft(order=walk_line(target))
    if base.tool is not None:
        draft, found = base.tool.draft(base.values, target)
        sheet.found += placed(found, base.places, base.span)
        if base.only is None:
            return draft
        meant = spelled(base.only, target)
        only = {meant.get(name, name) for name in base.only}
        sheet.found += placed(unknown(sorted(only), target), {}, base.span)
        left = [name for name in modules(target) if name not in only]
        if left:
            said = f"{base.name} is not given {', '.join(left)}: the plan leaves it to the compiler"
            sheet.say(codes.DEFAULT_NOT_KNOWN, said, base.span)
        return replace(draft, components=tuple(line for line in draft.components if line.key in only))
    if base.device == "cpu":
        said = "all is on the CPU: in the plan components come to the device when they are used"
        sheet.say(codes.RUNS_ON_CPU, said, base.span)
        policy = "offload"
    else:
        policy = "resident"
    return Draft(
        device=None if base.device == "cpu" else Line("device", base.device, base.name),
        components=tuple(Line(name, policy, base.name) for name in modules(target)),
        order=walk_line(target),
    )


def _parts(draft: Draft, settled: Settled, target: Target, sheet: Sheet) -> Draft:
    """Components that are placed apart from the others."""
    lines = {name: place.line for name, place in settled.parts.items() if place.line is not None}
    lines = {name: line for name, line in lines.items() if name in modules(target)}
    if not lines:
        return draft
    device = draft.device
    for place in settled.parts.values():
        if place.device == "cpu":
            said = f'"{place.component}" is on the CPU: in the plan it comes to the device when it is used'
            sheet.say(codes.RUNS_ON_CPU, said, place.span)
        elif place.device and device is None:
            device = Line("device", place.device, place.what)
        elif place.device and device is not None and place.device != device.value:
            said = f'"{place.component}" is on {place.device}: the plan is for {device.value}'
            sheet.say(codes.SEVERAL_DEVICES, said, place.span)
    base = {line.key: line for line in draft.components}
    if draft.semantics is not None:  # those of diffusers know no policy
        kept = draft.exclude.value if draft.exclude is not None else ()
        whole = (name for name in modules(target) if name not in kept)
        base = {name: Line(name, "offload", "whole, when it is used") for name in whole}
        said = f"{', '.join(lines)} apart from the chain: each component comes whole when it is used"
        sheet.say(codes.TAKEN_AS, said, next(iter(settled.parts.values())).span)
        draft = replace(draft, semantics=None, order=walk_line(target, kept))
    merged = {**base, **lines}
    return replace(
        draft,
        device=device,
        components=tuple(merged[name] for name in modules(target) if name in merged),
        exclude=_without(draft.exclude, lines),
    )


def _without(exclude: Line | None, lines: Mapping[str, Line]) -> Line | None:
    if exclude is None:
        return None
    kept = [name for name in exclude.value if name not in lines]
    return Line(exclude.key, kept, exclude.why) if kept else None


def _dtypes(sheet: Sheet) -> None:
    """Dtypes of components: a plan has one for all."""
    common = {dtype for dtype, _ in sheet.dtypes.values()}
    if "dtype" not in sheet.pipeline and len(common) == 1 and set(sheet.dtypes) == set(modules(sheet.target)):
        sheet.pipeline["dtype"] = common.pop()
    for name, (dtype, span) in sheet.dtypes.items():
        if dtype == sheet.pipeline.get("dtype"):
            sheet.keep(f'the dtype of "{name}" is the pipeline\'s', span)
        else:
            said = f'"{name}" is {dtype}: a plan has one dtype, {sheet.pipeline.get("dtype", "float32")}'
            sheet.lose(said, span, f"pipeline: {{dtype: {dtype}}}")


def _rest(draft: Draft, target: Target, sheet: Sheet) -> Draft:
    """Sources, tiling and slicing, rules and LoRAs."""
    own = sheet.pipeline.get("source")
    more: dict[str, dict[str, object]] = {}
    for name, source in sheet.sources.items():
        if source != own and name in modules(target):
            more.setdefault(name, {})["source"] = source
    for name, options in sheet.options.items():
        if name in modules(target):
            said = {option: "on" if on else "off" for option, on in options.items()}
            more.setdefault(name, {}).update(said)
    lines = {line.key: line for line in draft.components}
    for name, said_more in more.items():
        line = lines.get(name, Line(name, {}, ""))
        value = line.value if isinstance(line.value, dict) else {"policy": line.value}
        why = "; ".join(word for word in (line.why, *said_more) if word)
        lines[name] = Line(name, {**value, **said_more}, why)
    rules = tuple(Line("", rule, "") for rule in sheet.rules if rule["component"] in modules(target))
    return replace(
        draft,
        components=tuple(lines[name] for name in modules(target) if name in lines),
        rules=(*draft.rules, *rules),
        loras=tuple(Line("", lora, "") for lora in sheet.loras),
    )
