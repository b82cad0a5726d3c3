"""Other tools' settings to the nearest plan: the tools, and the functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p8_tools import (
    CARRIED_OVER,
    NOT_IN_ONE_PLAN,
    NOTHING_TO_MOVE,
    SETTINGS_NOT_READ,
    UNKNOWN_TOOL,
)
from planner.document.read import document_of
from planner.plan.build import build_plan
from planner.quantization.check import check_rules
from planner.source.text import SourceText
from planner.target.model import Target
from planner.translation.script.compose import class_in, compose, general_in
from planner.translation.script.source import Script
from planner.translation.text import Given, given_in, is_python
from planner.translation.tools import (
    cache_dit,
    device_map,
    group,
    manager,
    mmgp,
    model_offload,
    nunchaku,
    sequential,
    sglang,
    vllm_omni,
)
from planner.translation.tools.command import is_command
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Draft, Tool
from planner.translation.tools.parts import modules
from planner.translation.tools.read import placed, read
from planner.translation.tools.write import to_text

SHOWN = 240
"""Characters of the settings in the plan's first comment."""
NAME = "settings"
"""What findings call a text that has no name of its own."""

_ALL = (
    model_offload.TOOL,
    sequential.TOOL,
    group.TOOL,
    device_map.TOOL,
    manager.TOOL,
    mmgp.TOOL,
    cache_dit.TOOL,
    nunchaku.TOOL,
    vllm_omni.TOOL,
    sglang.TOOL,
)

TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in _ALL})
"""Every tool by its name: what it takes, and an example of its settings."""

_CALLS: Mapping[str, Tool] = MappingProxyType({call: tool for tool in _ALL for call in tool.calls})


def from_tool(
    tool: str,
    settings: Mapping[str, Any] | str,
    target: Target,
    *,
    source: str | None = None,
    dtype: str | None = None,
    name: str = NAME,
) -> tuple[str, tuple[Diagnostic, ...]]:
    """The plan nearest to a tool's settings, as YAML, and what does and what does not carry over.

    ``settings``: a mapping, or a text, called ``name`` in findings: YAML, JSON, Python with a call of the
    tool, or its command line. ``target``: the pipeline. ``source`` and ``dtype`` go into the plan's
    ``pipeline``. With an error among the findings (an unknown tool or setting, a wrong value, what the tool
    itself refuses) the text is empty. A finding has the place in the text, or the setting's ``pointer``. The
    same settings give the same bytes.
    """
    known = TOOLS.get(tool) if isinstance(tool, str) else None
    if known is None:
        hint = did_you_mean(str(tool), TOOLS)
        return "", (finding(UNKNOWN_TOOL, f"no tool {shown(tool)} is known", hint=hint),)
    if not modules(target):
        return "", (_nothing(target),)
    own = {"source": source, "dtype": dtype}
    if not isinstance(settings, str):
        return _drafted(known, Given(settings=settings), shown(settings, SHOWN), target, own)
    given = given_in(SourceText(name=name, text=settings), known)
    if given.script is not None:
        return _scripted(given.script, known, target, own)
    return _drafted(known, given, _short(settings), target, own)


def from_script(text: str, target: Target, *, name: str = NAME) -> tuple[str, tuple[Diagnostic, ...]]:
    """The plan nearest to Python that loads, places and quantizes a pipeline, whatever tools it calls.

    Every statement is translated, or a finding says why it is not. See ``from_tool``.
    """
    if not modules(target):
        return "", (_nothing(target),)
    given = given_in(SourceText(name=name, text=text), None)
    if given.script is None:
        said = finding(SETTINGS_NOT_READ, "there is nothing to read")
        return "", given.found or (said,)
    return _scripted(given.script, None, target, {})


def tool_of(text: str) -> str | None:
    """The tool whose command line ``text`` is, "" for Python, None for neither."""
    for tool in _ALL:
        if tool.command is not None and not text.lstrip().startswith("-") and is_command(tool, text):
            return tool.name
    return "" if is_python(text) else None


def class_of(text: str) -> str | None:
    """The pipeline class that Python in ``text`` loads, where it names one."""
    script = _script(text)
    return class_in(script) if script is not None else None


def general_of(text: str) -> tuple[str, str] | None:
    """The class standing for others (``DiffusionPipeline``) that Python in ``text`` loads, and from where;
    None where there is none, or its source is not written out."""
    script = _script(text)
    return general_in(script) if script is not None else None


def _script(text: str) -> Script | None:
    return given_in(SourceText(name=NAME, text=text), None).script if is_python(text) else None


def _drafted(
    tool: Tool, given: Given, said: str, target: Target, own: Mapping[str, str | None]
) -> tuple[str, tuple[Diagnostic, ...]]:
    if errors(given.found):
        return "", given.found
    values, found = read(tool, given.settings)
    found = (*given.found, *placed(found, given.places))
    if values is None:
        return "", found
    draft, more = tool.draft(values, target)
    found = (*found, *placed(more, given.places), *_kept(tool, given, found, more))
    return _written(
        draft, f"{tool.title}: {said}" if said else tool.title, target, given.pipeline, own, found
    )


def _kept(tool: Tool, given: Given, *found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Of a command line, the options that nothing else is said of; in YAML each key is a setting."""
    told = {problem.pointer.split("/")[1] for problems in found for problem in problems if problem.pointer}
    usual = {setting.name for setting in tool.settings if setting.lost is not None}
    places = {at: span for at, span in given.places.items() if not at.startswith("/")}
    return tuple(
        finding(CARRIED_OVER, f"{at} is {'as usual' if at in usual else 'in the plan'}", span=span)
        for at, span in places.items()
        if at not in told
    )


def _scripted(
    script: Script, tool: Tool | None, target: Target, own: Mapping[str, str | None]
) -> tuple[str, tuple[Diagnostic, ...]]:
    draft, pipeline, found, called = compose(script, target, _CALLS)
    if errors(found):
        return "", found
    if tool is not None and tool.name not in called:
        named = " or ".join(tool.calls) or "its command line"
        others = f"; it calls {', '.join(sorted(called - {'to'}))}" if called - {"to"} else ""
        said = f"the settings cannot be read: expected a call of {named}{others}"
        return "", (*found, finding(SETTINGS_NOT_READ, said, hint=f"such as {tool.example}"))
    if tool is None and not any(problem.code is CARRIED_OVER for problem in found):
        said = "nothing in it says where weights lie, what they are or where they come from"
        return "", (*found, finding(SETTINGS_NOT_READ, said))
    title = tool.title if tool is not None else "a script"
    return _written(draft, f"{title}: {_short(script.source.text)}", target, pipeline, own, found)


def _written(
    draft: Draft,
    origin: str,
    target: Target,
    pipeline: Mapping[str, str],
    own: Mapping[str, str | None],
    found: tuple[Diagnostic, ...],
) -> tuple[str, tuple[Diagnostic, ...]]:
    if errors(found):
        return "", found
    keys = {
        "class": target.cls,
        **pipeline,
        **{key: value for key, value in own.items() if value is not None},
    }
    order = ("class", "source", "dtype", "variant", "revision")
    present = {key: keys[key] for key in order if key in keys}
    made = to_text(draft, present, origin=origin, lost=found)
    refused = tuple(_refused(made))
    return ("" if refused else made), (*found, *refused)


def _refused(text: str) -> Iterator[Diagnostic]:
    """What a plan by itself may not have together, though the tool has it: a LoRA over quanto, say."""
    document, problems = document_of(SourceText(name="made.plan.yaml", text=text))
    plan, more = build_plan(document) if document is not None else (None, [])
    rules = check_rules(plan) if plan is not None else []
    for problem in errors([*problems, *more, *rules]):
        said = f"a plan cannot have this together: {problem.message} [{problem.code.id}]"
        yield finding(NOT_IN_ONE_PLAN, said, hint=problem.hint)


def _short(text: str) -> str:
    said = " ".join(text.split())
    return said if len(said) <= SHOWN else said[: SHOWN - 3] + "..."


def _nothing(target: Target) -> Diagnostic:
    return finding(NOTHING_TO_MOVE, f'"{target.cls}" has no component with weights')
