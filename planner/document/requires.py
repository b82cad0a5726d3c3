"""``requires``: versions of packages, checked before everything else."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p2_schema import OTHER_VERSION, UNKNOWN_PACKAGE
from planner.document.document import Document
from planner.document.node import escaped
from planner.document.wording import TOOL
from planner.version import VERSION

SELF = (TOOL, "planner")
"""What ``requires`` may call this tool: the distribution, or what Python imports."""
PACKAGES = (
    *SELF,
    *("accelerate", "bitsandbytes", "diffusers", "gguf", "optimum-quanto", "peft", "safetensors"),
    *("tokenizers", "torch", "torchao", "transformers"),
)
"""Packages that a plan may require, to tell a slip of the pen from a package that we do not know."""


def check_requires(document: Document) -> Iterator[Diagnostic]:
    """Specifiers that are none, that no version meets, or that this tool does not meet; misspelt packages."""
    said = document.values.get("requires")
    if not isinstance(said, dict):
        return
    for package, text in said.items():
        pointer = f"/requires/{escaped(package)}"
        # A misspelt package would require nothing. Far names stay: any package may be required.
        if package not in PACKAGES and (near := get_close_matches(package, PACKAGES, n=1, cutoff=0.85)):
            yield finding(
                UNKNOWN_PACKAGE,
                f'no package "{package}" is known',
                span=document.key_spans[pointer],
                pointer=pointer,
                hint=f'did you mean "{near[0]}"?',
            )
        if not isinstance(text, str):
            continue
        span = document.spans[pointer]
        try:
            wanted = SpecifierSet(text)
        except InvalidSpecifier:
            hint = "write it as pip does: '>=0.40,<1'"
            yield finding(
                OTHER_VERSION, f'"{text}" is no version specifier', span=span, pointer=pointer, hint=hint
            )
            continue
        if not _possible(wanted):
            none = f'no version of "{package}" is all of "{text}"'
            yield finding(OTHER_VERSION, none, span=span, pointer=pointer)
        elif package in SELF and not wanted.contains(VERSION, prereleases=True):
            yield finding(
                OTHER_VERSION,
                f"the plan asks for {package} {text}, this is {VERSION}",
                span=span,
                pointer=pointer,
            )


def _possible(wanted: SpecifierSet) -> bool:
    """Whether any version is all of it: what a specifier bounds lies at its version, just above or below."""
    edges = ["0", "999999"]
    for each in wanted:
        edge = each.version.removesuffix(".*")
        edges += [edge, f"{edge}.0.0.1", f"{edge}.dev0", f"{edge}.1", f"{edge}.post1"]
    return any(wanted.contains(version, prereleases=True) for version in edges if _is_version(version))


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
