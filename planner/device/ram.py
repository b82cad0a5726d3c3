"""How much host memory this process may still take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
_V2 = ("memory.max", "memory.current", "")
"""Files of a cgroup with its limit and what it uses, and what precedes the names in its ``memory.stat``
(Linux, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst)."""


def available(root: Path = Path("/")) -> int:
    """Bytes: what the system has free or can free, or less where a cgroup of this process leaves less.

    ``root``: where ``proc`` and ``sys`` are.
    """
    return min((int(psutil.virtual_memory().available), *_left(root)))


def _left(root: Path) -> Iterator[int]:
    """What each cgroup around this process leaves. Pages of files can be freed, and count as free."""
    for folder, (limit, usage, prefix) in _cgroups(root):
        with suppress(OSError, ValueError, KeyError):  # no such file, or "max": it has no limit
            most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            files = sum(int(stat[f"{prefix}{name}_file"]) for name in ("active", "inactive"))
            yield max(0, most - used + files)


def _cgroups(root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Their folders, inner ones first. A container may see its own as the root of all."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / ("sys/fs/cgroup/memory" if controllers else "sys/fs/cgroup")
        inner = top / path.strip("/")
        for folder in (inner, *inner.parents):
            yield folder, _V1 if controllers else _V2
            if folder == top:
                break
