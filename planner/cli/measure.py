"""``plan doctor --measure``: this machine's card as a file, and a table of what is in it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import click

from planner.cards.data import CardData
from planner.cards.read import card_of
from planner.cards.write import card_text
from planner.cli.terminal import log, put
from planner.diagnostics.diagnostic import InternalError, PlanError, finding
from planner.diagnostics.table.p9_card import NOT_MEASURABLE
from planner.report.sheet import sheet
from planner.schedule.fit import gib
from planner.source.text import SourceText

SHOWN = (
    ("matmul", "bfloat16", (1, 4096, 3072, 12288), "matmul 4096 x 3072 x 12288"),
    ("conv", "bfloat16", (1, 512, 512, 65536, 9), "conv 3 x 3, 512 channels, 256 x 256"),
    ("attention", "bfloat16", (1, 24, 4608, 4608, 128), "attention 24 heads, 4608 x 4608"),
)


def measure_card(out: Path | None, *, force: bool) -> int:
    """Measures the CUDA device and writes its card. Raises PlanError where there is none, UsageError
    where the file cannot be written."""
    if out is not None:
        _check(out, force=force)
    device = _device()
    from planner.loading.measure.card import measure

    values = _measured(measure, device)
    text = card_text(values)
    place = out or _free(_slug(values["name"]))
    card, found = card_of(SourceText(name=str(place), text=text))
    if card is None:
        raise InternalError(f"a card was written that is none: {'; '.join(d.message for d in found)}")
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"{place} cannot be written: {error.strerror}") from error
    _show(card)
    put(f"wrote {place}: plan explain FILE --card {place}")
    return 0


def _device() -> Any:
    if importlib.util.find_spec("torch") is None:
        raise PlanError([finding(NOT_MEASURABLE, "torch is not installed: nothing can be measured")])
    import torch

    cuda: Any = torch.cuda
    if not cuda.is_available():
        hint = "cards that ship: --card h200; a file that was measured elsewhere: --card FILE"
        raise PlanError([finding(NOT_MEASURABLE, "no CUDA device was found on this machine", hint=hint)])
    return torch.device("cuda", 0)


def _measured(measure: Any, device: Any) -> Any:
    import torch

    try:
        return measure(device, lambda what: log(f"measuring: {what}"))
    except torch.OutOfMemoryError as error:
        said = "too little of the card's memory is free to measure it"
        raise PlanError([finding(NOT_MEASURABLE, said, hint="stop what else runs on it")]) from error


def _free(name: str) -> Path:
    """A file that is not there yet: it took a minute to know what it is called."""
    names = (f"{name}{n}.card.yaml" for n in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(place for place in map(Path, names) if not place.exists())


def _check(place: Path, *, force: bool) -> None:
    if place.exists() and not force:
        raise click.UsageError(f"{place} is there: --force writes over it")
    if not place.parent.is_dir():
        raise click.UsageError(f"{place} cannot be written: no folder {place.parent}")


def _show(card: CardData) -> None:
    made = sheet("!", "~", head=False, gap=2)
    made.add("card", f"{card.name}  {card.capability}  {card.sms} SMs")
    made.add("memory", f"{gib(card.total)}, context {gib(card.context)} ({card.source_of('memory.context')})")
    for way, link in (("to device", card.to_device), ("to host", card.to_host)):
        fast, slow = (max(rate for _, rate in t.points) / 1e9 for t in (link.pinned, link.pageable))
        made.add(way, f"{fast:.1f} GB/s pinned, {slow:.1f} pageable")
    made.add("registering", f"{card.register / 1e9:.1f} GB/s")
    if card.host is not None:
        read, packed = card.host.read / 1e9, card.host.pack / 1e9
        made.add("files", f"{read:.1f} GB/s from the page cache, {packed:.1f} packed")
    for kind, dtype, shape, said in SHOWN:
        table = card.rates.get(kind, {}).get(dtype)
        if table is not None and table.width == len(shape):
            made.add(said, f"{table.at(tuple(map(float, shape))) / 1e12:.0f} TFLOP/s {dtype}")
    launch, dispatch = card.launch * 1e6, card.dispatch * 1e6
    made.add("an operation", f"{launch:.1f} us on the device, {dispatch:.1f} on the host")
    made.add("attention", f"{card.kernels.attention} first")
    put(made)


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "card"
