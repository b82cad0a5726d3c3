"""What a plan reads: none of it may ever be written over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planner.diagnostics.place import in_file
from planner.loading.paths import beside
from planner.loading.pickles import PICKLES
from planner.plan.model import Plan
from planner.source.text import Span

PRECIOUS = (".safetensors", ".gguf", ".yaml", ".yml", ".py", ".plan", *PICKLES)
"""Suffixes of weights, plans and code: no output or report has one, so none replaces such a file."""


def read_by(plan: Plan, path: Path) -> str | None:
    """What ``path`` is to ``plan``, in words, if a run reads it: the same file by whatever name, or one
    inside a folder that it loads from. None otherwise."""
    for what, read in _reads(plan):
        if _same(path, read) or (read.is_dir() and path.resolve().is_relative_to(read.resolve())):
            return what
    return None


def _reads(plan: Plan) -> Iterator[tuple[str, Path]]:
    for source in plan.document.sources:
        if in_file(Span(file=source.name, line=1, column=1)) is not None:
            yield "a plan that is read", Path(source.name)
    named = [plan.pipeline.source, *(said.source for said in plan.components.values())]
    yield from (("weights that are read", beside(plan, text)) for text in named if text)
    for lora in plan.loras:
        yield "a LoRA that is read", beside(plan, lora.lora_id)
    for name, value in plan.run.items():
        # A prompt is a string too: a file of that name beside the plan is none that a run reads.
        if "prompt" not in name:
            yield from ((f'the "{name}" of run', beside(plan, text)) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (text for inner in value for text in _texts(inner))


def _same(path: Path, read: Path) -> bool:
    try:
        return path.samefile(read)
    except (OSError, ValueError):
        return False
