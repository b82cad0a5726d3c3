"""What this machine has: which accelerator, and how much of its memory a plan may count on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from planner.cards.data import CardData
from planner.cards.shipped import find_card
from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p7_session import CPU_REFUSED, DEVICE_TWICE, NO_ACCELERATOR
from planner.plan.model import Plan
from planner.report.model import DeviceInfo
from planner.schedule.card import CONTEXT, LEFT_FREE, MAPPED, SIMULATED, Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Bytes: ``budget`` for this process as the driver sees it, ``overhead`` of it not for weights,
    ``total`` of the card. None where the backend does not say."""

    budget: int | None
    overhead: int
    total: int | None

    def beside(self, weights: int) -> Room:
        """With so many bytes of host memory registered, where that takes some of the card's."""
        return replace(self, overhead=self.overhead + weights // MAPPED) if self.overhead else self


def pick_device(
    plan: Plan, device: str | torch.device | None = None, gpu_id: int | None = None
) -> torch.device:
    """The execution device, with its index: the argument, else the plan's, else the one that is there.

    The index defaults to 0, and 0 means 0 whatever was used before (diffusers' ``gpu_id or index or
    previous`` takes 0 for "not given"). Raises PlanError.
    """
    asked = torch.device(device) if device is not None else None
    if gpu_id is not None and asked is not None and asked.index is not None:
        raise PlanError([finding(DEVICE_TWICE, f'gpu_id {gpu_id} and device "{asked}" both give an index')])
    if asked is None and plan.device != "auto":
        asked = torch.device(plan.device)
        if gpu_id is not None and asked.index is not None:
            raise PlanError(
                [
                    finding(
                        DEVICE_TWICE,
                        f'gpu_id {gpu_id} and the plan\'s device "{asked}" both give an index',
                        span=plan.place("/device"),
                    )
                ]
            )
    if asked is None:
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if found is None:
            raise PlanError(
                [finding(NO_ACCELERATOR, "no accelerator was found on this machine", hint="try --simulate")]
            )
        asked = found
    if asked.type == "cpu":
        refused = finding(CPU_REFUSED, 'the execution device may not be "cpu"', hint="try --simulate")
        raise PlanError([refused])
    index = gpu_id if gpu_id is not None else asked.index or 0
    _check_there(asked.type, index, plan)
    return torch.device(asked.type, index)


def room(plan: Plan, device: torch.device) -> tuple[Room, tuple[Diagnostic, ...]]:
    """How much the plan may use, by the rules of ``planner.schedule.card``: its ``budget.vram``, at most what
    is free less ``leave_free``."""
    card = card_on(device)
    found, lowered = card.room(plan, 0)
    return Room(budget=found.budget, overhead=found.overhead, total=card.total), tuple(lowered)


def card_on(device: torch.device) -> Card:
    """A device as a card, as free as it is now."""
    info = describe_device(device)
    module = torch.get_device_module(device)
    held = int(module.memory_reserved(device)) if hasattr(module, "memory_reserved") else 0
    context = CONTEXT if device.type == "cuda" else 0
    # The context is there by now, since asking makes it: what is free is without it.
    free = None if info.free is None else info.free + held + context
    left = SIMULATED.left if device.type == "sim" else LEFT_FREE
    return Card(
        name=info.name,
        kind=info.kind,
        total=info.total,
        free=free,
        context=context,
        held=held,
        left=left,
        data=card_data(device),
    )


def card_data(device: torch.device) -> CardData | None:
    """The rates of a card by its name, where a card that ships has it."""
    if device.type != "cuda":
        return None
    kind = describe_device(device).kind or ""
    return find_card(kind)[0]


def describe_device(device: torch.device) -> DeviceInfo:
    """The device as people know it, with the memory that it has and that is free now."""
    module = torch.get_device_module(device)
    query = getattr(module, "mem_get_info", None)
    free, total = query(device) if query is not None else (None, None)
    kind = module.get_device_name(device) if hasattr(module, "get_device_name") else None
    return DeviceInfo(name=str(device), kind=kind, total=total, free=free)


def devices() -> tuple[DeviceInfo, ...]:
    """Every accelerator that torch sees; empty where there is none."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None:
        return ()
    return tuple(
        describe_device(torch.device(found.type, index)) for index in range(torch.accelerator.device_count())
    )


def _check_there(kind: str, index: int, plan: Plan) -> None:
    module: Any = getattr(torch, kind, None)
    count = module.device_count() if module is not None and hasattr(module, "device_count") else 0
    if kind == "mps" and torch.backends.mps.is_available():
        count = 1
    if index >= count:
        raise PlanError(
            [
                finding(
                    NO_ACCELERATOR,
                    f'device "{kind}:{index}" is not there: this machine has {count} of that kind',
                    span=plan.place("/device") if plan.device != "auto" else None,
                    hint="try --simulate",
                )
            ]
        )
