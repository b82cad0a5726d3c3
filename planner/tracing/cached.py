"""Profiles that are kept: the call of a plan's pipeline is traced once. Reading one needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from planner.cards.kernels import Kernels
from planner.loading.cache import home
from planner.plan.model import Plan
from planner.predict.profile import CallProfile
from planner.predict.stored import FORM, FormError, from_json, to_json
from planner.tracing.hollow import hollow, parts_of, source_of
from planner.tracing.trace import PACKAGES, plain, trace
from planner.version import VERSION

FOLDER = "profiles"


def profile(plan: Plan, arguments: Mapping[str, Any], kernels: Kernels) -> CallProfile:
    """What the call of ``plan``'s pipeline with ``arguments`` takes on a card with ``kernels``.

    Traced now, or as it was kept for the same configs, arguments, kernels and versions. Raises PlanError
    where there are no configs, and for what the call raises.
    """
    folder = source_of(plan)
    path = home() / FOLDER / f"{key(plan, folder, arguments, kernels)}.json"
    with suppress(OSError, FormError):
        return from_json(path.read_text(encoding="utf-8"))
    made = hollow(plan, folder=folder)
    found = trace(made.pipe, arguments, kernels, dtypes=made.dtypes)
    found = replace(found, notes=(*made.notes, *found.notes))
    with suppress(OSError):  # it is made again next time
        _keep(path, to_json(found))
    return found


def key(plan: Plan, folder: Path, arguments: Mapping[str, Any], kernels: Kernels) -> str:
    """A digest of all that a profile depends on."""
    cls, parts, more = parts_of(folder)
    said = {
        "form": FORM,
        "class": [plan.pipeline.cls, cls],
        "dtype": plan.pipeline.dtype,
        "parts": {name: [part.library, part.cls, part.config] for name, part in parts.items()},
        "more": more,
        "tiling": {name: one.tiling for name, one in plan.components.items() if one.tiling is not None},
        "sources": {name: one.source for name, one in plan.components.items() if one.source is not None},
        "quantization": [[rule.component, rule.backend] for rule in plan.quantization],
        "loras": len(plan.loras),
        "arguments": {name: plain(value) for name, value in arguments.items()},
        "kernels": asdict(kernels),
        "versions": {name: metadata.version(name) for name in PACKAGES} | {"planner": VERSION},
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _keep(path: Path, text: str) -> None:
    """Whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".making-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
