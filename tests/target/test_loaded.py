"""A loaded pipeline's bytes are those that a session lays out."""

from __future__ import annotations

import pytest
import torch

from planner.device.pinned import Pins
from planner.diagnostics.diagnostic import PlanError
from planner.host.layout import HostWeights
from planner.host.regions import regions_of
from planner.target.loaded import describe, module_bytes
from planner.target.model import device_bytes


class Tied(torch.nn.Module):
    """Tied weights, a view of another tensor, an empty tensor, strides of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(33, 17)
        self.b = torch.nn.Linear(33, 17, bias=False)
        self.b.weight = self.a.weight
        self.register_buffer("view", self.a.weight.detach()[3:9])
        self.register_buffer("nothing", torch.empty(0, 4))
        self.register_buffer("columns", torch.arange(600.0).reshape(20, 30).t())
        self.register_buffer("apart", torch.arange(4096)[1024:2048])
        self.register_buffer("one", torch.tensor(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_bytes_are_those_of_the_layout(dtype: torch.dtype) -> None:
    module = Tied().to(dtype)
    regions = regions_of([*module.parameters(), *module.buffers()])
    expected = device_bytes({id(region): region.nbytes for region in regions.values()}.values())
    assert module_bytes(module) == expected
    assert HostWeights(module, Pins(torch.device("cpu"))).nbytes == expected
    assert module_bytes(module) == expected  # packed now, and of the same size


def test_packing_changes_no_value_and_no_identity() -> None:
    module = Tied()
    before = {name: (id(t), t.detach().clone()) for name, t in slots(module).items()}
    HostWeights(module, Pins(torch.device("cpu")))
    for name, tensor in slots(module).items():
        was, value = before[name]
        assert id(tensor) == was
        assert torch.equal(tensor, value)
        assert (
            tensor.stride() == value.stride()
            or tensor.numel() == 0
            or tensor.is_contiguous() == value.is_contiguous()
        )
    module.a.weight.data[4] = 7.0
    assert torch.equal(module.b.weight[4], torch.full((33,), 7.0))
    assert torch.equal(module.view[1], torch.full((33,), 7.0)), "a view shares its memory still"  # type: ignore[index]


def slots(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(
        [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    )


def test_a_pipeline_is_described() -> None:
    class FluxPipeline:
        model_cpu_offload_seq = "text_encoder->transformer->vae"
        _exclude_from_cpu_offload = ("x",)

        def __init__(self) -> None:
            shared = torch.nn.Linear(4, 4)
            self.components = {
                "text_encoder": shared,
                "text_encoder_2": shared,
                "transformer": torch.nn.Linear(8, 8),
                "vae": None,
                "scheduler": object(),
            }

    target = describe(FluxPipeline())
    assert target.origin == "loaded"
    assert target.modules == ("text_encoder", "transformer", "vae")  # a shared module under its first name
    assert not target.components["vae"].present
    assert target.components["transformer"].bytes == 512 + 512
    assert target.excluded == ("x",)
    assert target.walk is not None  # the class is known by its name


@pytest.mark.parametrize(
    "given", [3, None, [], "a/b", object(), torch.nn.Linear(1, 1), type("P", (), {"components": 3})()]
)
def test_what_is_no_pipeline(given: object) -> None:
    with pytest.raises(PlanError) as raised:
        describe(given)
    assert [d.code.id for d in raised.value.diagnostics] == ["P720"]
    assert f'found "{type(given).__name__}"' in str(raised.value)
