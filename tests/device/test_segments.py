"""The setting of torch's CUDA allocator, which is the process's: made, shared, and put back."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from planner.device import segments


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The settings that torch was given, the last of which are those that it has."""
    made: list[str] = [""]
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", made.append, raising=False)
    monkeypatch.setattr(torch._C, "_accelerator_getAllocatorSettings", lambda: made[-1], raising=False)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("_before", "_left"):
        monkeypatch.setattr(segments, name, "")
    return made


def test_made_for_the_first_and_put_back_after_the_last(given: list[str]) -> None:
    one, other = object(), object()
    for holder in (one, one, other):
        segments.expand(holder)
    segments.restore(one)
    assert given == ["", "expandable_segments:True"]
    for holder in (one, other, other):
        segments.restore(holder)
    assert given == ["", "expandable_segments:True", "expandable_segments:False"]
    segments.expand(one)  # what we left there is not the user's word
    segments.restore(one)
    assert given[3:] == given[1:3]


@pytest.mark.parametrize("name", ["", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_other_settings_stay(name: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said = "max_split_size_mb:64"
    if name:
        monkeypatch.setenv(name, said)
    else:
        given.append(said)
    holder = object()
    segments.expand(holder)
    segments.restore(holder)
    assert given[-2:] == [f"{said},expandable_segments:True", f"{said},expandable_segments:False"]


@pytest.mark.parametrize("why", ["their own word", "another allocator", "another system"])
def test_left_alone(why: str, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "their own word":
        given.append("expandable_segments:False")
    elif why == "another allocator":
        monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    else:
        monkeypatch.setattr(sys, "platform", "win32")
    before = given.copy()
    holder = object()
    segments.expand(holder)
    segments.restore(holder)
    assert given == before


def test_by_the_older_call(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """torch before 2.10."""
    old: list[str] = []
    core: Any = torch._C
    monkeypatch.delattr(core, "_accelerator_setAllocatorSettings")
    monkeypatch.delattr(core, "_accelerator_getAllocatorSettings")
    name = "_cuda_cudaCachingAllocator_set_allocator_settings"
    monkeypatch.setattr(core, name, old.append, raising=False)
    holder = object()
    segments.expand(holder)
    segments.restore(holder)
    assert old == ["expandable_segments:True", "expandable_segments:False"]
