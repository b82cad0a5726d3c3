"""Settings as someone has them, a mapping or a text, to checked values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p8_tools import SETTINGS_NOT_READ, UNKNOWN_SETTING, WRONG_SETTING
from planner.document.node import escaped
from planner.source.text import Span
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import WRONG, Tool, Values

MANY = 20
"""Unknown settings that are listed."""


def read(tool: Tool, settings: Any, *under: str) -> tuple[Values | None, tuple[Diagnostic, ...]]:
    """Every setting of ``tool``, defaults filled in; None where one is unknown or wrong.

    Settings that have no place in a plan are said here, where they are not their defaults. ``under``: the
    path that pointers begin with.
    """
    given, found = _given(tool, settings)
    if given is None:
        return None, found
    known = {setting.name: setting for setting in tool.settings}
    problems = [*_unknown(tool, given, under)]
    values: dict[str, Any] = {name: setting.default for name, setting in known.items()}
    for name, setting in known.items():
        if name not in given:
            continue
        value = given[name]
        if value is None and setting.default is None:
            continue
        made = setting.kind.read(value)
        if made is WRONG:
            said = f'"{name}" of {tool.title} is {shown(value)}, expected {setting.kind.expects}'
            problems.append(finding(WRONG_SETTING, said, pointer=pointer(*under, name)))
            continue
        values[name] = made
        if setting.lost is not None and made != setting.default:
            said = f'"{name}: {shown(value)}" has no place in a plan: {setting.why}'
            problems.append(finding(setting.lost, said, pointer=pointer(*under, name)))
    return (None if errors(problems) else values), tuple(problems)


def pointer(*path: str) -> str:
    """The JSON pointer of a setting."""
    return "".join(f"/{escaped(part)}" for part in path)


def placed(
    found: Iterable[Diagnostic], places: Mapping[str, Span], otherwise: Span | None = None
) -> Iterator[Diagnostic]:
    """``found`` with the places of the settings that their pointers name, or of what is nearest above.

    ``places``: by pointer, or by the bare name of a setting.
    """
    for problem in found:
        parts = problem.pointer.split("/")[1:]
        spans = (places.get("/" + "/".join(parts[:n])) for n in range(len(parts), 0, -1))
        names = (places.get(part) for part in reversed(parts))
        span = next((s for s in (problem.span, *spans, *names, otherwise) if s is not None), None)
        yield replace(problem, span=span)


def _given(tool: Tool, settings: Any) -> tuple[Mapping[str, Any] | None, tuple[Diagnostic, ...]]:
    """Settings by their names, whatever form they came in."""
    if settings is None:
        return {}, ()
    names = {setting.name for setting in tool.settings}
    if isinstance(settings, Mapping):  # a command line's dit-cpu-offload is dit_cpu_offload
        settings = {_as_named(key, names): value for key, value in settings.items()}
    nested = bool(
        isinstance(settings, Mapping)
        and settings
        and not names & set(settings)
        and tool.nested is not None
        and tool.nested(settings)
    )
    if tool.short and (nested or not isinstance(settings, Mapping)):
        return {tool.short: settings}, ()
    if not isinstance(settings, Mapping):
        said = f"the settings of {tool.title} are {shown(settings)}, expected a mapping"
        return None, (finding(SETTINGS_NOT_READ, said, hint=f"such as {tool.example}"),)
    return settings, ()


def _as_named(key: Any, names: set[str]) -> Any:
    plain = key.lstrip("-").replace("-", "_") if isinstance(key, str) else key
    return plain if plain in names else key


def _unknown(tool: Tool, given: Mapping[str, Any], under: tuple[str, ...]) -> list[Diagnostic]:
    names = [setting.name for setting in tool.settings]
    strange = [key for key in given if key not in names]
    found = []
    for key in strange[:MANY]:
        hint = did_you_mean(str(key), names)
        found.append(
            finding(
                UNKNOWN_SETTING,
                f"{tool.title} has no setting {shown(key)}",
                pointer=pointer(*under, str(key)),
                hint=hint,
            )
        )
    if len(strange) > MANY:
        more = f"{len(strange) - MANY} more settings are unknown to {tool.title}"
        found.append(finding(UNKNOWN_SETTING, more))
    return found
