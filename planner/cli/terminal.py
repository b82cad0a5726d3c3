"""Findings and tables to stdout, progress and logs to stderr; what any stream and any terminal can take."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

import click
from rich.console import Console, RenderableType

from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.machine import Checked, as_github, as_json, as_sarif, exit_code
from planner.diagnostics.render import text
from planner.report.render import natural_width, to_text
from planner.source.text import SourceText
from planner.source.visible import escaped, visible

overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key for this run, the value read as YAML: --set budget.vram=8GiB",
)
strict_option = click.option(
    "--strict", is_flag=True, help="Warnings count as errors, and so does what could not be checked."
)

MACHINES = {"json": as_json, "sarif": as_sarif, "github": as_github}
_form: ContextVar[str] = ContextVar("form", default="text")
_colour: ContextVar[str] = ContextVar("colour", default="auto")
_aside: ContextVar[bool] = ContextVar("aside", default=False)


def format_option(*formats: str) -> Callable[[Any], Any]:
    """``--format`` with these choices, the first by default. Findings are in it too, whatever ends the
    verb."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
        _form.set(value)
        return value

    return click.option(
        "--format",
        "form",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        is_eager=True,
        callback=keep,
        help="Of the output.",
    )


def colour_option() -> click.Option:
    """``--color``, which every verb has."""

    def keep(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
        if value is not None:
            _colour.set(value)

    return click.Option(
        ["--color"],
        type=click.Choice(["auto", "always", "never"]),
        expose_value=False,
        is_eager=True,
        callback=keep,
        help="Findings in colour; auto: on a terminal, where NO_COLOR and FORCE_COLOR do not say otherwise.",
    )


@contextmanager
def streams() -> Iterator[None]:
    """Inside it stdout and stderr take every character: what their encoding lacks is written as an escape.
    Forms and colours begin as nobody chose any. A stream that the caller closed is empty, or takes what is
    written nowhere; what stderr cannot take is lost, and decides no exit code."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    own, replaced = sys.stderr, sys.stderr is not sys.__stderr__
    if not replaced and not own.isatty():
        raw = _Lossy(own.fileno(), "w", closefd=False)
        sys.stderr = TextIOWrapper(BufferedWriter(raw), own.encoding, line_buffering=True)
    before = [
        (stream, stream.errors) for stream in (sys.stdout, sys.stderr) if hasattr(stream, "reconfigure")
    ]
    for stream, _ in before:
        stream.reconfigure(errors="backslashreplace")
    chosen = _form.set("text"), _colour.set("auto"), _aside.set(False)
    try:
        yield
    finally:
        _form.reset(chosen[0])
        _colour.reset(chosen[1])
        _aside.reset(chosen[2])
        for stream, errors in before:
            if not stream.closed:
                stream.reconfigure(errors=errors)
        sys.stderr = own


class _Lossy(FileIO):
    """A file that takes what there is no room for, or what nobody reads."""

    def write(self, data: Any, /) -> int:
        """As FileIO."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def coloured(stream: TextIO) -> bool:
    """``--color`` decides, then NO_COLOR (no-color.org), then FORCE_COLOR, then whether it is a terminal."""
    chosen = _colour.get()
    if chosen != "auto":
        return chosen == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def show(
    found: Sequence[Diagnostic], sources: Sequence[SourceText] = (), files: Sequence[Checked] = ()
) -> int:
    """Prints findings on stdout (on stderr after ``stdout_is_a_file``), in the form that was asked for, and
    returns the exit code that they mean."""
    if (write := MACHINES.get(_form.get())) is not None:
        raw(write(found, sources, files))
    else:
        out = _told()
        shown = text(found, sources, colour=coloured(out), encoding=getattr(out, "encoding", None) or "utf-8")
        out.write(shown)  # click.echo writes UTF-8 where it thinks that a stream's encoding is a mistake
    return exit_code(found)


def stdout_is_a_file() -> None:
    """What this verb has on stdout is a file (``plan fit x > y``): findings and tables go to stderr."""
    _aside.set(True)


def _told() -> TextIO:
    return sys.stderr if _aside.get() else sys.stdout


def put(*parts: RenderableType) -> None:
    """Tables and lines to stdout (to stderr after ``stdout_is_a_file``): as wide as the terminal, or as wide
    as they need where there is none."""
    out = _told()
    colour = coloured(out)
    for part in parts:
        if isinstance(part, str):
            print(escaped(part), file=out)
        elif out.isatty() or colour:
            width = shutil.get_terminal_size().columns if out.isatty() else natural_width(part)
            console = Console(
                file=out,
                width=width,
                force_terminal=colour,
                color_system="standard" if colour else None,
                highlight=False,
                markup=False,
                emoji=False,
            )
            console.print(part)
        else:
            print(to_text(part, width=None), end="", file=out)


def raw(made: str) -> None:
    """A file on stdout (JSON, a plan): UTF-8 whatever the stream's encoding, unless somebody looks at it."""
    out = sys.stdout
    if out.isatty():
        print(escaped(made), end="")
    elif hasattr(out, "buffer"):
        out.flush()
        out.buffer.write(made.encode("utf-8", "backslashreplace"))
        out.buffer.flush()
    else:
        print(made, end="")


def log(line: str) -> None:
    """A line for a person who watches, not for a program that reads the output."""
    print(visible(line), file=sys.stderr)
