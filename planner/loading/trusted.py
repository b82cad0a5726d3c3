"""Which Python code a source may name: that of diffusers and transformers, unless more is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from planner.target.index import trusted

HINT = "--trust-remote-code, or trust_remote_code=True, if you trust it"


class Untrusted(Exception):
    """A source names a package whose import would run its code."""


def class_in(library: str, name: str, trust: bool = False) -> Any:
    """The class ``name`` of ``library``, as a pipeline's index names them. Raises Untrusted before anything
    of another package is imported, and ValueError for what is no class that loads."""
    from diffusers import pipelines

    # Some pipelines bring models of their own.
    own = getattr(pipelines, library, None) if library.isidentifier() else None
    if isinstance(own, ModuleType) and own.__name__.startswith("diffusers.pipelines."):
        found = getattr(own, name, None)
    elif library.partition(".")[0] in ("diffusers", "transformers") or trust:
        found = getattr(import_module(library), name, None)
    else:
        raise Untrusted(library)
    if not isinstance(found, type) or not hasattr(found, "from_pretrained"):
        raise ValueError(f'"{library}" has no class "{name}" that can be loaded')
    return found


def check_index(index: Mapping[str, Any], names: Iterable[str], trust: bool = False) -> None:
    """Raises Untrusted for a component of ``names`` from another package; with ``trust`` imports it, as
    diffusers expects of the code that loads the pipeline."""
    for name in names:
        match index.get(name):
            case [str() as library, str()] if not trusted(library):
                if not trust:
                    raise Untrusted(library)
                import_module(library)
