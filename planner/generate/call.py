"""A pipeline class's call: what its signature, its documentation and its use of ``**kwargs`` say it takes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from types import NoneType

from planner.generate.docs import documented
from planner.generate.source import Def, Source

LISTS = frozenset(("list", "List", "tuple", "Tuple", "Sequence", "Iterable", "set"))
UNIONS = frozenset(("Optional", "Union", "Annotated"))
KINDS = {
    **{name: name for name in ("str", "int", "float", "bool", "dict")},
    "Dict": "dict",
    "Mapping": "dict",
    "Any": "any",
    "object": "any",
    "Path": "str",
    **dict.fromkeys(("Callable", "PipelineCallback", "MultiPipelineCallbacks"), "callable"),
    **dict.fromkeys(("Image", "PipelineImageInput", "PipelineMaskInput"), "image"),
    **dict.fromkeys(("ndarray", "array", "Generator", "RandomState", "CLIPTextModelOutput"), "object"),
    **dict.fromkeys(("Tensor", "FloatTensor", "LongTensor", "BoolTensor", "IntTensor"), "object"),
}
"""What annotations and documentation call a form; anything else is ``any``."""
ORDER = ("str", "int", "float", "bool", "list", "dict", "image", "object", "callable", "any")


def call_text(cls: type, source: Source) -> str | None:
    """The arguments of ``cls.__call__`` as a catalogue has them (``planner.target.call.read_call``); None
    where it has no call that can be read.

    A form is what the annotation or the documentation admits: diffusers' are often narrower than its code.
    """
    found = source.find_method(cls, "__call__")
    while found is not None and _passes_on(found[1].args):
        found = source.find_method(cls, "__call__", after=found[0])
    if found is None:
        return None
    node = found[1]
    said = documented(ast.get_docstring(node) or "")
    args, parts = node.args, []
    plain = [*args.posonlyargs, *args.args][1:]
    defaults: list[ast.expr | None] = [None] * len(plain)
    defaults[len(plain) - len(args.defaults) :] = args.defaults
    named = [*zip(plain, defaults, strict=True), *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    named.sort(key=lambda pair: pair[1] is not None)  # what has no default stands first, as Python wants it
    for arg, default in named:
        forms = {*_annotated(arg.annotation), *_told(said.get(arg.arg)), *_of_default(default)}
        parts.append(_written(arg.arg, forms, default))
    if args.kwarg is not None:
        known = {arg.arg for arg, _ in named} | {args.kwarg.arg}
        taken = dict.fromkeys([*(name for name in said if name not in known), *_taken(node, args.kwarg.arg)])
        more = [_written(name, set(_told(said.get(name))), ast.Constant(value=...)) for name in taken]
        parts += [*(["*"] if more else []), *more, "**kwargs"]
    return ", ".join(parts)


def _passes_on(args: ast.arguments) -> bool:
    """``(self, *args, **kwargs)``: what it takes is what the class above takes."""
    return args.vararg is not None and args.kwarg is not None and len(args.args) + len(args.kwonlyargs) <= 1


def _written(name: str, forms: Iterable[str], default: ast.expr | None) -> str:
    made = _union(forms)
    return f"{name}{': ' + made if made != 'any' else ''}{_shown(default)}"


def _shown(default: ast.expr | None) -> str:
    """Text, numbers and lists of them as Python writes them; ``...`` for what only the code knows."""
    if default is None:
        return ""
    try:
        value = ast.literal_eval(default)
    except ValueError:
        return "=..."
    plain = isinstance(value, (str, int, float, list, tuple, NoneType)) and value == value
    return f"={value!r}" if plain else "=..."


def _union(forms: Iterable[str]) -> str:
    """One text for one set of forms. ``any`` takes in all others, and so does nothing."""
    found = {form for form in forms if form != "None"}
    if "any" in found or not found:
        return "any"
    if len(lists := {form for form in found if form.startswith("list")}) > 1:
        inner = {part for form in lists for part in form.removeprefix("list")[1:-1].split(" | ")}
        found = found - lists | {f"list[{_union(inner)}]"} if not any("[" in p for p in inner) else found
    found = {"list" if form == "list[any]" else form for form in found}
    return " | ".join(sorted(found, key=lambda form: (ORDER.index(form.partition("[")[0]), form)))


def _annotated(node: ast.expr | None) -> Iterator[str]:
    match node:
        case None | ast.Constant(value=None):
            return
        case ast.Constant(value=str() as text):
            yield from _parsed(text)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield "list[any]" if name in LISTS else KINDS.get(name, "any")
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _annotated(left)
            yield from _annotated(right)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            inside = _parts(inner)
            if name in UNIONS:
                for part in inside:
                    yield from _annotated(part)
            elif name in LISTS:
                yield f"list[{_union(form for part in inside for form in _annotated(part))}]"
            elif name == "Literal":
                yield from {type(p.value).__name__ for p in inside if isinstance(p, ast.Constant)}
            else:
                yield KINDS.get(name, "any")
        case _:
            yield "any"


def _parts(node: ast.expr) -> list[ast.expr]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [part for part in parts if not (isinstance(part, ast.Constant) and part.value is ...)]


def _parsed(text: str) -> Iterator[str]:
    try:
        yield from _annotated(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError:
        yield "any"


def _told(types: Iterable[str] | None) -> Iterator[str]:
    """Forms in a documentation's words for a type."""
    for text in types or ():
        for part in re.split(r"\bor\b", text):
            if part.strip() not in ("", "optional", "None"):
                yield from _parsed(part)


def _of_default(node: ast.expr | None) -> Iterator[str]:
    """A default is a value that the argument takes, whatever its annotation."""
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            yield type(value).__name__
        case ast.List(elts=elts) | ast.Tuple(elts=elts):
            yield f"list[{_union(form for part in elts for form in _of_default(part))}]"


def _taken(node: Def, kwargs: str) -> Iterator[str]:
    """Names that a call takes from its ``**kwargs``: ``pop``, ``get``, an index, ``in``."""
    for part in ast.walk(node):
        match part:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="pop" | "get"),
                args=[ast.Constant(value=str() as key), *_],
            ) if name == kwargs:
                yield key
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key)) if (
                name == kwargs
            ):
                yield key
            case ast.Compare(
                left=ast.Constant(value=str() as key), ops=[ast.In()], comparators=[ast.Name(id=name)]
            ) if name == kwargs:
                yield key
