"""Values that an editor offers and that judge nothing."""

from __future__ import annotations

from collections.abc import Iterable

from planner.document.language.shape import Shape


def offered(values: Iterable[str], told: Iterable[str] = ()) -> Shape:
    """A definition that no value matches: editors list an ``enum`` wherever it stands in an ``anyOf``, and
    show the values of those that match when they explain one, which would be hundreds of classes.

    ``told``: what each value means.
    """
    words = [*told]
    return {
        "title": "offered",
        "not": {},
        "enum": [*values],
        **({"enumDescriptions": words} if words else {}),
    }


def with_offer(shape: Shape, offer: Shape, title: str = "") -> Shape:
    """``shape``, for which ``offer`` is listed. The alternative that every value matches has a title, since
    yaml-language-server tells alternatives apart by it: ``title`` where the shape has none."""
    return {**shape, "anyOf": [{"title": title or shape["title"]}, offer]}


def of_list(values: Iterable[str]) -> Shape:
    """The same for what stands in a list, where yaml-language-server makes an item of each alternative."""
    return {"defaultSnippets": [{"bodyText": value} for value in values]}
