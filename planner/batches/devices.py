"""Which devices a batch's workers have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import WORKERS_REFUSED
from planner.plan.model import Plan

if TYPE_CHECKING:
    import torch


def placed(plan: Plan, workers: int | None, *, simulate: bool) -> list[str]:
    """A device for each of ``workers``; None: one for each device that the plan's device key allows, and one
    in simulation, where each process has a ``sim:0`` of its own.

    Raises PlanError where there is no device, and for more workers than devices (P968).
    """
    if simulate:
        return ["sim:0"] * (workers or 1)
    allowed = [str(device) for device in _allowed(plan)]
    if workers is not None and workers > len(allowed):
        said = f'{workers} workers, and the plan\'s device "{plan.device}" is {", ".join(allowed)} here'
        raise PlanError([finding(WORKERS_REFUSED, said, span=plan.place("/device"))])
    return allowed[:workers]


def kind_for_ray(plan: Plan, *, simulate: bool) -> str:
    """The kind of device that each of Ray's actors has one of, at 0: ``auto`` is CUDA, whatever the machine
    has that the batch is started from. Raises PlanError where the plan wants one by its index (P968)."""
    if simulate:
        return "sim"
    _, _, index = plan.device.partition(":")
    if index or plan.device == "mps":
        said = f'the plan\'s device is "{plan.device}", and which GPU an actor has is for Ray to say'
        raise PlanError([finding(WORKERS_REFUSED, said, span=plan.place("/device"), hint="device: cuda")])
    return kind_of(plan)


def kind_of(plan: Plan) -> str:
    """Of the device that the plan wants: ``auto`` is CUDA."""
    kind = plan.device.partition(":")[0]
    return "cuda" if kind == "auto" else kind


def _allowed(plan: Plan) -> list[torch.device]:
    import torch

    from planner.session.machine import pick_device

    first = pick_device(plan)
    if plan.device != "auto" and torch.device(plan.device).index is not None:
        return [first]
    count = torch.get_device_module(first).device_count()
    return [torch.device(first.type, index) for index in range(max(1, count))]
