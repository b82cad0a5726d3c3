"""A plan checked for serving, before a replica starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.api import compile, load
from planner.batches.devices import kind_for_ray
from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_batch import WORKERS_REFUSED
from planner.diagnostics.table.p9_serve import BAD_SERVE_ARGUMENT
from planner.plan.model import Plan
from planner.plan.run import SEED
from planner.serving.arguments import Arguments
from planner.serving.request import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What replicas are made of. ``device``: of each; ``threads``: that torch computes with; ``info``: what a
    GET answers before a replica says more."""

    asked: Asked
    device: str
    threads: int
    replicas: int
    info: Mapping[str, Any]


def build(given: Arguments, gpus: int | None) -> Built:
    """``gpus``: that Ray has, None where it is not connected: then those of this machine. Nothing of the
    weights is read. Raises PlanError for a plan that is wrong, for a class or device that is not there."""
    import torch

    from planner.loading.builtin import quiet
    from planner.loading.inputs import input_findings, signature
    from planner.loading.pipeline import class_of

    # Its place is the same for a replica, which works in another folder.
    plan = load(str(Path(given.plan).absolute()), overrides=(*given.set, "idle=keep"))
    compiled = compile(plan)
    kind = kind_for_ray(plan, simulate=given.simulate)
    replicas = given.num_replicas or _replicas(plan, kind, gpus)
    with quiet():  # importing a pipeline says which image library it falls back to
        cls = class_of(plan)
    if found := input_findings(plan):
        raise PlanError(found, plan.document.sources)
    call = compiled.target.call or signature(cls)
    asked = Asked(plan=plan, call=call, cls=cls.__name__, arguments=given.arguments)
    if strange := [n for n in given.arguments or () if n != SEED and n not in call.arguments]:
        said = f'{cls.__name__} has no argument "{strange[0]}" that a request may have'
        raise PlanError([finding(BAD_SERVE_ARGUMENT, said, hint=did_you_mean(strange[0], [*call.arguments]))])
    return Built(
        asked=asked,
        device=f"{kind}:0",
        threads=torch.get_num_threads(),
        replicas=replicas,
        info={
            "plan": plan.name,
            "class": asked.cls,
            "device": kind,
            "arguments": asked.names,
        },
    )


def _replicas(plan: Plan, kind: str, gpus: int | None) -> int:
    if kind == "sim":
        return 1
    import torch

    there = gpus if gpus is not None else torch.cuda.device_count()
    if not there:
        where = "this machine" if gpus is None else "Ray's cluster"
        said = f'the plan\'s device is "{plan.device}", and {where} has no GPU'
        hint = "simulate=true, or num_replicas=N for a cluster that has some"
        raise PlanError([finding(WORKERS_REFUSED, said, span=plan.place("/device"), hint=hint)])
    return there
