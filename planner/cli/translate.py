"""``plan translate``: sequence strings to plans, and what is wrong with those that diffusers ships."""

from __future__ import annotations

import json

import click

from planner.cli.terminal import format_option, log, put, raw, show
from planner.diagnostics.diagnostic import Diagnostic, PlanError, errors
from planner.diagnostics.table.p8_translate import DEFECTS
from planner.report.sheet import sheet
from planner.target import catalogue
from planner.target.model import Target
from planner.translation.lint import lint
from planner.translation.sequence import Translation, target_of, translate
from planner.translation.tools.convert import from_tool


@click.command("translate")
@click.argument("what", required=False, metavar="SEQ|CLASS|FOLDER")
@click.option("--all", "every", is_flag=True, help="Every class: what is wrong with its string.")
@click.option("--improve", is_flag=True, help="What the string meant to say, from the class's own source.")
@click.option(
    "--tool", metavar="TOOL", help="WHAT are settings of this tool (mmgp, group-offload, ...), not a string."
)
@click.option("--class", "cls", metavar="CLASS", help="The class that a sequence string is for.")
@click.option(
    "--diffusers",
    "version",
    metavar="X.Y.Z",
    help="The catalogue's diffusers version; the newest by default.",
)
@format_option("text", "json")
def translate_command(
    what: str | None,
    every: bool,
    improve: bool,
    tool: str | None,
    cls: str | None,
    version: str | None,
    form: str,
) -> int:
    """Make a plan of model_cpu_offload_seq: a string, a class's own, or a folder's.

    The plan goes to stdout, what is wrong with the string to stderr. With --all: a row a class. With --tool
    the argument is another tool's settings: plan translate --tool mmgp "{profile_no: 4}" --class FluxPipeline
    """
    if every == (what is not None):
        raise click.UsageError("give a sequence, a class or a folder, or --all")
    if version is not None and version not in catalogue.versions():
        raise click.UsageError(f"no catalogue for {version}; known: {', '.join(catalogue.versions())}")
    if what is None:
        return _all(version, form)
    if tool is not None:
        if cls is None:
            raise click.UsageError("--tool needs --class: the pipeline class that the settings are for")
        target = _target(cls, None, version)
        text, found = from_tool(tool, what, target)
        made = Translation(target=target, text=text, diagnostics=found)
    else:
        made = translate(_target(what, cls, version), improve=improve)
    if form == "json":
        said = [{"code": d.code.id, "name": d.code.name, "message": d.message} for d in made.diagnostics]
        raw(json.dumps({"plan": made.text, "diagnostics": said}, indent=2, ensure_ascii=False) + "\n")
    elif made.text:
        raw(made.text)
        for problem in made.diagnostics:
            log(f"{problem.severity.value}: {problem}")
    if not made.text:
        return show(made.diagnostics) if form == "text" else 1
    return 0


def _target(what: str, cls: str | None, version: str | None) -> Target:
    target, problems = target_of(what, cls, version)
    if target is None or errors(problems):
        raise PlanError(problems)
    return target


def _all(version: str | None, form: str) -> int:
    rows = []
    for name in catalogue.names(version):
        target = catalogue.find(name, version)
        if target is not None:
            rows.append((target, lint(target)))
    counts = {"ok": 0, "defect": 0, "no sequence": 0}
    for target, found in rows:
        counts[_status(target, found)] += 1
    if form == "json":
        raw(json.dumps({"classes": [_row(t, f) for t, f in rows], "summary": counts}, indent=1) + "\n")
        return 0
    made = sheet("!class", "status", "codes", "~sequence", gap=2)
    for target, found in rows:
        codes = dict.fromkeys(d.code.id for d in found)
        made.add(target.cls, _status(target, found), " ".join(codes), target.sequence or "")
    put(made, "", ", ".join(f"{count} {status}" for status, count in counts.items()))
    return 0


def _row(target: Target, found: tuple[Diagnostic, ...]) -> dict[str, object]:
    return {
        "class": target.cls,
        "sequence": target.sequence,
        "status": _status(target, found),
        "diagnostics": [{"code": d.code.id, "name": d.code.name, "message": d.message} for d in found],
    }


def _status(target: Target, found: tuple[Diagnostic, ...]) -> str:
    if any(d.code in DEFECTS for d in found):
        return "defect"
    return "ok" if target.sequence is not None else "no sequence"
