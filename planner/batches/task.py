"""What a batch and its workers say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic
from planner.source.text import SourceText, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A row as it travels to a worker. ``run``: the plan's with the row's over it; ``key``: of its output;
    ``shape``: rows of one shape run the same kernels on the same sizes."""

    id: str
    run: Mapping[str, Any]
    key: str
    shape: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is told when it starts. ``plan``: packed; ``device``: of torch; ``token``: of the batch
    that holds ``out``, an absolute path; ``threads``: that torch computes with, which the order of a sum on
    a CPU depends on; ``shares``: weights with the other workers of its machine; ``largest``: the call for
    which a card is to have room, None where nobody says."""

    plan: bytes
    device: str
    out: Path
    token: str
    threads: int
    shares: bool = False
    largest: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why no row can run in a worker: a PlanError, which is not one any more when it is pickled."""

    diagnostics: tuple[Diagnostic, ...]
    sources: tuple[SourceText, ...]
