"""A small Flux, quantized by a plan and by hand, for the tests of what rules do."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import planner
from planner.diagnostics.diagnostic import PlanError
from planner.forms.formats import named, quantization_of
from planner.loading.pipeline import load_pipeline
from planner.plan.model import Plan
from planner.quantization.backends import CAST_SKIPS
from planner.quantization.matrix import row_of
from planner.target.parts import parts_of

FLUX = "pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux', dtype: bfloat16}"


def plan_of(folder: Path, *lines: str, flux: str = FLUX) -> Plan:
    """A plan for the built-in Flux in bfloat16, with ``lines`` of YAML."""
    path = folder / "x.plan.yaml"
    path.write_text("\n".join(("version: 1", flux, *lines)) + "\n", encoding="utf-8")
    return planner.load(path)


def plain(folder: Path) -> Any:
    """The pipeline as it is without rules."""
    return load_pipeline(plan_of(folder))


def picture(pipe: Any) -> torch.Tensor:
    """One step with a seed of its own, on the host."""
    pipe.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(0)
    made = pipe("a cat", height=64, width=64, num_inference_steps=1, output_type="pt", generator=seed)
    return torch.as_tensor(made.images.cpu())


def refused(folder: Path, backend: str, kind: str, columns: Collection[str], *lines: str) -> bool:
    """Whether the matrix refuses a format beside one of ``columns``: then so is the plan, by itself."""
    cells = row_of(backend, kind).cells
    if all(cells[column].verdict != "no" for column in columns):
        return False
    with pytest.raises(PlanError, match="P376"):
        plan_of(folder, *lines)
    return True


def linears(model: torch.nn.Module, pattern: str = "") -> Iterator[tuple[str, torch.nn.Module]]:
    """The Linear modules that ``pattern`` is found in."""
    for name, part in named(model).items():
        if isinstance(part, torch.nn.Linear) and re.search(pattern, name) and "lora_" not in name:
            yield name, part


def formats(model: torch.nn.Module) -> dict[str, tuple[str, str]]:
    """Every module that is quantized, and how."""
    return {name: how for name, part in named(model).items() if (how := quantization_of(part)) is not None}


def by_torchao(config: str, pipe: Any) -> None:
    """Every Linear of the transformer, in a format of torchao, by torchao alone."""
    from torchao import quantization as ao

    chosen = {id(part) for _, part in linears(pipe.transformer)}
    ao.quantize_(pipe.transformer, getattr(ao, config)(), filter_fn=lambda module, _: id(module) in chosen)


@torch.no_grad()
def by_cast(storage: torch.dtype, pipe: Any) -> None:
    """The weights cast there and back: what the layers that diffusers would cast compute with."""
    parts = named(pipe.transformer)
    for part in parts_of(pipe.transformer):
        if not any(re.search(p, part.name) for p in (*CAST_SKIPS, "lora_")):
            for weight in parts[part.name]._parameters.values():
                if weight is not None:
                    weight.copy_(weight.to(storage))


def write_lora(folder: Path) -> Path:
    """Weights for the attention of the transformer, as training saves them."""
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(0)
    pipe = plain(folder)
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False))
    pipe.save_lora_weights(
        folder / "lora", transformer_lora_layers=get_peft_model_state_dict(pipe.transformer)
    )
    return folder / "lora"
