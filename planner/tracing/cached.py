"""Profiles that are kept: the call of a plan's pipeline is traced once. Reading one needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from planner.cards.kernels import Kernels
from planner.loading.builtin import quiet
from planner.loading.cache import home
from planner.loading.paths import beside
from planner.loading.written import written_text
from planner.plan.model import Plan
from planner.plan.run import IMAGES, SEED, VIDEOS
from planner.predict.profile import CallProfile
from planner.predict.stored import FORM, FormError, from_json, to_json
from planner.tracing.hollow import hollow, parts_of, source_of
from planner.tracing.trace import PACKAGES, plain, trace
from planner.version import VERSION

FOLDER = "profiles"


def profile(plan: Plan, arguments: Callable[[], Mapping[str, Any]], kernels: Kernels) -> CallProfile:
    """What the call that ``plan.run`` means takes on a card with ``kernels``.

    As it was kept for the same configs, values, kernels and versions; else traced now, with the arguments
    that ``arguments()`` makes of ``plan.run`` (it may import torch). Raises PlanError where there are no
    configs, and for what the call raises.
    """
    folder = source_of(plan)
    path = home() / FOLDER / f"{key(plan, folder, said(plan), kernels)}.json"
    with suppress(OSError, FormError):
        return from_json(path.read_text(encoding="utf-8"))
    with quiet():
        made = hollow(plan, folder=folder)
        found = trace(made.pipe, arguments(), kernels, dtypes=made.dtypes, forms=made.forms)
    found = replace(found, notes=(*made.notes, *found.notes))
    with suppress(OSError):  # it is made again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        written_text(path, to_json(found), replace=True)
    return found


def said(plan: Plan) -> dict[str, Any]:
    """``plan.run`` without its seed, which decides no shape; of files what a change would change."""
    found: dict[str, Any] = {name: value for name, value in plan.run.items() if name != SEED}
    for name in sorted(found.keys() & (IMAGES | VIDEOS)):
        for path in found[name] if isinstance(found[name], list) else [found[name]]:
            with suppress(OSError, TypeError):
                stat = beside(plan, path).stat()
                found[f"{name} {path}"] = [stat.st_size, stat.st_mtime_ns]
    return found


def key(plan: Plan, folder: Path, arguments: Mapping[str, Any], kernels: Kernels) -> str:
    """A digest of all that a profile depends on."""
    cls, parts, more = parts_of(folder)
    whole = {
        "form": FORM,
        "class": [plan.pipeline.cls, cls],
        "dtype": plan.pipeline.dtype,
        "parts": {name: [part.library, part.cls, part.config] for name, part in parts.items()},
        "more": more,
        "options": {name: one.vae_options for name, one in plan.components.items() if one.vae_options},
        "sources": {name: one.source for name, one in plan.components.items() if one.source is not None},
        "quantization": [
            [r.component, r.backend, r.match, r.classes, r.skip, sorted(map(str, r.options.items()))]
            for r in plan.quantization
        ],
        "loras": len(plan.loras),
        "arguments": {name: plain(value) for name, value in arguments.items()},
        "kernels": asdict(kernels),
        "versions": {name: metadata.version(name) for name in PACKAGES} | {"planner": VERSION},
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:32]
