"""What of a pipeline's weights still lies in files: mapped, and not in memory of this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from planner.device.pinned import file_backed
from planner.forms.wrapped import plain
from planner.host.regions import Region, regions_of, repointable
from planner.target.blocks import groups_of, members


@dataclass(slots=True)
class Unread:
    """A region of a mapped file and the tensors in it."""

    region: Region
    tensors: list[torch.Tensor] = field(default_factory=list)


def unread(modules: Mapping[str, torch.nn.Module]) -> dict[str, list[Unread]]:
    """Every region of ``modules`` that lies in a file, in the order in which a session brings them, under the
    first that has a tensor in it: components may share modules, and weights.

    ``from_pretrained`` leaves a weight there that is stored as it will be used. Quantized ones, which have
    state beside their bytes, are left out.
    """
    tensors: dict[int, tuple[str, torch.Tensor]] = {}
    for name, module in modules.items():
        for _, _, _, tensor in sorted(members(groups_of(module)), key=lambda member: member[0]):
            if plain(tensor):
                tensors.setdefault(id(tensor), (name, tensor))
    regions = regions_of(tensor for _, tensor in tensors.values())
    mapped = file_backed(region.address for region in regions.values())
    found: dict[int, tuple[str, Unread]] = {}
    for key, (name, tensor) in tensors.items():
        region = regions.get(key)
        if region is not None and region.address in mapped:
            found.setdefault(id(region), (name, Unread(region)))[1].tensors.append(tensor)
    made: dict[str, list[Unread]] = {name: [] for name in modules}
    for name, one in found.values():
        if repointable(one.tensors, one.region):
            made[name].append(one)
    return made


def unread_bytes(modules: Mapping[str, torch.nn.Module]) -> int:
    """Bytes of all that lies in files: what a session will read when it is applied."""
    return sum(one.region.nbytes for found in unread(modules).values() for one in found)
