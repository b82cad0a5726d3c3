"""Why a file is not what its name says: what is there in its place, and the mend."""

from __future__ import annotations

import os
import re
from pathlib import Path

AGAIN = "download or copy it again"
_SIZE = re.compile(rb"^size (\d+)", re.MULTILINE)


class Broken(Exception):
    """A file or a set of files that is not whole; says what and where, and in ``mend`` what would help."""

    def __init__(self, said: str, mend: str = AGAIN) -> None:
        super().__init__(said)
        self.mend = mend


def told(start: bytes) -> Broken | None:
    """What a file that begins with ``start`` is, where it is of a kind that stands in for others; the text
    goes after the file's name."""
    if not start:
        return Broken("is empty (0 bytes)")
    if start.startswith(b"version https://git-lfs"):
        size = _SIZE.search(start)
        there = f": its {_shown(int(size[1]))} are not here" if size else ""
        return Broken(f"is a Git LFS pointer{there}", "run `git lfs pull` in the repository that it is from")
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return Broken(
            "is a web page: what was downloaded is an answer, not the file", "log in: hf auth login"
        )
    return None


def missing(path: Path) -> Broken | None:
    """For a link whose file is not there, as an unfinished download leaves it in a hub's cache."""
    if os.path.islink(path) and not os.path.exists(path):
        return Broken("is a link to a file that is not there: its download did not finish")
    return None


def _shown(nbytes: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= size:
            return f"{nbytes / size:.2f} {unit}"
    return f"{nbytes} bytes"
