"""Host memory made ready for the device: pinned in the schedule's order, and what stays pageable is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.table.p7_session import PAGEABLE_BY_BUDGET, PAGEABLE_BY_MACHINE
from planner.plan.model import Plan
from planner.schedule.fit import gib
from planner.session.session import Session
from planner.target.blocks import storage_of
from planner.target.wrapped import held


def prepare_all(session: Session) -> Iterator[Diagnostic]:
    """Packs and registers every member, those first whose bytes cross most often. While one is registered,
    the next are read, unless two have a tensor in common, which is packed with each."""
    over: dict[str, int] = {}
    refused: dict[str, int] = {}
    pins, members = session._pins, session.members
    order = list(dict.fromkeys((*(name for name in session.schedule.pins if name in members), *members)))
    apart = _apart(member.module for member in members.values())
    reader = ThreadPoolExecutor(1)
    try:
        reading = {name: reader.submit(members[name].pack) for name in order if apart}
        for name in order:
            before = pins.over, pins.refused
            session.prepare(members[name], reading[name].result() if apart else None)
            over[name], refused[name] = pins.over - before[0], pins.refused - before[1]
    finally:
        reader.shutdown(cancel_futures=True)
    yield from _told(session.plan, PAGEABLE_BY_BUDGET, "more than budget.pinned", over)
    yield from _told(session.plan, PAGEABLE_BY_MACHINE, "which the machine did not register", refused)


def _apart(modules: Iterable[torch.nn.Module | None]) -> bool:
    seen: set[int] = set()
    for module in modules:
        tensors = () if module is None else (*module.parameters(), *module.buffers())
        mine = {storage_of(part) for tensor in tensors for part in held(tensor)}
        if mine & seen:
            return False
        seen |= mine
    return True


def _told(plan: Plan, code: Code, why: str, sizes: Mapping[str, int]) -> Iterator[Diagnostic]:
    if total := sum(sizes.values()):
        listed = ", ".join(f"{name} {gib(size)}" for name, size in sizes.items() if size)
        said = f"{gib(total)} of host memory stay pageable, {why}: {listed}"
        yield finding(code, said, span=plan.place("/budget/pinned"))
