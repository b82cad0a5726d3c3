"""Every policy, on a real pipeline and on a small one whose components do what a test wants."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from pipelines.all import build
from pipelines.plans import attached, plan_for, read, tight

from planner.session.session import Session
from planner.virtual.device import SimDevice

SD = "StableDiffusionPipeline"
ROOM = 1 << 30

POLICIES = ("offload", "stream", "kept", "streamed, kept", "resident", "tight", "tight, kept")


def mostly_wide(*policies: str) -> list[Any]:
    """Whole components and streamed ones are in every run of the tests, the others in ``pytest -m wide``."""
    usual = ("offload", "streamed, kept")
    return [p if p in usual else pytest.param(p, marks=pytest.mark.wide) for p in policies]


def lines(policy: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Of a plan, after its first two."""
    each = {"stream": "{policy: stream, prefetch: 1}", "streamed, kept": "{policy: stream, resident: 30%}"}
    how = each.get(policy, "resident" if policy == "resident" else "")
    said = (f"components: {{{', '.join(f'{name}: {how}' for name in names)}}}",) if how else ()
    return (*said, *(("idle: keep",) if "kept" in policy else ()))


def on_sim(
    policy: str, pipe: Any = None, *more: str, seed: int | None = 1, **options: Any
) -> tuple[Any, Session, SimDevice]:
    """``pipe`` (Stable Diffusion, small) under a policy on a device that judges aliases."""
    return under(policy, SimDevice(aliases=True, seed=seed, **options), pipe, *more)


def under(policy: str, device: Any, pipe: Any = None, *more: str) -> tuple[Any, Session, Any]:
    """The same on any ``device``."""
    pipe = build(SD) if pipe is None else pipe
    names = tuple(n for n, c in pipe.components.items() if isinstance(c, torch.nn.Module))
    said = (*lines(policy, names), *more)
    order = () if type(pipe) is not Small else ("order: encoder -> big -> decoder",)
    plan = plan_for(pipe, *order, *said) if not order else read(_text(*order, *said))
    room = tight(pipe, plan) if "tight" in policy else ROOM if "kept" in policy else None
    return pipe, *attached(plan, pipe, room, device)


def _text(*said: str) -> str:
    return "\n".join(("version: 1", "pipeline: {class: Small}", *said)) + "\n"


def tensors_on(pipe: Any, kind: str = "sim") -> list[str]:
    """Names of what is on the device."""
    return [
        f"{name}.{key}"
        for name, component in pipe.components.items()
        if isinstance(component, torch.nn.Module)
        for key, tensor in (*component.named_parameters(), *component.named_buffers())
        if tensor.device.type == kind
    ]


def nothing_left(pipe: Any, session: Session, device: SimDevice) -> None:
    """After a plan: no memory, no tensor, no lock, no fault."""
    session.remove()
    gc.collect()
    assert device.abandoned == 0
    assert device.ledger.live == 0
    assert tensors_on(pipe) == []
    assert not session.applied.state.is_locked()
    assert device.faults == ()


class Part(torch.nn.Module):
    """Layers one after another; ``after`` is called with each of them and what it made."""

    def __init__(self, count: int, width: int = 32) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(1, 3, width))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(count))
        self.after: Callable[[int, Any], None] = lambda number, layer: None

    dtype = torch.float32
    device = property(lambda self: self.table.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.table[:, 0]
        for number, layer in enumerate(self.layers):
            x = torch.tanh(layer(x)) + x * 0.5
            self.after(number, layer)
        return x


class Small(DiffusionPipeline):
    """Three components, the second in a loop."""

    model_cpu_offload_seq = "encoder->big->decoder"

    def __init__(self, encoder: Part, big: Part, decoder: Part) -> None:
        super().__init__()
        self.register_modules(encoder=encoder, big=big, decoder=decoder)

    @torch.no_grad()
    def __call__(self, steps: int = 3) -> torch.Tensor:
        x = torch.ones(2, 32, device=self._execution_device)
        x = self.encoder(x)
        for _ in range(steps):
            x = self.big(x)
        made: torch.Tensor = self.decoder(x)
        return made.cpu()


def small() -> Small:
    """The same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Small(Part(4), Part(8), Part(4))
