"""One real pipeline class under diffusers' offload, under ours, and under the improved plan.

``python -m equivalence.real [NAME ...]`` prints the tables for all classes that can be built.
"""

from __future__ import annotations

import gc
import sys
import warnings
from dataclasses import dataclass
from typing import Any

import diffusers
from pipelines.plans import attached, schedule_for
from pipelines.registry import build, run, same
from pipelines.wide import CASES, WIDE

from equivalence.residency import Entry, peak, watched
from equivalence.translated import improved, translated
from equivalence.uses import Uses, follows, recorded, tells
from planner.target.loaded import describe
from planner.virtual.backend import install

NAMES = tuple(
    name
    for name, case in (CASES | WIDE).items()
    if getattr(diffusers, case.cls).model_cpu_offload_seq is not None
)
"""Every case whose class has a sequence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came of one class. ``told`` counts the uses that the walk tells, ``ran`` those of them that ran
    in this call (others are optional). Peaks and ``need`` in bytes: ``need`` is the largest stage's,
    with what is excluded and what runs though the walk does not have it."""

    name: str
    same: bool
    stock: list[Entry]
    ours: list[Entry]
    uses: Uses
    walked: bool
    told: int
    ran: int
    stock_peak: int
    liveness_peak: int
    liveness_same: bool
    need: int


def look(name: str) -> Seen:
    """Runs the class three times."""
    pipe = build(name)
    pipe.enable_model_cpu_offload(device="sim:0")
    with recorded(pipe) as uses, watched(pipe) as stock:
        expected = run(pipe, name)
    target = describe(pipe)
    sizes = {n: info.bytes or 0 for n, info in target.components.items()}
    told = {*tells(target.walk or ())}
    del pipe

    pipe = build(name)
    session, _ = attached(translated(pipe), pipe)
    with watched(pipe) as ours:
        outputs = run(pipe, name)
    session.remove()

    pipe = build(name)
    plan = improved(pipe)
    course = schedule_for(plan, pipe).course
    session, _ = attached(plan, pipe)
    with watched(pipe) as living:
        alive = run(pipe, name)
    session.remove()
    gc.collect()
    ran = {component for component, _ in living}
    need = max(
        (
            sum(
                sizes[n]
                for n in {
                    *course.fixed,
                    *(node.components if node.loop else (component,)),
                    *(n for n in course.on_demand if n in ran and node.loop),
                }
            )
            for node in course.walk
            for component in node.components
        ),
        default=0,
    )
    return Seen(
        name=name,
        same=same(outputs, expected),
        stock=stock,
        ours=ours,
        uses=uses,
        walked=target.walk is not None and follows(target.walk, uses),
        told=len(told),
        ran=len(told & {*uses}),
        stock_peak=peak(stock, sizes),
        liveness_peak=peak(living, sizes),
        liveness_same=same(alive, expected),
        need=need,
    )


def main(*names: str) -> None:
    """Prints the tables."""
    warnings.simplefilter("ignore")
    install()
    rows = []
    for name in names or NAMES:
        try:
            rows.append(look(name))
        except Exception as error:  # what fails has its line too
            print(f"{name:<50} failed: {type(error).__name__}: {str(error)[:150]}")
    print_tables(rows)


def print_tables(rows: list[Seen]) -> None:
    """Equality, then uses that the walk does not tell, then peaks."""
    classes = {row.name.partition(":")[0] for row in rows}
    equal = [row for row in rows if row.same and row.stock == row.ours]
    print(f"{len(classes)} classes, {len(rows)} cases: {len(equal)} equal in bytes and residency")
    for row in rows:
        if row not in equal:
            first = next((p for p in zip(row.stock, row.ours, strict=False) if p[0] != p[1]), None)
            what = "equal bytes" if row.same else "other bytes"
            print(f"  {row.name}: {what}; first entry that differs: {_said(first)}")
    walked = [row for row in rows if row.walked]
    print(
        f"uses as the walk tells: {len(walked)} of {len(rows)}; of {sum(row.told for row in rows)} uses in "
        f"the walks {sum(row.ran for row in rows)} ran"
    )
    for row in rows:
        if not row.walked:
            print(f"  {row.name}: {' '.join(_short(row.uses))}")
    lower = [row for row in rows if row.liveness_peak < row.stock_peak]
    over = [row for row in rows if row.liveness_peak > row.need]
    held = [row for row in rows if row.stock_peak > row.need]
    print(
        f"peak: stock holds more than the largest stage needs on {len(held)} of {len(rows)}; liveness is "
        f"lower on {len(lower)}, above the need on {len(over)}"
    )
    print(f"{'':50} {'stock':>9} {'liveness':>9} {'need':>9}")
    for row in rows:
        mark = "over" if row in over else "lower" if row in lower else "not lower" if row in held else ""
        print(f"{row.name:<50} {row.stock_peak:>9} {row.liveness_peak:>9} {row.need:>9} {mark}")


def _short(uses: Uses) -> list[str]:
    """Repetitions of one to three uses written once."""
    made: list[str] = []
    for use in uses:
        made.append(use)
        for n in (1, 2, 3):
            if len(made) >= 2 * n and made[-n:] == made[-2 * n : -n]:
                del made[-n:]
                break
    return made


def _said(pair: Any) -> str:
    if pair is None:
        return "none, one list is longer"
    return "; ".join(f"{name} with {', '.join(sorted(there))}" for name, there in pair)


if __name__ == "__main__":
    main(*sys.argv[1:])
