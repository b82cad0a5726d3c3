"""The text that a fit begins with: a plan's own, or a new one for a class, folder, built-in or hub id."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from yaml import YAMLError

from planner.api import load
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p1_document import BAD_OVERRIDE
from planner.diagnostics.table.p3_target import NO_SUCH_SOURCE
from planner.diagnostics.table.p9_fit import NOT_EDITED
from planner.document.file import text_of
from planner.document.parse import parse
from planner.fitting.choices import Settings
from planner.fitting.edit import with_value, without_key, without_marks
from planner.fitting.wrote import without_fit
from planner.loading.builtin import builtin_folder
from planner.loading.hub_cache import cached
from planner.models.model import models
from planner.plan.model import Plan
from planner.plan.write import HEAD, to_yaml
from planner.source.text import SourceText, Span
from planner.target.catalogue import versions
from planner.target.find import by_class
from planner.target.place import BUILTIN, INDEX, place_of

ENDS = (".yaml", ".yml")
PLAIN = re.compile(r"[A-Za-z./~][\w./~-]*|builtin:[\w-]+")
"""Text that YAML reads as text, and as itself."""
PLAIN_VALUE = re.compile(r"[\w./~%-]*")
"""What YAML reads alike wherever it stands."""
NO_WORDS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Draft:
    """``plan``: to be fitted, its places those of the file that was ``given``; ``text``: what says the same,
    to write into."""

    plan: Plan
    text: SourceText
    given: SourceText


def draft_of(source: str | Path | SourceText | Plan, asked: Settings) -> Draft:
    """The plan in ``source`` without what an earlier fit chose, and with what was ``asked`` for. Raises
    PlanError."""
    given = _text(source)
    load(given)  # what is wrong with it is told where it stands, before anything is written into it
    text, plan = _unfitted(given)
    meant = _with(plan, asked)
    return Draft(meant, edited(text, asked, meant).document.sources[0], given)


def _unfitted(given: SourceText) -> tuple[SourceText, Plan]:
    """Without what an earlier fit chose, where what was added by hand means something without that."""
    unfitted = without_fit(given.text)
    text = SourceText(name=given.name, text=unfitted.text)
    try:
        plan, there = _with(given, unfitted.settings), load(text)
    except PlanError:
        return SourceText(name=given.name, text=without_marks(given.text)), load(given)
    return text, plan if _alike(plan, there) else there  # what it extends may have such keys too


def _with(source: SourceText | Plan, settings: Settings) -> Plan:
    return load(source, overrides=[f"{key}={value}" for key, value in settings])


def edited(text: SourceText, settings: Settings, meant: Plan, said: Mapping[str, str] = NO_WORDS) -> Plan:
    """The plan in ``text`` with ``settings`` written into it, which then says what ``meant`` says; ``said``:
    a comment above a key. Raises PlanError (P997) where the text is written in a way that no edit was found
    for."""
    full = tuple((key, value) for key, value in settings if value_of(value) is not None)
    own = text.text
    for key in (key for key, value in settings if value_of(value) is None):
        own = without_key(own, key.split("."))
    try:  # nothing removes what the text says, and what is not there is gone
        return as_meant(_written_into(SourceText(name=text.name, text=own), full, said), meant)
    except PlanError:  # what another plan has is removed in words
        if len(full) == len(settings):
            raise
        return as_meant(_written_into(text, settings, said), meant)


def _written_into(
    text: SourceText, settings: Sequence[tuple[str, str]], said: Mapping[str, str]
) -> SourceText:
    """Nothing where it cannot be edited."""
    made = text.text
    try:
        for key, value in settings:
            made = with_value(made, key.split("."), _flow(value), said.get(key, ""))
    except (ValueError, YAMLError):
        made = ""
    return SourceText(name=text.name, text=made)


def as_meant(text: SourceText, meant: Plan) -> Plan:
    """The plan in ``text``, an edited one. Raises PlanError (P997) where it says other than ``meant``."""
    plan = None
    with suppress(PlanError):
        plan = load(text)
    if plan is None or not _alike(plan, meant):
        said = f'"{text.name}" is laid out in a way that no choice can be written into'
        raise PlanError([finding(NOT_EDITED, said, hint="plan explain --as yaml lays a plan out plainly")])
    return plan


def _alike(plan: Plan, other: Plan) -> bool:
    return _full(plan.document.values) == _full(other.document.values)


def _full(values: Mapping[str, object]) -> dict[str, object]:
    """Without mappings that hold nothing: a key that was removed leaves one."""
    inner = {key: _full(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    return {key: value for key, value in inner.items() if value != {}}


def value_of(text: str) -> object:
    """What YAML reads in a setting's value; the text itself where it is none."""
    node, found = parse(SourceText(name="", text=text))
    return text if found and text.strip() else None if node is None else node.value


def _flow(text: str) -> str:
    """YAML that means ``text`` within braces too."""
    value = value_of(text)
    plain = PLAIN_VALUE.fullmatch(text) or not isinstance(value, str)
    return text if plain else json.dumps(value, ensure_ascii=False)


def settings_for(
    vram: str | int | None = None,
    ram: str | int | None = None,
    pinned: str | int | None = None,
    idle: str | None = None,
    run: Mapping[str, object] | None = None,
    overrides: Sequence[str] = (),
) -> Settings:
    """What is asked for, as settings: bytes where a number is given. Raises PlanError."""
    found = []
    for key, amount in (("vram", vram), ("ram", ram), ("pinned", pinned)):
        if amount is not None:
            found.append((f"budget.{key}", f"{amount}B" if isinstance(amount, int) else str(amount)))
    if idle is not None:
        found.append(("idle", idle))
    for name, value in (run or {}).items():
        found.append((f"run.{name}", json.dumps(value, ensure_ascii=False)))
    for said in overrides:
        key, sign, value = said.partition("=")
        if not sign:
            raise PlanError([finding(BAD_OVERRIDE, f'expected KEY=VALUE, found "{said}"')])
        found.append((key.strip(), value.strip()))
    return tuple(found)


def _text(source: str | Path | SourceText | Plan) -> SourceText:
    if isinstance(source, SourceText):
        return source
    if isinstance(source, Plan):
        first = source.document.sources[0]
        plain = len(source.document.sources) == 1 and not source.document.overrides
        return first if plain else SourceText(name=first.name, text=to_yaml(source))
    said = str(source)
    if said.endswith(ENDS) or Path(said).is_file():
        text, found = text_of(Path(said), None)
        if text is None:
            raise PlanError(found)
        return text
    return _new(said)


def _new(said: str) -> SourceText:
    """Of a class by its name alone; else of what its index says that it is."""
    if said.isidentifier() and not Path(said).exists():
        return _written(said, said)
    if said.startswith(BUILTIN):
        folder = builtin_folder(said.removeprefix(BUILTIN), Span(file=said, line=1, column=1))
        return _written(said.removeprefix(BUILTIN), _class(folder, said), said)
    if (model := models().get(said)) is not None and not Path(said).exists():
        return _written(said.rpartition("/")[2], model.cls, said, model.dtype)
    place = place_of(said)
    if (there := cached(said)) is not None:
        return _written(said.rpartition("/")[2], _class(there[0], said), said)
    if not place.here or place.kind == "file":
        what = place.said or f'no configs of "{said}" are here'
        hint = place.hint or "a class, a folder, a plan's file"
        raise PlanError([finding(NO_SUCH_SOURCE, what, hint=hint)])
    shown = f"./{said}" if Path(said).is_dir() and not said.startswith((".", "/", "~")) else said
    return _written(Path(said).name, _class(place.path, said), shown)


def _class(folder: Path, said: str) -> str:
    try:
        return str(json.loads((folder / INDEX).read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError) as error:
        raise PlanError([finding(NO_SUCH_SOURCE, f'no pipeline in "{said}": {error}')]) from error


def _written(name: str, cls: str, source: str = "", dtype: str = "") -> SourceText:
    """With a prompt where the class takes one: a call needs it, and every prompt takes as long."""
    parts = (f"class: {cls}", f"source: {_plain(source)}" * bool(source), f"dtype: {dtype}" * bool(dtype))
    pipeline = f"{{{', '.join(filter(None, parts))}}}"
    text = f"{HEAD}version: 1\nname: {_plain(name)}\npipeline: {pipeline}\n"
    target, _ = by_class(cls, versions()[0])
    if target is not None and target.call is not None and "prompt" in target.call.arguments:
        text += "run: {prompt: a cat}\n"
    return SourceText(name=f"{name}.plan.yaml", text=text)


def _plain(text: str) -> str:
    return text if PLAIN.fullmatch(text) else json.dumps(text)
