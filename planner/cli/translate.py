"""``plan translate``: sequence strings, scripts and other tools' settings to plans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from planner.cli.code import catalogue_option, from_option, seen
from planner.cli.complete import classes
from planner.cli.pasted import pasted, tool_in, unread
from planner.cli.sequences import all_sequences
from planner.cli.terminal import format_option, raw, show, stdout_is_a_file
from planner.diagnostics.diagnostic import Diagnostic, PlanError, Severity, errors
from planner.diagnostics.machine import as_json, exit_code
from planner.loading.known import known_of, own_of
from planner.models.model import models
from planner.source.text import SourceText
from planner.target import catalogue
from planner.target.auto import meant
from planner.target.catalogue import Own
from planner.target.causes import Broken
from planner.target.index import read_index
from planner.target.loaded import describe
from planner.target.model import Target
from planner.target.place import place_of
from planner.translation.convert import NAME, TOOLS, class_of, from_script, from_tool, general_of
from planner.translation.sequence import folder_of, is_sequence, target_of, translate, translate_string
from planner.translation.text import given_in


@click.command("translate")
@click.argument(
    "what", required=False, nargs=-1, metavar="SEQ|CLASS|FOLDER|SETTINGS|FILE|-", shell_complete=classes
)
@click.option("--all", "every", is_flag=True, help="Every class: what is wrong with its string.")
@click.option("--improve", is_flag=True, help="What the string meant to say, from the class's own source.")
@click.option(
    "--tool",
    metavar="TOOL",
    help=f"WHAT are settings of this tool, where they do not show it: {', '.join(TOOLS)}.",
)
@click.option(
    "--class",
    "cls",
    metavar="CLASS",
    shell_complete=classes,
    help="The pipeline class that a string or settings are for.",
)
@click.option(
    "--diffusers",
    "version",
    metavar="X.Y.Z",
    help="The catalogue's diffusers version; the newest by default.",
)
@from_option
@catalogue_option
@format_option("text", "json")
def translate_command(
    what: Sequence[str],
    every: bool,
    improve: bool,
    tool: str | None,
    cls: str | None,
    version: str | None,
    code: str | None,
    catalogues: tuple[Path, ...],
    form: str,
) -> int:
    """Make a plan of model_cpu_offload_seq (a string, a class's own, a folder's), or of a script or settings.

    A script is Python that loads and offloads a pipeline, a notebook too; settings are another tool's: its
    call, its command line, or YAML. Both are taken as they are pasted, or from a file. Nothing of them is
    run. The plan goes to stdout, what is found to stderr. With --all: a row a class.

    \b
    plan translate "text_encoder->unet->vae" --class StableDiffusionPipeline
    plan translate run_flux.py
    plan translate --class WanPipeline -- sglang generate --model-path M --dit-cpu-offload
    plan translate --tool mmgp "{profile_no: 4}" --class FluxPipeline
    """
    if every == (bool(what) or code is not None):
        raise click.UsageError("give a sequence, a class, a folder, a script or settings, or --all")
    if version is not None and version not in catalogue.versions():
        raise click.UsageError(f"no catalogue for {version}; known: {', '.join(catalogue.versions())}")
    if every:
        return all_sequences(version, form)
    stdout_is_a_file()
    aim, known = seen(code, None, catalogues)
    own, problems, texts = own_of(known)
    if problems:
        raise PlanError(problems, texts)
    if aim is not None and not isinstance(aim, type):
        if what:
            raise click.UsageError("a pipeline from --from is translated as it is: give nothing beside it")
        translated = translate(describe(aim, known_of(aim, own)), improve=improve)
        return _show(_Made(translated.text, translated.diagnostics), form)
    source = pasted(what if aim is None else what or (aim.__name__,))
    found_tool = tool if tool is not None else tool_in(source)
    if aim is not None and (found_tool is not None or is_sequence(source.text)):
        cls = cls or aim.__name__
    if found_tool is not None:
        made = _settings(source, found_tool, cls, version, own)
    elif (problem := unread(source)) is not None:
        made = _Made("", [problem])
    elif is_sequence(source.text, cls):
        made = _string(source, cls, version, improve, own)
    else:
        made = _class(source.text.strip(), version, improve, own)
    return _show(made, form)


def _show(made: _Made, form: str) -> int:
    if form == "json":
        said = json.loads(as_json(made.found))["diagnostics"]
        raw(json.dumps({"plan": made.text, "diagnostics": said}, indent=2, ensure_ascii=False) + "\n")
    else:
        raw(made.text)
        return show(made.found, made.sources)
    return exit_code(made.found)


@dataclass(frozen=True, slots=True)
class _Made:
    """A plan, or nothing with the errors that stopped it."""

    text: str
    found: Sequence[Diagnostic]
    sources: Sequence[SourceText] = ()


def _settings(source: SourceText, tool: str, cls: str | None, version: str | None, own: Own) -> _Made:
    cls = cls or class_of(source.text) or _meant(source.text)
    if cls is None and not tool and (problems := errors(given_in(source, None).found)):
        return _Made("", problems, (source,))
    if cls is None:
        said = "settings need --class: the pipeline class that they are for"
        named = "the script names no pipeline class, and what it loads is not here: --class says which it is"
        raise click.UsageError(said if tool else named)
    target, unknown = _known(cls, version, own)
    if target is None:
        return _Made("", unknown)
    if tool:
        made, found = from_tool(tool, source.text, target, name=source.name)
    else:
        made, found = from_script(source.text, target, name=source.name)
    return _Made(made, found, (source,))


def _meant(text: str) -> str | None:
    """What a script's DiffusionPipeline or AutoPipeline stands for, by the folder or hub id it loads."""
    if (found := general_of(text)) is None:
        return None
    general, source = found
    place, own = place_of(source), None
    if place.kind == "folder":
        with suppress(Broken):
            own = read_index(place.path).cls
    elif place.kind == "hub" and (known := models().get(source)) is not None:
        own = known.cls
    return None if own is None else meant(general, own)


def _string(source: SourceText, cls: str | None, version: str | None, improve: bool, own: Own) -> _Made:
    string = source.text.rstrip("\r\n") if source.name != NAME else source.text
    made, found, text_of = translate_string(string, cls, version, improve=improve, own=own)
    if made is None:
        return _Made("", found, (text_of,))
    return _Made(made.text, made.diagnostics, made.sources)


def _class(what: str, version: str | None, improve: bool, own: Own) -> _Made:
    target, problems = _known(what, version, own)
    if target is None:
        return _Made("", problems)
    made = translate(target, improve=improve, source=folder_of(what))
    return _Made(made.text, (*problems, *made.diagnostics), made.sources)


def _known(what: str, version: str | None, own: Own) -> tuple[Target | None, Sequence[Diagnostic]]:
    """A class or a folder; without one, whatever is said of it is an error."""
    target, problems = target_of(what, version=version, own=own)
    if target is None or errors(problems):
        return None, [d.at(Severity.ERROR) if d.severity is Severity.WARNING else d for d in problems]
    return target, problems
