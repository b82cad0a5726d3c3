"""How long it takes until a call can begin: a pipeline's weights are loaded, a plan is applied to it. No
torch.

The sums of what ``planner.loading.direct`` and ``planner.session`` do: each byte is read once, small weights
are packed, all that may be registered is, and what stays on the device is copied there. Which weights are
small, and which bytes are registered, is said by what a session asks as well. Libraries are imported before,
and nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from planner.cards.data import CardData
from planner.plan.model import Plan
from planner.predict.clock import BUSY
from planner.predict.forecast import Source
from planner.schedule.model import Schedule
from planner.schedule.pins import pinned
from planner.target.extents import is_packed
from planner.target.model import ComponentInfo, Target, device_bytes

LOADED, LAID = 35, 12
"""As many operations' time Python takes for a weight when libraries make its module and find it in its file,
and when a session lays it out. Of Flux (1,800 weights, 33.7 GB) on an H200: loading it took 2.0 to 3.0 s,
which are 26 to 45 beside reading at 44 GB/s; applying a plan that registers 1 GiB of it 0.59 and 0.72 s, 11
to 14 beside that (all of it registered: 1.4 to 2.2 s)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """``seconds``: None where that is not known, and ``why`` is why not."""

    seconds: float | None
    source: Source
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """``load``: of the pipeline, from files that the page cache has to memory; ``apply``: of the plan, until
    what stays on the device is there. In bytes, as far as they are known: ``read`` from files; ``registered``
    of host memory, ``packed`` of small weights among it, or of pageable memory; ``placed`` on the device."""

    load: Figure
    apply: Figure
    read: int
    packed: int
    registered: int
    placed: int


def start(plan: Plan, target: Target, schedule: Schedule, card: CardData) -> Start:
    """Of ``plan`` on the pipeline that it names. What is quantized by rules, cast, or has LoRAs is not
    known."""
    parts = [info for info in target.components.values() if _is_there(info)]
    rules = {rule.component: rule.backend for rule in plan.quantization}
    left = {name for name, backend in rules.items() if backend == "layerwise_cast"}
    sizes = {info.name: tuple(size for _, size in info.weights or ()) for info in parts}
    weights = sum(map(len, sizes.values()))
    read = sum(sum(found) for name, found in sizes.items() if name not in left)
    packed = {name: device_bytes(filter(is_packed, found)) for name, found in sizes.items()}
    registered = _registered(plan, schedule, card)
    placed = {step.component: step.bytes or 0 for step in schedule.steps if step.do == "place"}
    python = weights * card.dispatch
    lays = sum(
        card.pack_seconds(small) + card.register_seconds(max(0, registered.get(name, 0) - small))
        for name, small in packed.items()
    )
    places = sum(_placing(nbytes, registered.get(name, 0), card) for name, nbytes in placed.items())
    as_stored = target.origin == "loaded" or all(info.converted is not None for info in parts)
    return Start(
        load=_figure(
            card.read_seconds(read) + LOADED * python,
            _unknown(_of_loading(plan, parts, rules)),
            known=as_stored and _measured(card, "host.read", "dispatch"),
        ),
        apply=_figure(
            lays + places + LAID * python,
            _unknown(_of_applying(plan, parts, rules)),
            known=_measured(card, "host.pack", "link.register", "link.to_device", "dispatch"),
        ),
        read=read,
        packed=sum(packed.values()),
        registered=sum(registered.values()),
        placed=sum(placed.values()),
    )


def _is_there(info: ComponentInfo) -> bool:
    """One that may be left out, and of which nothing is known, is none."""
    return info.module and info.present and not (info.optional and info.bytes is None)


def _registered(plan: Plan, schedule: Schedule, card: CardData) -> Mapping[str, int]:
    """Bytes of each component."""
    if card.backend != "cuda":
        return {}
    limit = plan.budget.pinned
    if limit is None or limit.bytes is None:
        return {name: nbytes or 0 for name, nbytes in schedule.host.items()}
    found = pinned(schedule.pins, schedule.host, limit.bytes)
    return {name: sum(end - begin for begin, end in pieces) for name, pieces in found.items()}


def _placing(nbytes: int, registered: int, card: CardData) -> float:
    there = min(nbytes, registered)
    return (card.copy_seconds(there) + card.copy_seconds(nbytes - there, pinned=False)) / BUSY


Reasons = Iterator[tuple[str, str]]
"""What is not known, and of which component."""


def _of_loading(plan: Plan, parts: Iterable[ComponentInfo], rules: Mapping[str, str]) -> Reasons:
    for info in parts:
        if rules.get(info.name, "layerwise_cast") != "layerwise_cast" or info.quantized:
            yield "quantized weights are loaded", info.name
        elif (said := _nameless(info)) is not None:
            yield said, info.name
        elif info.converted:
            yield "its files have another dtype", info.name
    if plan.loras:
        yield "LoRAs are loaded", ""


def _of_applying(plan: Plan, parts: Iterable[ComponentInfo], rules: Mapping[str, str]) -> Reasons:
    for info in parts:
        if rules.get(info.name) == "layerwise_cast":
            yield "its weights are cast", info.name
        elif info.name in rules or info.quantized:
            yield "quantized weights are laid out", info.name
        elif (said := _nameless(info)) is not None:
            yield said, info.name
    if plan.loras:
        yield "LoRAs are laid out", ""


def _nameless(info: ComponentInfo) -> str | None:
    if info.bytes is None:
        return "its size is not known"
    return "which weights it has is not known" if info.weights is None else None


def _unknown(reasons: Reasons) -> str:
    found: dict[str, list[str]] = {}
    for why, name in reasons:
        found.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" if any(names) else why for why, names in found.items())


def _figure(seconds: float, unknown: str, *, known: bool) -> Figure:
    if unknown:
        return Figure(seconds=None, source="not known", why=unknown)
    return Figure(seconds=seconds, source="predicted" if known else "assumed")


def _measured(card: CardData, *paths: str) -> bool:
    return all(card.source_of(path) == "measured" for path in paths)
