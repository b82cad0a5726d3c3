"""``plan diff``: what two plans do differently."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from planner.api import compile, load
from planner.cli.card import card_type
from planner.cli.code import catalogue_option
from planner.cli.complete import plan_files
from planner.cli.terminal import format_option, put, raw
from planner.diagnostics.diagnostic import PlanError
from planner.diff.model import Side, diff_of
from planner.document.file import text_of
from planner.lock.known import card_of
from planner.lock.model import Lock, is_lock
from planner.lock.read import read_lock
from planner.report.diff import parts
from planner.schedule.card import Card
from planner.source.text import SourceText


@click.command("diff")
@click.argument("a", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.argument("b", type=click.Path(path_type=Path), shell_complete=plan_files)
@click.option("--set", "both", multiple=True, metavar="KEY=VALUE", help="Change a key of both plans.")
@click.option("--set-a", multiple=True, metavar="KEY=VALUE", help="Change a key of the first.")
@click.option("--set-b", multiple=True, metavar="KEY=VALUE", help="Change a key of the second.")
@click.option("--card", type=card_type, metavar="NAME|FILE|SIZE", help="For this card.")
@click.option("--card-a", type=card_type, metavar="NAME|FILE|SIZE", help="The first for this card.")
@click.option("--card-b", type=card_type, metavar="NAME|FILE|SIZE", help="The second for this card.")
@click.option(
    "--at",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read both as if they were this file: what they name is relative to it. For git.",
)
@click.option("--exit-code", is_flag=True, help="Exit 1 where they differ.")
@format_option("text", "json")
@catalogue_option
def diff_command(
    a: Path,
    b: Path,
    both: tuple[str, ...],
    set_a: tuple[str, ...],
    set_b: tuple[str, ...],
    card: Card | None,
    card_a: Card | None,
    card_b: Card | None,
    at: Path | None,
    exit_code: bool,
    form: str,
    catalogues: tuple[Path, ...],
) -> int:
    """What two plans do differently: policies, moves, peaks, and what changes the picture.

    Meanings are compared, not text. A side may be a lock (NAME.plan.lock.json): the other is then compiled
    for the lock's card and with the sizes that it knows. One plan under two budgets or cards: give it twice.

    \b
    plan diff x.plan.yaml x.plan.yaml --set-b budget.vram=8GiB
    plan diff x.plan.yaml x.plan.yaml --card-a 12GiB --card-b 24GiB
    """
    locks = [_lock(file, at) for file in (a, b)]
    for lock, changed in zip(locks, (set_a, set_b), strict=True):
        if lock is not None and changed:
            raise click.UsageError("a lock is as it was written: --set is for plans")
    cards = [card_a or card, card_b or card]
    if any(lock is not None and own is not None for lock, own in zip(locks, (card_a, card_b), strict=True)):
        raise click.UsageError("a lock is for the card that it was compiled for")
    sides = [
        _side(file, at, lock, locks[1 - n], cards[n], (*both, *changed), catalogues)
        for n, (file, lock, changed) in enumerate(zip((a, b), locks, (set_a, set_b), strict=True))
    ]
    found = diff_of(*sides)
    if form == "json":
        raw(found.to_json())
    else:
        put(*parts(found))
    return int(exit_code and found.differ)


def _lock(file: Path, at: Path | None) -> Lock | None:
    """The lock that ``file`` is; None for a plan. Raises PlanError."""
    if not is_lock(at or file) or _none(file):
        return None
    lock, found = read_lock(file)
    if lock is None:
        raise PlanError(found)
    return lock


def _side(
    file: Path,
    at: Path | None,
    lock: Lock | None,
    other: Lock | None,
    card: Card | None,
    overrides: tuple[str, ...],
    catalogue: tuple[Path, ...],
) -> Side:
    if lock is not None or _none(file):
        return Side(name=str(at or file), content=None if lock is None else lock.content)
    source: Any = file
    if at is not None:
        text, found = text_of(file, None)
        if text is None:
            raise PlanError(found)
        source = SourceText(name=str(at), text=text.text)
    plan = load(source, overrides=overrides)
    if other is not None and card is None:
        card = card_of(other)
    compiled = compile(plan, card=card, catalogue=catalogue, lock=other)
    return Side(name=str(at or file), content=compiled.lock().content)


def _none(file: Path) -> bool:
    """What git passes for a file that one side does not have."""
    return str(file) in (os.devnull, "/dev/null")
