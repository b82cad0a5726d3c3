"""Which classes a bare sequence string may be for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table.p8_translate import TAKEN_FOR, UNKNOWN_NAME, WHICH_CLASS
from planner.source.text import SourceText, Span
from planner.target import catalogue
from planner.target.model import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Classes with every component that a string names: ``exact`` ship with this very string,
    ``compatible`` with one that has the same names in the same order, and others between them. The
    shortest name first."""

    exact: tuple[Target, ...]
    compatible: tuple[Target, ...]

    @property
    def all(self) -> tuple[Target, ...]:
        """Both, the exact ones first."""
        return self.exact + self.compatible


def candidates(sequence: str, version: str | None = None) -> Candidates:
    """The classes of the catalogue that ``sequence`` fits."""
    names = sequence.split("->")
    exact, compatible = [], []
    for target in _targets(version):
        if target.sequence is None or not set(names) <= set(target.modules):
            continue
        if target.sequence == sequence:
            exact.append(target)
        elif [name for name in target.sequence.split("->") if name in names] == names:
            compatible.append(target)
    return Candidates(exact=tuple(exact), compatible=tuple(compatible))


def chosen(
    source: SourceText, fitting: Candidates, version: str | None = None
) -> tuple[Target | None, list[Diagnostic]]:
    """One of ``fitting``, with a note that says which, where all of them have the same plan; else why not."""
    targets = fitting.all
    if not targets:
        return None, _nowhere(source, version)
    first = targets[0]
    others = [target.cls for target in targets[1:]]
    span = Span(file=source.name, line=1, column=1, width=max(1, len(source.text)))
    if len({_plan(target) for target in targets}) > 1:
        said = f"{len(targets)} classes have this sequence or a compatible one, and do not run alike"
        lines = ["--class CLASS names the one that it is for"]
        lines += _listed("with this very sequence", fitting.exact)
        lines += _listed("with a longer one", fitting.compatible)
        return None, [finding(WHICH_CLASS, said, span=span, hint="\n".join(lines))]
    agree = f"; the same plan for {', '.join(others)}" if others else ", the only class that it fits"
    return first, [finding(TAKEN_FOR, f"taken for {first.cls}{agree}", span=span)]


def _plan(target: Target) -> tuple[object, ...]:
    """What a plan for it depends on, but for its name."""
    return (target.walk, tuple(target.modules), target.excluded, target.overrides)


def _nowhere(source: SourceText, version: str | None) -> list[Diagnostic]:
    """Names that no class has, at their places; else that no class has them all."""
    known = {name for target in _targets(version) for name in target.modules}
    found, offset = [], 0
    for name in source.text.split("->"):
        if name not in known:
            span = Span(file=source.name, line=1, column=offset + 1, width=max(1, len(name)))
            near = nearest(name, known)
            hint = f'did you mean "{near}"?' if near else ""
            said = f'no class of the catalogue has a component "{name}"'
            found.append(finding(UNKNOWN_NAME, said, span=span, hint=hint))
        offset += len(name) + len("->")
    said = f'no class of the catalogue has the sequence "{source.text}"'
    hint = "--class CLASS names the one that it is for"
    return [*found, finding(WHICH_CLASS, said, hint=hint)]


def _listed(what: str, targets: Sequence[Target]) -> list[str]:
    return [f"{what}: {', '.join(target.cls for target in targets)}"] if targets else []


def _targets(version: str | None) -> list[Target]:
    found = (catalogue.find(name, version) for name in catalogue.names(version))
    return sorted((t for t in found if t is not None), key=lambda t: (len(t.cls), t.cls))
