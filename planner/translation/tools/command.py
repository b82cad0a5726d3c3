"""A server's command line, as it is pasted, to the tool's settings."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table import p8_tools as codes
from planner.document.parse import resolved
from planner.source.text import SourceText, Span
from planner.translation.tools.kinds import BOOL, NAMES, shown
from planner.translation.tools.model import Command, Kind, Setting, Tool

_WORD = re.compile(r"""(?:\\.|'[^']*'|"(?:\\.|[^"\\])*"|[^\s\\'"]|['"\\])+""", re.DOTALL)
_OPERATORS = ("|", "||", "&", "&&", ";")
_CONTINUED = re.compile(r"\\\r?\n")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the command line, without its quotes, and where it stands."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``values`` and ``places`` by setting; ``pipeline`` are keys of the plan's ``pipeline``."""

    values: Mapping[str, Any]
    places: Mapping[str, Span]
    pipeline: Mapping[str, str]
    found: tuple[Diagnostic, ...]


def is_command(tool: Tool, text: str) -> bool:
    """Whether ``text`` begins with an option, or with one of the tool's programs."""
    if tool.command is None:
        return False
    rest = []
    try:
        for word in _begun(_words(SourceText(name="", text=text))):
            rest.append(word)
    except ValueError:  # a quote that stays open, further on
        pass
    if not rest:
        return False
    option = rest[0].text.startswith("--") and not rest[0].text.endswith(":")  # that is a key of YAML
    return option or _program(tool.command, rest) > 0


def from_command(tool: Tool, source: SourceText) -> Options:
    """The options that are settings, and a finding for each that is not. Raises ValueError for quotes that
    are left open."""
    command = tool.command or Command(programs=())
    words = list(_begun(_words(source)))
    words = words[_program(command, words) :]
    reader = _Reader(tool, command)
    at = 0
    while at < len(words):
        at = reader.option(words, at)
    return Options(
        values=reader.values, places=reader.places, pipeline=reader.pipeline, found=tuple(reader.found)
    )


class _Reader:
    """Options to settings, one after the other."""

    def __init__(self, tool: Tool, command: Command) -> None:
        self.tool, self.command = tool, command
        self.known = {setting.name: setting for setting in tool.settings}
        self.values: dict[str, Any] = {}
        self.places: dict[str, Span] = {}
        self.pipeline: dict[str, str] = {}
        self.found: list[Diagnostic] = []

    def option(self, words: list[Word], at: int) -> int:
        """Reads the option at ``at`` with its values; where the next one begins."""
        word = words[at]
        if not word.text.startswith("-") or word.text == "-":
            self._positional(word)
            return at + 1
        name, equals, inline = word.text.lstrip("-").partition("=")
        key, _, dotted = name.replace("-", "_").partition(".")
        key = self.command.options.get(key, key)
        following = [Word(inline, word.span)] if equals else list(self._values(words, at + 1))
        if key in self.command.fixed:
            key, value = self.command.fixed[key]
            self._set(key, value, word)
            return at + 1
        setting = self.known.get(key)
        if setting is None:
            self._elsewhere(key, name, word, following)
            return at + 1 + (0 if equals else len(following))
        takes = 0 if equals else len(following)
        if setting.kind is BOOL:
            truth = _TRUTHS.get(following[0].text.lower()) if following else None
            takes = 0 if equals or truth is None else 1
            said: Any = True if truth is None else truth
            if truth is None and equals:
                said = inline
        elif key in self.command.several:
            said = [each.text for each in following]
        else:
            takes = min(takes, 1)
            said = _value(setting, following[0].text) if following else None
        if dotted:
            self._dotted(key, dotted, said, word)
        else:
            self._set(key, said, word)
        return at + 1 + takes

    def _set(self, key: str, value: Any, word: Word) -> None:
        if key in self.values and self.values[key] != value:
            before = self.places[key]
            said = f"{word.text} stands twice: the later one holds"
            self.found.append(finding(codes.WITHOUT_EFFECT, said, span=before))
        self.values[key], self.places[key] = value, word.span

    def _dotted(self, key: str, path: str, value: Any, word: Word) -> None:
        """``--diffusion-offload-config.layer_options.dit.resident_layers 8``"""
        made = self.values.setdefault(key, {})
        self.places.setdefault(key, word.span)
        *parents, last = path.replace("-", "_").split(".")
        for parent in parents:
            made = made.setdefault(parent, {}) if isinstance(made, dict) else made
        if isinstance(made, dict):
            made[last] = value

    def _positional(self, word: Word) -> None:
        key = self.command.positional
        if key and key not in self.pipeline and word.text:
            self._pipeline(key, word.text, word.span)
        else:
            said = f"{shown(word.text)} belongs to no option"
            self.found.append(finding(codes.OPTION_NOT_KNOWN, said, span=word.span))

    def _pipeline(self, key: str, value: str, span: Span) -> None:
        self.pipeline[key] = value
        said = f"pipeline.{key} is {shown(value)}"
        self.found.append(finding(codes.CARRIED_OVER, said, span=span))

    def _elsewhere(self, key: str, name: str, word: Word, values: list[Word]) -> None:
        given = values[0].text if values else ""
        wanted = self.command.pipeline.get(key)
        if wanted == "dtype":
            self._dtype(given, word)
        elif wanted and given:
            self._pipeline(wanted, given, word.span)
        elif key in self.command.spread:
            if given not in ("", "1", "-1", "false"):
                said = f"--{name} {given}: the plan is for one card"
                self.found.append(finding(codes.SEVERAL_DEVICES, said, span=word.span))
            else:
                self._aside(name, word)
        elif key.startswith(self.command.elsewhere):
            self._aside(name, word)
        elif near := nearest(key, self.known):
            hint = f'did you mean "--{near.replace("_", "-")}"?'
            said = f"{self.tool.title} has no option --{name}"
            self.found.append(finding(codes.UNKNOWN_SETTING, said, span=word.span, hint=hint))
        else:
            said = f"--{name} of {self.tool.title} is not known here: left out"
            self.found.append(finding(codes.OPTION_NOT_KNOWN, said, span=word.span))

    def _dtype(self, given: str, word: Word) -> None:
        short = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32"}
        made = short.get(given, given)
        if made in ("bfloat16", "float16", "float32"):
            self._pipeline("dtype", made, word.span)
        else:
            said = f"{word.text} {given}: a plan has no such dtype"
            self.found.append(finding(codes.OPTION_NOT_KNOWN, said, span=word.span))

    def _aside(self, name: str, word: Word) -> None:
        said = f"--{name} is not about where weights lie"
        self.found.append(finding(codes.OTHER_FEATURE, said, span=word.span))

    def _values(self, words: list[Word], at: int) -> Iterator[Word]:
        """Words up to the next option; a negative number is none."""
        for word in words[at:]:
            if word.text.startswith("-") and not re.match(r"-\.?\d", word.text):
                return
            yield word


def _value(setting: Setting, text: str) -> Any:
    """A word as the setting wants it: a number, JSON, or the text."""
    kind: Kind = setting.kind
    if kind is NAMES:
        return [name for name in re.split(r"[,\s]+", text) if name]
    if text.lstrip().startswith(("{", "[")):
        try:
            return json.loads(text)
        except ValueError:
            return text
    made = resolved(text)
    return made if isinstance(made, (int, float)) and not isinstance(made, bool) else text


def _words(source: SourceText) -> Iterator[Word]:
    """Words as a shell splits them, each with its place; a comment ends its line, and an operator
    (``|``, ``&&``) the command. Raises ValueError for a quote that stays open."""
    text = _CONTINUED.sub(lambda found: " " * len(found[0]), source.text)
    comment_ends = 0
    for found in _WORD.finditer(text):
        if found.start() < comment_ends:
            continue
        if found[0].startswith("#"):
            comment_ends = _line_end(text, found.start())
            continue
        if found[0] in _OPERATORS:
            return
        if found[0] in ("'", '"') or not (parts := shlex.split(found[0])):
            parts = [""]
        row = source.text.count("\n", 0, found.start()) + 1
        column = found.start() - source.text.rfind("\n", 0, found.start())
        width = len(found[0].partition("\n")[0])
        yield Word(parts[0], Span(file=source.name, line=row, column=column, width=width))


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _begun(words: Iterator[Word]) -> Iterator[Word]:
    """Without a prompt, ``export`` and variables of the environment in front."""
    started = False
    for word in words:
        if not started and (word.text in ("$", "%", ">", "export", "env", "sudo", "time", "nohup", "exec")):
            continue
        if not started and _VARIABLE.match(word.text):
            continue
        started = True
        yield word


def _program(command: Command, words: list[Word]) -> int:
    """How many words name the program; 0 where it is none of the tool's."""
    texts = [word.text.rpartition("/")[2] if i == 0 else word.text for i, word in enumerate(words)]
    return max((len(p) for p in command.programs if tuple(texts[: len(p)]) == p), default=0)
