"""A diff as people read it: a table a section, then what it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import RenderableType

from planner.diff.model import Diff, Side
from planner.lock.compare import Difference, sized_otherwise
from planner.lock.words import both, step, what, words
from planner.report.sheet import sheet

TITLES = {"placements": "policies", "stages": "moves and peaks"}


def parts(diff: Diff) -> Iterator[RenderableType]:
    """Both sides in a line each, the differences by section, and whether the picture is the same."""
    yield f"a  {_head(diff.a)}"
    yield f"b  {_head(diff.b)}"
    yield ""
    if not diff.differ:
        yield "no difference in what they do"
        return
    if diff.a.content is None or diff.b.content is None:
        yield "only in " + ("b" if diff.a.content is None else "a")
        return
    for section, found in groupby(diff.differences, key=lambda d: d.section):
        listed = list(found)
        if section == "steps":
            listed = [d for d in listed if not sized_otherwise(d)]
        if listed:
            yield TITLES.get(section, section)
            yield from _steps(listed) if section == "steps" else [_table(listed)]
            yield ""
    yield "image: " + ("not the same: see above" if diff.picture else "the same")


def _head(side: Side) -> str:
    if side.content is None:
        return f"{side.name}   no plan"
    totals, card = side.content["totals"], side.content["card"]
    said = [side.name, side.content["pipeline"]["class"]]
    said += [f"for {words('total', card['total'])}"] if card is not None else []
    said += [f"peak {words('peak', totals['peak'])}", f"moves {words('moved', totals['moved'])}"]
    if totals["each_step"]:
        said[-1] += f" and {words('each_step', totals['each_step'])} a step"
    return "   ".join(said)


def _table(found: list[Difference]) -> RenderableType:
    return sheet("!what", "~a", "~b", rows=[(f"  {what(d)}", *both(d)) for d in found])


def _steps(found: list[Difference]) -> Iterator[str]:
    for difference in found:
        yield from (f"  - {step(said)}" for said in difference.a)
        yield from (f"  + {step(said)}" for said in difference.b)
