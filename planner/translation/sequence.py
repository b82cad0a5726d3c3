"""A class's sequence string as an equivalent plan, or as the plan that it meant to say; and back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.table.p8_translate import NO_SEQUENCE, NOT_A_STRING, WHICH_CLASS
from planner.plan.model import Idle, Plan, Semantics
from planner.target import catalogue
from planner.target.find import by_class
from planner.target.folder import read_folder
from planner.target.model import Target
from planner.translation.improve import improved
from planner.translation.lint import chain_of, lint
from planner.translation.tools.convert import from_tool

ORIGIN = "# from enable_model_cpu_offload: {}"
"""What the tool's own translation writes in the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """``text`` is the plan, with comments; empty where there is none. ``diagnostics`` say why, and what is
    wrong with the sequence."""

    target: Target
    text: str
    diagnostics: tuple[Diagnostic, ...]


def translate(target: Target, *, improve: bool = False) -> Translation:
    """The plan for ``target``. Equivalent: ``semantics: diffusers`` makes the moves of
    ``enable_model_cpu_offload``. ``improve``: ``semantics: liveness`` over what the class really runs."""
    found = lint(target)
    if improve:
        return Translation(target=target, text=improved(target), diagnostics=found)
    if target.sequence is None:
        return Translation(target=target, text="", diagnostics=tuple(_stops(found)))
    text, lost = from_tool("model-cpu-offload", {}, target)
    return Translation(target=target, text=_headed(text, target), diagnostics=(*found, *lost))


def target_of(
    what: str, cls: str | None = None, version: str | None = None
) -> tuple[Target | None, list[Diagnostic]]:
    """What ``what`` stands for: a sequence string (with ``->``, or with the class ``cls`` that it is for), a
    pipeline's folder, or a class name."""
    if "->" in what or cls is not None:
        return for_sequence(what, cls, version)
    if Path(what).is_dir():
        return read_folder(Path(what), version=version)
    return by_class(what, version or catalogue.versions()[0])


def for_sequence(
    sequence: str, cls: str | None = None, version: str | None = None
) -> tuple[Target | None, list[Diagnostic]]:
    """A class with this sequence: ``cls``, else the one with the shortest name that ships with it."""
    if cls is None:
        have = [n for n in catalogue.names(version) if _sequence(n, version) == sequence]
        cls = min(have, key=lambda name: (len(name), name), default=None)
    target = catalogue.find(cls, version) if cls is not None else None
    if target is None:
        said = (
            f'no class of the catalogue has the sequence "{sequence}"' if cls is None else f'no class "{cls}"'
        )
        return None, [finding(WHICH_CLASS, said, hint="--class CLASS names the one that it is for")]
    return replace(target, sequence=sequence), []


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


def _headed(text: str, target: Target) -> str:
    """What the string leaves unsaid, in the plan's head."""
    head = [f'# the sequence "{target.sequence}" of {target.cls}, diffusers {target.version}']
    outside = [n for n in target.modules if n not in chain_of(target) and n not in target.excluded]
    if outside:
        head.append("# outside the chain, on the device from the first use to the end of the call:")
        head.append(f"#   {', '.join(outside)}")
    return text.replace(f"{ORIGIN}\n", "".join(f"{line}\n" for line in head))


def _stops(found: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """A class without a sequence has nothing to translate: that note is an error here."""
    return tuple(d.at(Severity.ERROR) if d.code is NO_SEQUENCE else d for d in found)


def _sequence(cls: str, version: str | None) -> str | None:
    target = catalogue.find(cls, version)
    return None if target is None else target.sequence
