"""A YAML file as plain values, with the place of every key and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.source.text import SourceText, Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Values (dict, list, str, int, float, bool, None) and where each stands.

    ``spans`` and ``key_spans`` are keyed by JSON pointer (``/stages/0/runs/1``, "" for the root);
    ``sources`` are all texts read (the file first, then what it extends), for carets and ignores.
    ``overrides`` are pointers that ``--set`` wrote.
    """

    values: Mapping[str, Any]
    spans: Mapping[str, Span]
    key_spans: Mapping[str, Span]
    sources: tuple[SourceText, ...]
    overrides: tuple[str, ...] = ()
