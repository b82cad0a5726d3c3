"""Weights between the host and the device: laid out, copied, bound, and given back by identity.

The host tensor is the truth and is never copied back unless somebody changed the device's copy. A
tensor is bound by replacing its entry in the ``_parameters`` or ``_buffers`` of every module that
owns it, so the user's own Parameter objects come back as they were. ``.data =`` would fail for
wrapper tensors and for backends other than CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from planner.device.protocol import Device
from planner.target.model import ALIGNMENT

Table = dict[str, torch.Tensor | None]


@dataclass(slots=True)
class Slot:
    """One entry of a module's ``_parameters`` or ``_buffers``."""

    table: Table
    key: str
    host: torch.Tensor
    device: torch.Tensor | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """A range of one host storage that tensors lie in: ``start`` to ``end`` bytes, at ``offset`` on the device."""

    storage: torch.UntypedStorage
    start: int
    end: int
    offset: int


def slots_of(module: torch.nn.Module) -> list[Slot]:
    """Every tensor that ``module`` owns, once for each owner; a tied tensor appears more than once."""
    found = []
    seen: set[int] = set()
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):
            if id(table) in seen:
                continue
            seen.add(id(table))
            found += [Slot(table, key, tensor) for key, tensor in table.items() if tensor is not None]  # type: ignore[arg-type]
    return found


def movable(tensor: torch.Tensor) -> bool:
    """True for a plain strided tensor on the host, whose bytes are all there is to it.

    Tensor subclasses (torchao, quanto, GGUF, bitsandbytes) carry state beside their bytes.
    """
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.is_conj() is False
    )


def lay_out(slots: list[Slot]) -> tuple[dict[int, list[Region]], int]:
    """Regions by storage address, and the bytes of the piece that holds them.

    Overlapping views share a region, so tied and shared tensors cross once and stay tied.
    """
    spans: dict[int, list[tuple[int, int]]] = {}
    storages: dict[int, torch.UntypedStorage] = {}
    for slot in slots:
        storage = slot.host.untyped_storage()
        start, end = _extent(slot.host)
        if end > start:
            storages[storage.data_ptr()] = storage
            spans.setdefault(storage.data_ptr(), []).append((start, end))
    regions: dict[int, list[Region]] = {}
    offset = 0
    for address, ranges in spans.items():
        for start, end in _merged(ranges):
            regions.setdefault(address, []).append(Region(storages[address], start, end, offset))
            offset += -(-(end - start) // ALIGNMENT) * ALIGNMENT
    return regions, offset


def _extent(tensor: torch.Tensor) -> tuple[int, int]:
    """First and one-past-last byte of ``tensor`` in its storage."""
    if tensor.numel() == 0:
        return 0, 0
    size = tensor.element_size()
    first = int(tensor.storage_offset())
    last = first + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return first * size, (last + 1) * size


def _merged(ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Overlapping ranges joined; ranges that only touch stay apart."""
    current: tuple[int, int] | None = None
    for start, end in sorted(set(ranges)):
        if current is not None and start < current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current


class Bound:
    """A component's weights on the device, until ``release``."""

    def __init__(self, module: torch.nn.Module, device: Device, label: str) -> None:
        """Copies and binds. On any failure the module is as it was and nothing is held."""
        self._device = device
        self._modules = [m for m in module.modules() if isinstance(m, torch.nn.RNNBase)]
        self._slots = [s for s in slots_of(module) if movable(s.host)]
        regions, self.nbytes = lay_out(self._slots)
        # Weights made under inference_mode could not be used outside of it, nor the other way round.
        with torch.inference_mode(False), torch.no_grad():
            self._piece = device.alloc(self.nbytes, label)
            try:
                # The memory may still be read by kernels queued before it was given back.
                device.wait("copy", device.record("compute"))
                for found in regions.values():
                    for region in found:
                        device.copy(self._piece, region.offset, _bytes(region))
                device.wait("compute", device.record("copy"))
                self._bind(regions)
            except BaseException:
                self._unbind()
                device.free(self._piece)
                raise

    def _bind(self, regions: dict[int, list[Region]]) -> None:
        made: dict[int, torch.Tensor] = {}
        for slot in self._slots:
            tensor = made.get(id(slot.host))
            if tensor is None:
                tensor = made[id(slot.host)] = self._on_device(slot.host, regions)
            slot.device = tensor
            slot.version = _version(tensor)
            slot.table[slot.key] = tensor
        self._flatten()

    def _on_device(self, host: torch.Tensor, regions: dict[int, list[Region]]) -> torch.Tensor:
        start, end = _extent(host)
        place = 0
        for region in regions.get(host.untyped_storage().data_ptr(), ()):
            if region.start <= start and end <= region.end:
                place = region.offset + start - region.start
                break
        tensor = self._device.bind(self._piece, place, host)
        if isinstance(host, torch.nn.Parameter):
            tensor = torch.nn.Parameter(tensor, requires_grad=host.requires_grad)
        return tensor

    def release(self) -> int:
        """Binds the host's tensors again and frees the device's. Returns how many had been changed
        on the device meanwhile; those changes are brought home first."""
        with torch.inference_mode(False), torch.no_grad():
            changed = self._unbind()
            self._device.free(self._piece)
            self._piece = None
        return changed

    def _unbind(self) -> int:
        changed = 0
        homes: dict[int, torch.Tensor] = {}
        for slot in self._slots:
            if slot.device is None:
                continue
            now = slot.table.get(slot.key)
            if now is slot.device and _version(slot.device) == slot.version:
                slot.table[slot.key] = slot.host
            elif now is slot.device:
                # Written in place while it was here (a buffer that counts, an in-place fuse).
                if id(slot.device) not in homes:
                    homes[id(slot.device)] = slot.host
                    slot.host.copy_(slot.device.to("cpu"))
                    changed += 1
                slot.table[slot.key] = slot.host
            elif now is not None and now.device.type != "cpu":
                # Replaced by another tensor on the device: that one is the truth now.
                changed += 1
                home = now.detach().to("cpu")
                slot.table[slot.key] = (
                    torch.nn.Parameter(home, requires_grad=now.requires_grad)
                    if isinstance(now, torch.nn.Parameter)
                    else home
                )
            slot.device = None
        self._flatten()
        return changed

    def _flatten(self) -> None:
        """RNN modules keep their weights in a list beside ``_parameters``."""
        for module in self._modules:
            module._flat_weights = [getattr(module, n, None) for n in module._flat_weights_names]


def _bytes(region: Region) -> torch.Tensor:
    """The region's host memory as a flat uint8 tensor, without a copy."""
    view = torch.empty(0, dtype=torch.uint8)
    return view.set_(region.storage, region.start, (region.end - region.start,), (1,))


def _version(tensor: torch.Tensor) -> int:
    """The version counter; inference tensors have none."""
    return 0 if tensor.is_inference() else tensor._version
