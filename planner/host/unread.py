"""What of a pipeline's weights still lies in files: mapped, and not in memory of this process."""

from __future__ import annotations

from collections.abc import Iterable
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


def unread(module: torch.nn.Module) -> list[Unread]:
    """Every region of ``module`` that lies in a file, in the order in which a session brings them.

    ``from_pretrained`` leaves a weight there that is stored as it will be used. Quantized ones, which have
    state beside their bytes, are left out.
    """
    inside = sorted(members(groups_of(module)), key=lambda member: member[0])
    tensors = {id(tensor): tensor for _, _, _, tensor in inside if plain(tensor)}
    regions = regions_of(tensors.values())
    mapped = file_backed(region.address for region in regions.values())
    found: dict[int, Unread] = {}
    for key, tensor in tensors.items():
        region = regions.get(key)
        if region is not None and region.address in mapped:
            found.setdefault(id(region), Unread(region)).tensors.append(tensor)
    return [u for u in found.values() if repointable(u.tensors, u.region)]


def unread_bytes(modules: Iterable[torch.nn.Module]) -> int:
    """Bytes of all that lies in files: what a session will read when it is applied."""
    return sum(found.region.nbytes for module in modules for found in unread(module))
