"""Verbs of the design that are not made yet: each says so, and what does the nearest thing today."""

from __future__ import annotations

import click

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p0_tool import NOT_YET

NEAREST = {
    "fit": "plan compile FILE --set budget.vram=12GiB says whether a plan fits",
}


def not_yet(what: str, instead: str) -> PlanError:
    """The error for something that is designed and not made."""
    return PlanError([finding(NOT_YET, f'"{what}" is not made yet', hint=instead)])


def _verb(name: str) -> click.Command:
    @click.command(name, context_settings={"ignore_unknown_options": True}, short_help="Not made yet.")
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def verb(arguments: tuple[str, ...]) -> int:
        raise not_yet(f"plan {name}", NEAREST[name])

    verb.help = f"Not made yet: {NEAREST[name]}."
    return verb


fit_command = _verb("fit")
