"""Ways to put a pipeline on a device: whole, under a plan, and as the peers do it."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import planner


@contextmanager
def entered(mode: str, pipe: Any, device: torch.device) -> Iterator[Any]:
    """``pipe`` under ``mode``; the session where it is a plan's, else None. The peers never leave."""
    kind, _, rest = mode.partition(":")
    if kind == "resident":
        pipe.to(device)
        yield None
        pipe.to("cpu")
    elif kind in ("plan", "translated", *RULES):
        plan = planner.translate(pipe) if kind == "translated" else _plan(pipe, rest, RULES.get(kind))
        with planner.apply(plan, pipe, device=str(device)) as session:
            yield session
    else:
        PEERS[kind](pipe, device)
        yield None


RULES = {
    "cast": "{component: %s, backend: layerwise_cast}",
    "int8": "{component: %s, backend: torchao, type: int8_weight_only}",
}
"""Plans with the denoiser quantized; their pictures are not those of the resident pipeline."""


def _plan(pipe: Any, settings: str, rule: str | None) -> planner.Plan:
    """The shortest plan for the class of ``pipe``, with ``settings`` as for ``--set``."""
    more = [] if rule is None else [f"quantization=[{rule % _denoiser(pipe)}]"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "benchmark.plan.yaml"
        path.write_text(f"version: 1\npipeline: {type(pipe).__name__}\n", encoding="utf-8")
        return planner.load(path, overrides=[*more, *filter(None, settings.split(","))])


def here(mode: str) -> bool:
    """Whether what the mode needs is installed."""
    package = {"mmgp": "mmgp", "int8": "torchao"}.get(mode[:4])
    return package is None or importlib.util.find_spec(package) is not None


def _denoiser(pipe: Any) -> str:
    return next(name for name in ("transformer", "unet") if name in pipe.components)


def _model(pipe: Any, device: torch.device) -> None:
    pipe.enable_model_cpu_offload(device=device)


def _cast_model(pipe: Any, device: torch.device) -> None:
    model = pipe.components[_denoiser(pipe)]
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=model.dtype)
    _model(pipe, device)


def _int8_model(pipe: Any, device: torch.device) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(pipe.components[_denoiser(pipe)], Int8WeightOnlyConfig())
    _model(pipe, device)


def _sequential(pipe: Any, device: torch.device) -> None:
    pipe.enable_sequential_cpu_offload(device=device)


def _group(kind: str) -> Callable[[Any, torch.device], None]:
    def enable(pipe: Any, device: torch.device) -> None:
        blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
        pipe.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type=kind,
            use_stream=True,
            record_stream=True,
            **blocks,
        )

    return enable


def _mmgp(profile: int) -> Callable[[Any, torch.device], None]:
    def enable(pipe: Any, device: torch.device) -> None:
        from mmgp import offload

        offload.profile(pipe, profile, verboseLevel=0, quantizeTransformer=False, extraModelsToQuantize=[])

    return enable


PEERS: dict[str, Callable[[Any, torch.device], None]] = {
    "model": _model,
    "cast-model": _cast_model,
    "int8-model": _int8_model,
    "sequential": _sequential,
    "group-block": _group("block_level"),
    "group-leaf": _group("leaf_level"),
    "mmgp1": _mmgp(1),
    "mmgp2": _mmgp(2),
}
"""diffusers' own, and mmgp's two profiles that keep everything in pinned host memory, unquantized."""
