"""What a fit wrote into a plan's text: named in the text itself, and taken out again before the next fit.

``# fit: wrote {components: {unet: {policy: stream}}}`` has keys and values as a plan would, and
``# fit: in place of {"components.unet": "stream"}`` what stood there, where something did. A key that no
longer has the value that is named was changed by hand, and stays.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.document.node import flatten
from planner.document.parse import parse
from planner.fitting.choices import Settings
from planner.fitting.edit import entry_at, marks, with_text, without_entry, without_marks
from planner.source.text import SourceText

WROTE = "wrote "
BEFORE = "in place of "
HOW_IT_STREAMS = ("resident", "prefetch")
"""With one of these a component has to stream: its policy is not taken out where they were added by hand."""
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unfitted:
    """``text``: as it was before a fit wrote into it; ``settings``: what was taken out, for ``--set`` to take
    it out of what the text said."""

    text: str
    settings: Settings = ()


def marks_of(text: str, settings: Settings) -> tuple[str, ...]:
    """Lines that name ``settings``, which are to be written into ``text``, and what stands there now."""
    wrote: dict[str, Any] = {}
    before: dict[str, str] = {}
    for key, value in settings:
        path = tuple(key.split("."))
        below = wrote
        for name in path[:-1]:
            below = below.setdefault(name, {})
        below[path[-1]] = value
        for depth in range(1, len(path) + 1):
            found = entry_at(text, path[:depth])
            if found is None:
                break
            if depth == len(path) or not found.names:
                before.setdefault(".".join(path[:depth]), found.written)
                break
    lines = [WROTE + _flow(wrote)] if wrote else []
    return (*lines, *([BEFORE + json.dumps(before, ensure_ascii=False)] if before else []))


def without_fit(text: str) -> Unfitted:
    """``text`` without the comments of a fit, and without what it wrote that stands as it wrote it."""
    wrote: dict[Path, Any] = {}
    before: dict[Path, str] = {}
    for line in marks(text):
        if line.startswith(WROTE):
            wrote |= _leaves((), _values(line.removeprefix(WROTE)))
        elif line.startswith(BEFORE):
            before |= _stood(line.removeprefix(BEFORE))
    made, gone = without_marks(text), []
    newest = list(reversed(wrote.items()))
    for path, value in sorted(newest, key=lambda one: one[0][-1] == "policy"):
        if path[-1] == "policy" and {*HOW_IT_STREAMS} & {*(_at(_values(made), path[:-1]) or {})}:
            continue
        found = _without(made, path, value, before)
        if found is not None:
            made, one = found
            gone.append(one)
    for path, stood in before.items():
        if path not in wrote:
            made = _closed(made, path, stood)
    return Unfitted(made, tuple(gone))


def _without(
    text: str, path: Path, value: Any, before: Mapping[Path, str]
) -> tuple[str, tuple[str, str]] | None:
    """Without ``value`` at ``path``, and mappings above that have nothing else; None where another value is
    there, or it cannot be taken out without a loss."""
    values = _values(text)
    found = _at(values, path)
    if found is None or type(found) is not type(value) or found != value:
        return None
    if path in before:
        made, meant = with_text(text, path, before[path]), _values(before[path])
        setting = ".".join(path), before[path]
    else:
        while len(path) > 1 and path[:-1] not in before and len(_at(values, path[:-1])) == 1:
            path = path[:-1]
        made, meant, setting = without_entry(text, path), None, (".".join(path), "")
    if made is None or _values(made) != _with(values, path, meant, keep=path in before):
        return None
    return made, setting


def _closed(text: str, path: Path, stood: str) -> str:
    """The short form again (``unet: stream``), where nothing else is left of the mapping that opened it."""
    found = entry_at(text, path)
    if found is None or not found.flow or len(found.names) > 1:
        return text
    if found.names:
        inner = entry_at(text, (*path, found.names[0]))
        alike = inner is not None and inner.written == stood and found.names[0] in ("class", "policy")
        return (with_text(text, path, stood) if alike else None) or text
    return text if stood.startswith("{") else with_text(text, path, stood) or text


def _at(values: Any, path: Path) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values


def _with(values: Any, path: Path, value: Any, *, keep: bool) -> Any:
    name, *rest = path
    made = dict(values)
    if rest:
        made[name] = _with(values[name], tuple(rest), value, keep=keep)
    elif keep:
        made[name] = value
    else:
        del made[name]
    return made


def _flow(values: Mapping[str, Any]) -> str:
    parts = (f"{name}: {one if isinstance(one, str) else _flow(one)}" for name, one in values.items())
    return f"{{{', '.join(parts)}}}"


def _values(text: str) -> Any:
    """What ``text`` says; None where it is no YAML."""
    node, found = parse(SourceText(name="", text=text))
    return None if node is None or found else flatten(node)[0]


def _leaves(path: Path, values: Any) -> dict[Path, Any]:
    if not isinstance(values, Mapping):
        return {path: values} if path else {}
    return {
        one: leaf for name, below in values.items() for one, leaf in _leaves((*path, name), below).items()
    }


def _stood(said: str) -> Iterator[tuple[Path, str]]:
    try:
        found = json.loads(said)
    except ValueError:
        return
    if isinstance(found, dict):
        yield from ((tuple(key.split(".")), one) for key, one in found.items() if isinstance(one, str))
