"""Host memory that is registered where it lies: whatever a plan copies of it to the device is registered as a
whole or not at all, as CUDA wants it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pipelines.all import build, run, same
from registering import Runtime
from torch.utils._python_dispatch import TorchDispatchMode

from laws.policies import SD, nothing_left, on_sim
from laws.test_gradients import gradients_of
from planner.device.pinned import Pins
from planner.target.extents import extent
from planner.virtual.backend import install
from planner.virtual.tensor import SimTensor


class AsCuda(TorchDispatchMode):
    """A copy to the device that runs from registered memory into other is an invalid argument."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.runtime = runtime
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        source = {"aten::_to_copy": 0, "aten::copy_": 1}.get(func.name())
        if source is not None and type(made) is SimTensor and isinstance(args[source], torch.Tensor):
            self._judge(args[source])
        return made

    def _judge(self, host: torch.Tensor) -> None:
        if type(host) is SimTensor or host.device.type != "cpu" or not host.numel():
            return
        self.copies += 1
        start, end = (host.untyped_storage().data_ptr() + at for at in extent(host))
        for a, b in self.runtime.spans():
            if a < end and start < b and not (a <= start and end <= b):
                raise RuntimeError("CUDA error: invalid argument")


@pytest.mark.parametrize(
    ("policy", "packed"),
    [
        *(("offload", False), ("stream", True)),
        *(
            pytest.param(*pair, marks=pytest.mark.wide)
            for pair in (("offload", True), ("stream", False), ("kept", True), ("kept", False))
        ),
    ],
)
def test_copies_lie_in_one_registered_piece(
    policy: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    install()
    whole = build(SD).to("sim:0")
    right = gradients_of(whole, [*whole.unet.parameters()])
    picture = run(whole, SD)
    runtime = Runtime()

    def registers(self: Pins, device: torch.device, limit: int | None = None) -> None:
        initial(self, device, limit)
        self._runtime = runtime

    initial = Pins.__init__
    monkeypatch.setattr(Pins, "__init__", registers)
    if not packed:
        monkeypatch.setattr("planner.target.extents.PACKED", 0)
        monkeypatch.setattr("planner.device.pinned.PIECE", 8 << 10)
    pipe = build(SD)
    own = [*pipe.unet.parameters()]
    pipe, session, device = on_sim(policy, pipe)
    assert runtime.registered
    with AsCuda(runtime) as watched:
        assert all(torch.equal(a, b) for a, b in zip(gradients_of(pipe, own), right, strict=True))
        assert same(run(pipe, SD), picture)
    assert watched.copies > 20
    nothing_left(pipe, session, device)
    assert runtime.registered == {}
