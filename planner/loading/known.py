"""Classes that no shipped catalogue has, as a caller shows them: catalogue files, or the classes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.catalogue import Catalogue, Own
from planner.target.model import Target
from planner.target.own import read_own

VARIABLE = "OFFLOAD_PLANNER_CATALOGUE"
"""The environment variable that names catalogue files, separated as PATH is."""

Given = str | Path | type | Iterable[str | Path | type]
"""Catalogue files and pipeline classes, or one of them."""


def own_of(given: Given) -> tuple[Own, list[Diagnostic], tuple[SourceText, ...]]:
    """The catalogues in ``given`` and then in the environment, what is wrong with them, and their texts.

    A class is read from its own source (``planner.generate``). Raises PlanError for what is no class of a
    pipeline.
    """
    items = [given] if isinstance(given, (str, Path, type)) else list(given)
    items += [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    own: list[Any] = []
    found: list[Diagnostic] = []
    texts: list[SourceText] = []
    for item in items:
        if isinstance(item, type):
            own.append(_catalogue_of(item))
            continue
        values, problems, sources = read_own(Path(item))
        own += [] if values is None else [values]
        found += problems
        texts += sources
    return tuple(own), found, tuple(texts)


def known_of(pipe: Any, own: Own) -> Target | None:
    """What is known of the class of a loaded pipeline that diffusers does not ship: from ``own``, else from
    its source. None for diffusers' own classes, and where the source does not say what it runs."""
    cls = _class(pipe)
    if any(cls.__name__ in file["classes"] for file in own):
        return Catalogue(catalogue.versions()[0], own).find(cls.__name__)
    shipped = cls.__module__.startswith("diffusers.") and catalogue.find(cls.__name__) is not None
    if shipped or "DiffusionPipeline" not in {base.__name__ for base in cls.__mro__}:
        return None
    try:
        made = _catalogue_of(cls)
    except Exception:  # anybody's source: what cannot be read is planned as what it is made from
        return None
    target = Catalogue(catalogue.versions()[0], (made,)).find(cls.__name__)
    return target if target is not None and target.walk is not None else None


def _class(pipe: Any) -> type:
    """Without the class that a session gives a pipeline while it lasts."""
    from planner.session.pipeline_class import session_of

    return type(pipe).__mro__[1] if session_of(pipe) is not None else type(pipe)


@lru_cache(maxsize=32)
def _catalogue_of(cls: type) -> Any:
    from planner.generate.own import catalogue_of

    return catalogue_of([cls])
