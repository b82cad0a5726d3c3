"""A card as data: its memory, its link, how fast it computes, which kernels libraries run on it, and how fast
the host of a machine with it brings weights from files and lays them out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Literal

from planner.cards.kernels import Kernels
from planner.cards.rates import Table

Source = Literal["measured", "assumed"]

SHARE: Mapping[str, float] = MappingProxyType(
    {"matmul": 0.68, "conv": 0.42, "attention": 0.55, "memory": 0.55, "group_norm": 0.05}
)
"""Of a data sheet's peak, what an operation is taken to reach where a card has no table for it: what an
H200 reached in the sizes that diffusion pipelines have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Bytes a second by the size of one copy: from host memory that is ``pinned``, and ``pageable``."""

    pinned: Table
    pageable: Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Of the machine that the card is in, bytes a second. ``read``: of weights' files that the page cache
    has, into memory; ``pack``: of small weights, into memory that is registered meanwhile."""

    read: float
    pack: float


HOST = Host(read=1e10, pack=1e10)
"""What a host is taken to reach whose card's file does not say: two cores copied 10 to 16 GB/s out of a warm
page cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardData:
    """What a card's file says. Bytes and seconds; rates a second.

    ``total``: memory as the driver shows it; ``context``: of it, what a process takes before any weight,
    with the libraries that a pipeline loads; ``registered``: device bytes more for each GiB of host memory
    that is registered. ``register``: bytes of host memory registered a second. ``launch``: the least time
    of an operation on the device; ``dispatch``: what the host takes to hand it one. ``peak``: FLOP/s of
    matrix units by dtype, as the data sheet says (dense); ``bandwidth``: of its memory. ``rates``: tables
    of FLOP/s by kind and dtype (of ``memory``: of bytes a second), for sizes that are shapes, or the
    operation's FLOPs (bytes). ``host``: of the machine, None where the file does not say. ``versions``: of
    what it was measured with. ``sources``: where values by their path in the file ("link", "rates.matmul")
    come from, "" for all others.
    """

    name: str
    aliases: tuple[str, ...] = ()
    backend: str = "cuda"
    capability: str = ""
    sms: int
    total: int
    context: int
    registered: int = 0
    to_device: Link
    to_host: Link
    register: float
    launch: float
    dispatch: float
    bandwidth: float
    peak: Mapping[str, float]
    rates: Mapping[str, Mapping[str, Table]]
    host: Host | None = None
    kernels: Kernels
    versions: Mapping[str, str]
    sources: Mapping[str, Source]
    notes: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        """Of the weakest value in it that a call's times and sizes are made of: not the host's."""
        return "assumed" if "assumed" in self._of_calls.values() else "measured"

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of all values that a plan is compiled by, so neither the notes nor the
        host's: the same however its file is laid out."""
        values = asdict(replace(self, notes=(), sources=self._of_calls))
        del values["host"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def source_of(self, path: str) -> Source:
        """Where the value at ``path`` (``memory.context``, ``rates.matmul.bfloat16``) comes from."""
        if self.host is None and _is_of(path, HOSTS):
            return "assumed"
        while path and path not in self.sources:
            path = path.rpartition(".")[0]
        return self.sources[path]

    def read_seconds(self, nbytes: int) -> float:
        """Of reading so many bytes of files that the page cache has into memory."""
        return nbytes / (self.host or HOST).read

    def pack_seconds(self, nbytes: int) -> float:
        """Of packing so many bytes of small weights, registered meanwhile where the device has that."""
        return nbytes / (self.host or HOST).pack

    def seconds(self, kind: str, dtype: str, flops: int, nbytes: int, shape: tuple[int, ...] = ()) -> float:
        """Of one operation on the device: at least ``launch``, its FLOPs at the rate of its kind and dtype,
        its bytes at the memory's. ``shape``: as ``planner.predict.profile.Operation`` has it, () where it
        is not known.
        """
        moved = nbytes / self._bandwidth(dtype, nbytes, shape) if nbytes else 0.0
        if kind == "memory" or not flops:
            return max(self.launch, moved)
        return max(self.launch, moved, flops / self._rate(kind, dtype, flops, shape))

    def together(self, seconds: float, operations: float) -> float:
        """Of ``operations`` that take so many ``seconds`` on the device: at least what the host takes to hand
        them over."""
        return max(seconds, operations * self.dispatch)

    def copy_seconds(self, nbytes: int, *, pinned: bool = True, to_host: bool = False) -> float:
        """Of one copy of so many bytes between host and device."""
        if not nbytes:
            return 0.0
        link = self.to_host if to_host else self.to_device
        return nbytes / (link.pinned if pinned else link.pageable).at((nbytes,))

    def register_seconds(self, nbytes: int) -> float:
        """Of registering so many bytes of host memory, for copies as from pinned memory."""
        return nbytes / self.register

    def context_with(self, registered: int) -> int:
        """Bytes of the context with so many bytes of host memory registered."""
        return self.context + registered * self.registered // (1 << 30)

    @property
    def _of_calls(self) -> dict[str, Source]:
        return {path: source for path, source in self.sources.items() if not _is_of(path, HOSTS)}

    def _rate(self, kind: str, dtype: str, flops: int, shape: tuple[int, ...]) -> float:
        tables = self.rates.get(kind, {})
        table = tables.get(dtype) or tables.get(_LIKE.get(dtype, ""))
        if table is None:
            return self._peak(dtype) * SHARE.get(kind, SHARE["matmul"])
        if table.width == 1:
            return table.at((flops,))
        if table.width == len(shape):
            return table.at(shape, by_last=kind == "attention")
        by_flops = sorted(rate for _, rate in table.points)
        return by_flops[len(by_flops) // 2]  # no shape is known: the median of all that were measured

    def _peak(self, dtype: str) -> float:
        found = self.peak.get(dtype) or self.peak.get(_LIKE.get(dtype, ""))
        return found or min(self.peak.values())

    def _bandwidth(self, dtype: str, nbytes: int, shape: tuple[int, ...]) -> float:
        """``shape`` of three numbers: of a group norm."""
        if len(shape) == GROUP_NORM:
            tables = self.rates.get("group_norm", {})
            table = tables.get(dtype) or tables.get(_LIKE.get(dtype, ""))
            return self.bandwidth * SHARE["group_norm"] if table is None else table.at(shape)
        tables = self.rates.get("memory", {})
        table = tables.get(dtype) or tables.get(_LIKE.get(dtype, "")) or tables.get("any")
        return self.bandwidth * SHARE["memory"] if table is None else table.at((nbytes,))


def _is_of(path: str, section: str) -> bool:
    return path == section or path.startswith(f"{section}.")


HOSTS = "host"
"""The section of a file that has a ``Host``."""
GROUP_NORM = 3
_LIKE = {"float16": "bfloat16", "bfloat16": "float16", "float8_e4m3fn": "bfloat16", "float8_e5m2": "bfloat16"}
"""Whose rate a dtype has that is not in a table: the other half precision's; float8 weights are multiplied
in it."""
