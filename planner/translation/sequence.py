"""A class's sequence string as an equivalent plan, or as the plan that it meant to say; and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, Severity, errors, finding
from planner.diagnostics.table.p4_graph import UNKNOWN_WALK
from planner.diagnostics.table.p8_translate import NO_SEQUENCE, NOT_A_STRING
from planner.plan.model import Idle, Plan, Semantics
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.catalogue import Own
from planner.target.find import NAMELESS, SEEN, by_class
from planner.target.folder import read_folder
from planner.target.model import Target
from planner.translation.candidates import candidates, chosen
from planner.translation.convert import from_tool
from planner.translation.improve import improved, named
from planner.translation.lint import chain_of, lint, lint_string

ORIGIN = "# from enable_model_cpu_offload: {}"
"""What the tool's own translation writes in the head."""
SEQUENCE = "sequence"
"""What findings call a string that somebody gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """``text`` is the plan, with comments; empty where there is none. ``diagnostics`` say why, and what is
    wrong with the sequence; ``sources`` are the texts that they point into."""

    target: Target
    text: str
    diagnostics: tuple[Diagnostic, ...]
    sources: tuple[SourceText, ...] = ()


def translate(target: Target, *, improve: bool = False, source: str | None = None) -> Translation:
    """The plan for ``target``. Equivalent: ``semantics: diffusers`` makes the moves of
    ``enable_model_cpu_offload``, which passes over what is wrong with the class's own string: that is a
    warning here. ``improve``: ``semantics: liveness`` over what the class really runs. ``source``: the folder
    that it was read from, as the plan will name it."""
    found = tuple(d.at(Severity.WARNING) if d.severity is Severity.ERROR else d for d in lint(target))
    if improve:
        text = improved(target, source)
        found = found if text else (*found, _not_seen(target))
        return Translation(target=target, text=text, diagnostics=found)
    if target.sequence is None:
        return Translation(target=target, text="", diagnostics=tuple(_stops(found)))
    text, lost = from_tool("model-cpu-offload", {}, target, source=source)
    return Translation(target=target, text=_headed(text, target), diagnostics=(*found, *lost))


def translate_string(
    sequence: str,
    cls: str | None = None,
    version: str | None = None,
    *,
    improve: bool = False,
    own: Own = (),
) -> tuple[Translation | None, tuple[Diagnostic, ...], SourceText]:
    """The plan for a string that somebody wrote, for ``cls`` or for the classes that it fits if they have the
    same plan. None with errors: what is wrong with the string, at its place in it, or which class it is for.
    """
    source = SourceText(name=SEQUENCE, text=sequence)
    target, found = for_sequence(sequence, cls, version, own=own)
    if target is None or errors(found):
        return None, tuple(found), source
    made = translate(target, improve=improve)
    return replace(made, diagnostics=(*found, *made.diagnostics), sources=(source,)), (), source


def target_of(
    what: str, cls: str | None = None, version: str | None = None, *, own: Own = ()
) -> tuple[Target | None, list[Diagnostic]]:
    """What ``what`` stands for: a sequence string (with ``->``, or with the class ``cls`` that it is for), a
    pipeline's folder, or a class name. ``own``: catalogues of a user's own classes."""
    if is_sequence(what, cls):
        return for_sequence(what, cls, version, own=own)
    if what and Path(what).is_dir():
        return read_folder(Path(what), version=version, own_classes=own)
    return by_class(what, version or catalogue.versions()[0], own)


def folder_of(what: str) -> str | None:
    """``what`` as a plan names it, where it is a folder: a path, which no hub's id is."""
    if not what or not Path(what).is_dir():
        return None
    path = what.rstrip("/\\") or what
    return path if Path(path).is_absolute() or path.startswith((".", "~")) else f"./{path}"


def is_sequence(what: str, cls: str | None = None) -> bool:
    """Whether ``what`` is a sequence string."""
    return "->" in what or cls is not None


def for_sequence(
    sequence: str, cls: str | None = None, version: str | None = None, *, own: Own = ()
) -> tuple[Target | None, list[Diagnostic]]:
    """``cls`` with this sequence; without it the class that the string fits, where all of those have the
    same plan. What is wrong with the string is an error at its place in it."""
    source = SourceText(name=SEQUENCE, text=sequence)
    if cls is None:
        target, found = chosen(source, candidates(sequence, version), version)
    else:
        target, found = by_class(cls, version or catalogue.versions()[0], own)
        found = [d.at(Severity.ERROR) for d in found]
    if target is None:
        return None, found
    found += lint_string(source, target)
    return (None if errors(found) else replace(target, sequence=sequence)), found


def to_sequence(plan: Plan) -> tuple[str | None, tuple[Diagnostic, ...]]:
    """The sequence string that says the same as ``plan``, or why there is none."""
    problems = []
    if plan.stages is None or not plan.from_order or plan.semantics is not Semantics.DIFFUSERS:
        problems.append("only an order with semantics: diffusers is a chain")
    uses = [use for stage in plan.stages or () for use in stage.runs]
    names = [use.component for use in uses]
    problems += [f'entry point "{use}"' for use in uses if use.entry]
    problems += [f'"{n}" twice' for n in dict.fromkeys(names) if names.count(n) > 1]
    with_policy = (name for name, said in plan.components.items() if said.policy is not None)
    problems += [f'a policy for "{name}"' for name in with_policy]
    if plan.idle is Idle.KEEP:
        problems.append("idle: keep")
    said = (f"a sequence cannot say this: {problem}" for problem in problems)
    found = tuple(finding(NOT_A_STRING, text, span=plan.span) for text in said)
    return (None if found else "->".join(names)), found


def _not_seen(target: Target) -> Diagnostic:
    said = f'what runs in a "{target.cls}" is not known: neither its code nor a sequence is here'
    return finding(UNKNOWN_WALK, said, hint=SEEN.format(target.cls) if target.components else NAMELESS)


def _headed(text: str, target: Target) -> str:
    """What the string leaves unsaid, in the plan's head."""
    head = [f'# the sequence "{target.sequence}" of {named(target)}']
    outside = [n for n in target.modules if n not in chain_of(target) and n not in target.excluded]
    if outside:
        head.append("# outside the chain, on the device from the first use to the end of the call:")
        head.append(f"#   {', '.join(outside)}")
    return text.replace(f"{ORIGIN}\n", "".join(f"{line}\n" for line in head))


def _stops(found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """A class without a sequence has nothing to translate: that note is an error here."""
    return tuple(d.at(Severity.ERROR) if d.code is NO_SEQUENCE else d for d in found)
