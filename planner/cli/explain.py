"""``plan explain``: what a plan will do and why, or what a code means."""

from __future__ import annotations

from pathlib import Path

import click

from planner.api import compile
from planner.cli.later import not_yet
from planner.cli.terminal import overrides_option, put, show
from planner.diagnostics.codes import find, suggestion
from planner.diagnostics.diagnostic import Code, PlanError, finding
from planner.diagnostics.table.p0_tool import UNKNOWN_CODE
from planner.plan.write import to_yaml
from planner.report.image import image_line
from planner.report.render import host_words
from planner.report.rules import rules_table
from planner.report.steps import pinned_first, placements_table, steps_table, totals


@click.command("explain")
@click.argument("what", metavar="FILE|CODE")
@click.option("--target", metavar="CLASS|FOLDER", help="Explain for this, not the plan's own pipeline.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["table", "yaml"]),
    default="table",
    show_default=True,
    help="yaml: the plan with everything that it leaves unsaid.",
)
@click.option("--plot", metavar="FILE", help="Not made yet.", hidden=True)
@overrides_option
def explain_command(
    what: str, target: str | None, form: str, plot: str | None, overrides: tuple[str, ...]
) -> int:
    """Explain a plan (what moves when, and why) or a code (P302, unknown-component)."""
    if plot:
        raise not_yet("--plot", "plan explain FILE prints the same as a table")
    if not Path(what).exists() and not what.endswith((".yaml", ".yml")):
        return _code(what)
    compiled = compile(what, target, overrides=overrides)
    if form == "yaml":
        print(to_yaml(compiled.plan), end="")
        return 0
    plan = compiled.plan
    rules = (rules_table(plan, compiled.target), "") if plan.quantization else ()
    put(
        f"{plan.name}   {compiled.target.cls}   semantics: {plan.semantics.value}   idle: {plan.idle.value}",
        image_line(plan),
        "",
        *rules,
        placements_table(compiled.schedule),
        "",
        steps_table(compiled.schedule),
        "",
        totals(compiled.schedule),
        f"host RAM {host_words(plan, compiled.schedule)}; {pinned_first(compiled.schedule)}",
    )
    return show(compiled.diagnostics, plan.document.sources)


def _code(what: str) -> int:
    code = find(what)
    if code is None:
        raise PlanError(
            [finding(UNKNOWN_CODE, f'"{what}" is no plan file and no code', hint=suggestion(what))]
        )
    put(_help(code))
    return 0


def _help(code: Code) -> str:
    parts = (f"{code}   {code.severity.value}, exit {code.exit_code}", "", code.help, "")
    examples = (("wrong", code.wrong), ("right", code.right))
    shown = [
        line for name, text in examples for line in (f"{name}:", *(f"    {x}" for x in text.split("\n")), "")
    ]
    return "\n".join((*parts, *shown)).rstrip()
