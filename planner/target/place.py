"""What a plan's ``source`` stands for on this disk: nothing is asked of a network or of a cache elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

INDEX = "model_index.json"
BUILTIN = "builtin:"
READABLE = (".safetensors", ".gguf")
"""Suffixes of files that can be read without running them. diffusers (0.42.1, model_loading_utils.py)
compares them as they are written, and gives every other file to ``torch.load``."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
"""What the hub takes for a repository: ``owner/name``, or an old one without an owner."""
_FILE = re.compile(r".*\.(safetensors|gguf|bin|ckpt|pt|pth|pkl|sft|onnx|zip)", re.IGNORECASE)
_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]")
_URL = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)|\w+://")
"""A page of the hub, as people copy it, with the repository's id; or any other address."""
_REPOSITORY = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``path`` is a folder's or a file's; ``said`` and ``hint``: why there is nothing, and what was meant."""

    kind: Literal["folder", "file", "hub", "nothing"]
    source: str
    path: Path
    said: str = ""
    hint: str = ""

    @property
    def here(self) -> bool:
        """On this disk."""
        return self.kind in ("folder", "file")

    @property
    def readable(self) -> bool:
        """A file that can be read without running it."""
        return self.kind == "file" and self.path.suffix in READABLE


def place_of(
    source: str, relative_to: Path | None = None, revision: str | None = None, *, owned: bool = False
) -> Place:
    """The place that ``source`` names, beside ``relative_to``; ``~`` is the user's home. Of a hub's cache the
    snapshot of ``revision`` is taken (``main``). ``owned``: a hub's id has an owner; only pipelines have old
    ids without. Raises nothing."""
    if "\0" in source:  # no path has it, and functions of paths raise for it
        said = f'the source "{source}" is no folder or file here, and no hub id'
        return Place(kind="nothing", source=source, path=Path(), said=said)
    path = (relative_to or Path()) / os.path.expanduser(source)
    if os.path.isdir(path):
        return _folder(source, path, revision)
    if os.path.isfile(path):
        if path.parent.name == "refs" and path.parent.parent.name.startswith(_REPOSITORY):
            return _snapshot(source, path.parent.parent, path.name)
        return Place(kind="file", source=source, path=path)
    if _is_path(source) or (owned and "/" not in source):
        said = f'the source "{source}" is no folder or file here, and no hub id'
        return Place(kind="nothing", source=source, path=path, said=said, hint=_near(source, path))
    return Place(kind="hub", source=source, path=path)


def _is_path(source: str) -> bool:
    """Text that names a file or folder, and cannot be a repository of the hub."""
    return bool(_PATH.match(source) or _FILE.fullmatch(source) or not HUB_ID.fullmatch(source))


def _near(source: str, path: Path) -> str:
    if (url := _URL.match(source)) is not None:
        return (
            f"the hub's id alone: {url[1]}" if url[1] else "a file or folder here, or a hub's id: OWNER/NAME"
        )
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except (OSError, ValueError):
        return f'there is no folder "{path.parent}"'
    near = get_close_matches(path.name, names, n=1)
    return f'did you mean "{near[0]}"?' if near else "paths are relative to the plan"


def _folder(source: str, path: Path, revision: str | None) -> Place:
    """A hub's cache has ``models--owner--name/snapshots/COMMIT``, and in ``refs`` which commit a name means
    (huggingface_hub 1.x, file_download.py)."""
    if path.name == "snapshots" and path.parent.name.startswith(_REPOSITORY):
        path = path.parent
    if path.name.startswith(_REPOSITORY):
        return _snapshot(source, path, revision)
    repositories = [] if os.path.exists(path / INDEX) else sorted(_repositories(path))
    if repositories:
        said = f'the source "{source}" is a cache of the hub, and does not say which of its models'
        listed = ", ".join(f"{source.rstrip('/')}/{name}" for name in repositories[:3])
        return Place(kind="nothing", source=source, path=path, said=said, hint=f"such as {listed}")
    return Place(kind="folder", source=source, path=path)


def _repositories(path: Path) -> Iterator[str]:
    try:
        yield from (entry.name for entry in path.iterdir() if entry.name.startswith(_REPOSITORY))
    except OSError:
        return


def _snapshot(source: str, repository: Path, revision: str | None) -> Place:
    wanted = revision or "main"
    try:
        commit = (repository / "refs" / wanted).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = wanted
    try:
        have = sorted(entry.name for entry in (repository / "snapshots").iterdir())
    except OSError:
        have = []
    if commit not in have and revision is None and len(have) == 1:
        commit = have[0]
    if commit in have:
        return Place(kind="folder", source=source, path=repository / "snapshots" / commit)
    said = f'the source "{source}" is a cache of the hub without a snapshot of "{wanted}"'
    hint = f"it has {', '.join(have)}" if have else "download it again"
    return Place(kind="nothing", source=source, path=repository, said=said, hint=hint)
