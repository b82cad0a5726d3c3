"""What is wrong with a ``model_cpu_offload_seq``, as diffusers reads it (pipeline_utils.py, 0.42.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from planner.diagnostics.diagnostic import Diagnostic, Severity, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p8_translate import (
    EMPTY_SEQUENCE,
    NEVER_FREES,
    NO_SEQUENCE,
    OUTSIDE,
    OWN_OFFLOAD,
    REPEATED_NAME,
    SEQUENCED_AND_EXCLUDED,
    UNKNOWN_NAME,
)
from planner.source.text import SourceText, Span
from planner.target.model import Target

NEVER_FREE = frozenset(
    {
        "AudioLDMPipeline",
        "DanceDiffusionPipeline",
        "LDMTextToImagePipeline",
        "RePaintPipeline",
        "SemanticStableDiffusionPipeline",
        "StableDiffusionPipelineSafe",
        "VersatileDiffusionDualGuidedPipeline",
        "VersatileDiffusionImageVariationPipeline",
        "VersatileDiffusionTextToImagePipeline",
    }
)
"""Classes with a sequence whose ``__call__`` does not reach ``maybe_free_model_hooks`` (0.42.1)."""


SEPARATORS = re.compile(r"->|=>|→|[\s,;>+|]+")
"""What people write between names; diffusers knows the first alone."""


def lint(target: Target) -> tuple[Diagnostic, ...]:
    """Defects of the sequence as errors, and what it leaves unsaid as notes."""
    return tuple(_lint(target))


def lint_string(source: SourceText, target: Target) -> list[Diagnostic]:
    """What is wrong with a string that somebody wrote for ``target``, each at its place in ``source``.

    Names are taken as diffusers takes them: spaces belong to them.
    """
    found, offset = [], 0
    names = source.text.split("->")
    for number, name in enumerate(names):
        span = Span(file=source.name, line=1, column=offset + 1, width=max(1, len(name)))
        problem = _name(name, names[:number], target)
        if problem is not None:
            found.append(replace(problem, span=span))
        elif name in target.excluded:
            said = f'"{name}" is excluded by "{target.cls}", and would be offloaded'
            found.append(finding(SEQUENCED_AND_EXCLUDED, said, span=span).at(Severity.WARNING))
        offset += len(name) + len("->")
    return found


def chain_of(target: Target) -> tuple[str, ...]:
    """The sequence as diffusers follows it: names that are none and second ones are passed over.

    Names are compared as they stand: spaces are not stripped.
    """
    names = (target.sequence or "").split("->")
    return tuple(dict.fromkeys(name for name in names if name in target.components))


def _lint(target: Target) -> Iterator[Diagnostic]:
    if target.overrides:
        yield finding(OWN_OFFLOAD, f'"{target.cls}" has an enable_model_cpu_offload of its own')
    if target.cls in NEVER_FREE:
        yield finding(NEVER_FREES, f'the call of "{target.cls}" never frees its hooks')
    if target.sequence is None:
        yield finding(NO_SEQUENCE, f'"{target.cls}" has no model_cpu_offload_seq')
        return
    if not target.sequence:
        yield finding(EMPTY_SEQUENCE, f'the sequence of "{target.cls}" is empty')
        return
    names = target.sequence.split("->")
    problems = (_name(name, names[:number], target) for number, name in enumerate(names))
    yield from (problem for problem in problems if problem is not None)
    for name in chain_of(target):
        if name in target.excluded:
            said = f'"{name}" is in the sequence of "{target.cls}" and excluded'
            yield finding(SEQUENCED_AND_EXCLUDED, said)
    for name in target.modules:
        if name not in names and name not in target.excluded:
            yield finding(OUTSIDE, f'"{name}" of "{target.cls}" is outside the chain')


def _name(name: str, before: Collection[str], target: Target) -> Diagnostic | None:
    """What diffusers passes over in silence: a name that is none, and a second one."""
    if name in target.modules:
        said = f'"{name}" stands twice in the sequence of "{target.cls}"'
        return finding(REPEATED_NAME, said) if name in before else None
    if name in target.components:
        said = f'"{name}" of "{target.cls}" has no weights'
    else:
        said = f'"{target.cls}" has no component "{name}"'
    hint = did_you_mean(name.strip(), target.modules)
    if name.strip() in target.modules:
        hint = f'"{name.strip()}" without spaces: diffusers does not strip them'
    parts = [part for part in SEPARATORS.split(name.strip()) if part]
    if len(parts) > 1 and set(parts) <= set(target.modules):
        hint = f'names stand between "->" and nothing else: "{"->".join(parts)}"'
    return finding(UNKNOWN_NAME, said, hint=hint)
