"""What ``plan translate`` is given: words of the command line, a file, a notebook, or standard input."""

from __future__ import annotations

import json
import re
import shlex
import tokenize
from collections.abc import Sequence
from pathlib import Path

import click

from planner.cli.source import source_of
from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p3_target import NO_SUCH_SOURCE
from planner.diagnostics.table.p8_tools import SETTINGS_NOT_READ
from planner.document.read import document_of
from planner.source.text import SourceText
from planner.target.place import HUB_ID, INDEX, place_of
from planner.translation.convert import NAME, TOOLS, tool_of
from planner.translation.lint import SEPARATORS

_WORD = re.compile(r"[\w.]*")
_FILE = re.compile(r"[^\s({]*\.(py|ipynb|ya?ml|json|toml|txt|md|safetensors|gguf|ckpt|pt|bin)", re.IGNORECASE)


def pasted(words: Sequence[str]) -> SourceText:
    """One argument as it is, or the file that it names; several are a command line. Raises UsageError."""
    if len(words) > 1:
        joined = shlex.join(words)
        if tool_of(joined) is None and not words[0].startswith("-"):
            raise click.UsageError(f"one argument, in quotes if it has blanks; got {len(words)}")
        return SourceText(name=NAME, text=joined)
    if words[0] == "-" and isinstance(given := source_of("-"), SourceText):
        return given
    path = Path(words[0])
    try:
        if not path.is_file():
            return SourceText(name=NAME, text=words[0])
        if path.name == INDEX:
            return SourceText(name=NAME, text=str(path.parent))
        with tokenize.open(
            path
        ) as file:  # as Python reads its own: a mark of its encoding is none of the text
            text = file.read()
        return SourceText(name=words[0], text=_cells(text) if path.suffix == ".ipynb" else text)
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise click.UsageError(f"{words[0]} cannot be read: {error}") from error


def tool_in(source: SourceText) -> str | None:
    """The tool whose command line it is, "" for Python, None for neither."""
    found = tool_of(source.text)
    is_script = found is None and source.text.strip() and source.name.endswith((".py", ".ipynb"))
    return "" if is_script else found


def unread(source: SourceText) -> Diagnostic | None:
    """Why there is nothing to translate in a text that is neither a script nor settings of a tool that shows;
    None where it may be a sequence, or the name of a class or a folder."""
    text, given = source.text, source.name == NAME
    if not text.strip():
        said = "there is nothing to read" if given else f'"{source.name}" is empty'
        return finding(SETTINGS_NOT_READ, said)
    if given and Path(text).is_dir():
        return None
    if given and (_FILE.fullmatch(text) or re.match(r"[.~/\\]", text)):
        near = place_of(text).hint
        hint = near if near.startswith("did") else "paths are relative to the current folder"
        return finding(NO_SUCH_SOURCE, f'"{text}" is no file or folder here', hint=hint)
    if all(_WORD.fullmatch(word) for word in SEPARATORS.split(text)) and (given or "\n" not in text.strip()):
        return None
    document, _ = document_of(source)
    what = "the text" if given else f'"{source.name}"'
    hint = f"--tool TOOL, one of {', '.join(TOOLS)}"
    said = f"{what} is neither a sequence, nor a script, nor settings that show whose they are"
    keys = document.values if document is not None and isinstance(document.values, dict) else {}
    if {"version", "pipeline"} <= keys.keys():
        said, hint = f"{what} is a plan already", "plan explain FILE, plan fit FILE"
    elif HUB_ID.fullmatch(text) and "/" in text:
        said, hint = f'"{text}" is a hub\'s id: expected a class or a folder', f"plan fit {text} makes a plan"
    return finding(SETTINGS_NOT_READ, said, hint=hint)


def _cells(text: str) -> str:
    """The code of a notebook, cell after cell."""
    said = json.loads(text)
    cells = said.get("cells") if isinstance(said, dict) else None
    if not isinstance(cells, list):
        raise ValueError("it has no cells")
    code = [
        cell.get("source") for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"
    ]
    return "\n\n".join("".join(lines) if isinstance(lines, list) else str(lines) for lines in code)
