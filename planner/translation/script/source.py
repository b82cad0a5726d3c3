"""A pasted snippet as Python's syntax tree, with the places of its nodes in the text as it was pasted."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass

from planner.source.text import SourceText, Span

_PROMPT = re.compile(r"[ \t]*(>>>|\.\.\.)( |$)")
_MAGIC = re.compile(r"[ \t]*[!%]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """``body``: the statements; ``shifts``: by line, the characters that were taken off its front;
    ``magics``: lines that only a notebook understands (``!pip install``)."""

    source: SourceText
    body: tuple[ast.stmt, ...]
    shifts: tuple[int, ...]
    magics: tuple[Span, ...]

    def span(self, node: ast.stmt | ast.expr | ast.keyword) -> Span:
        """Where ``node`` stands; of several lines the first."""
        line = self.source.line(node.lineno)
        shift = self.shifts[node.lineno - 1]
        seen = line[shift:].encode(errors="surrogatepass")  # ast counts bytes
        start = _characters(seen, node.col_offset)
        ends_here = node.end_lineno == node.lineno and node.end_col_offset is not None
        end = _characters(seen, node.end_col_offset or 0) if ends_here else len(line.rstrip()) - shift
        return _span(self.source, node.lineno, shift + start, end - start)


def parse(source: SourceText) -> Script:
    """Doctest prompts, common indentation and notebook commands are taken off first.

    Raises SyntaxError with its line and column in ``source``, ValueError, and whatever deep nesting does to
    ``ast`` (RecursionError, MemoryError).
    """
    lines = [line.rstrip("\r") for line in source.text.split("\n")]
    prompted = next((bool(_PROMPT.match(line)) for line in lines if line.strip()), False)
    shifts, kept, magics = [], [], []
    for number, line in enumerate(lines, 1):
        shift = 0
        if prompted:
            found = _PROMPT.match(line)
            shift = found.end() if found else len(line)  # what an example printed
        rest = line[shift:]
        if _MAGIC.match(rest):
            magics.append(_span(source, number, shift, len(rest)))
            rest = rest[: len(rest) - len(rest.lstrip())] + "pass"
        shifts.append(shift)
        kept.append(rest)
    common = min((len(line) - len(line.lstrip()) for line in kept if line.strip()), default=0)
    text = "\n".join(line[common:] for line in kept)
    made = tuple(shift + common for shift in shifts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes in the text are not ours to judge
        try:
            body = tuple(_own_names(ast.parse(text)).body)
        except SyntaxError as error:
            line_number = min(max(error.lineno or 1, 1), len(made))
            error.lineno, error.offset = line_number, (error.offset or 1) + made[line_number - 1]
            raise
    return Script(source=source, body=body, shifts=made, magics=tuple(magics))


def _own_names(tree: ast.Module) -> ast.Module:
    """``from x import A as B`` as ``A``, and B as A wherever it stands, so that a class is known by its own
    name. A name that is also assigned is left."""
    nodes = list(ast.walk(tree))
    stored = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    imported = [alias for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names]
    own = {a.asname: a.name for a in imported if a.asname is not None and a.asname not in stored}
    for alias in imported:
        alias.asname = None if alias.asname in own else alias.asname
    for node in nodes:
        if isinstance(node, ast.Name):
            node.id = own.get(node.id, node.id)
    return tree


def _characters(line: bytes, offset: int) -> int:
    return len(line[:offset].decode(errors="replace"))


def _span(source: SourceText, line: int, offset: int, width: int) -> Span:
    return Span(file=source.name, line=line, column=offset + 1, width=max(1, width))
