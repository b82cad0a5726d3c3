"""A device's card file, measured: everything that ``planner.cards.schema`` has a place for."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from planner.loading.measure import files, host, link, rates
from planner.loading.measure.context import Watcher
from planner.schedule.card import CONTEXT

GENERATIONS = {7: "turing", 8: "ampere", 9: "hopper", 10: "blackwell", 12: "blackwell"}
"""By the compute capability's first number; 8.9 is Ada."""
BACKENDS = {1: "flash", 2: "efficient", 3: "cudnn"}
"""Of torch's SDPBackend; 0 is plain arithmetic."""


PIPELINES = 66 << 20
"""Bytes of the context that kernels take which pipelines load and nothing here does: whole calls of five
pipelines showed 802 MB on an H200, less what registered memory takes, and this process 733."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What is timed; tests take less."""

    copies: int = link.SIZES[-1]
    registered: int = link.REGISTERED
    files: int = files.BYTES
    lengths: tuple[int, ...] = rates.LENGTHS
    widths: Any = rates.WIDTHS
    convs: Any = rates.CONVS
    attentions: Any = rates.ATTENTIONS
    memory: tuple[int, ...] = rates.SIZES
    group_norms: Any = rates.GROUP_NORMS
    scratch: tuple[int, int] = (128, 512)


def measure(
    device: torch.device, say: Callable[[str], None] = lambda _: None, sizes: Sizes | None = None
) -> dict[str, Any]:
    """The values of the card's file. ``say`` is told what is measured now. About a minute on a card."""
    sizes = sizes or Sizes()
    with Watcher(device) as watcher:
        say("memory")
        cublas = _cublas(device)
        kernels = _kernels(device, cublas, sizes)
        say("link")
        copies = link.link(device, most=sizes.copies)
        register, registered = link.register(device, sizes.registered)
        say("files")
        read_and_packed = files.host(device, sizes.files)
        found: dict[str, dict[str, rates.Rows]] = {}
        for kind, dtype, work in _tables(device, sizes):
            say(f"{kind}, {dtype}")
            if rows := work():
                found.setdefault(kind, {})[dtype] = rows
        say("host")
        launch, (dispatch, real) = host.launch(device), host.dispatch(device)
        _release(device)
        context = watcher.context()
    name, capability, sms, total = _device(device)
    assumed = [
        path for path, known in (("memory.context", context is not None), ("dispatch", real)) if not known
    ]
    return {
        "version": 1,
        "name": name,
        "backend": device.type if device.type in ("cuda", "mps", "xpu") else "cuda",
        **({"capability": capability} if capability else {}),
        "sms": sms,
        "source": "measured",
        **({"assumed": assumed} if assumed else {}),
        "versions": _versions(device),
        "memory": {
            "total": total,
            "context": CONTEXT if context is None else context + PIPELINES,
            "registered": registered,
            "bandwidth": max(row[-1] for rows in found["memory"].values() for row in rows),
        },
        "link": {**copies, "register": register},
        **({} if read_and_packed is None else {"host": read_and_packed}),
        "launch": launch,
        "dispatch": dispatch,
        "peak": {dtype: max(row[-1] for row in rows) for dtype, rows in found["matmul"].items()},
        "rates": found,
        "kernels": kernels,
    }


def _tables(device: torch.device, sizes: Sizes) -> Iterator[tuple[str, str, Callable[[], rates.Rows]]]:
    half, single = ("bfloat16", torch.bfloat16), ("float32", torch.float32)
    fewer = sizes.widths[::3]
    for name, dtype in (half, ("float16", torch.float16), single):
        widths = fewer if dtype == torch.float32 else sizes.widths
        yield "matmul", name, lambda d=dtype, w=widths: rates.matmul(device, d, sizes.lengths, w)  # type: ignore[misc]
        yield "conv", name, lambda d=dtype: rates.conv(device, d, sizes.convs)  # type: ignore[misc]
        some = sizes.attentions if dtype != torch.float32 else sizes.attentions[-1:]
        yield "attention", name, lambda d=dtype, s=some: rates.attention(device, d, s)  # type: ignore[misc]
    for name, dtype in (half, single):
        yield "memory", name, lambda d=dtype: rates.memory(device, d, sizes.memory)  # type: ignore[misc]
        yield "group_norm", name, lambda d=dtype: rates.group_norm(device, d, sizes.group_norms)  # type: ignore[misc]


def _cublas(device: torch.device) -> int:
    """Bytes of workspace that stay when the first products are over."""
    if device.type != "cuda":
        return 0
    before = torch.cuda.memory_allocated(device)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        some = torch.ones(64, 64, device=device, dtype=dtype)
        F.linear(some, some, some[0])
        torch.bmm(some[None], some[None])
    del some
    return int(torch.cuda.memory_allocated(device) - before)


def _kernels(device: torch.device, cublas: int, sizes: Sizes) -> dict[str, Any]:
    """The generation's name, the attention that torch chooses, and a convolution's scratch over NCHW
    memory."""
    major, minor = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    name = "ada" if (major, minor) == (8, 9) else GENERATIONS.get(major, device.type)
    some = torch.zeros(1, 8, 1024, 64, device=device, dtype=torch.bfloat16)
    choose: Any = torch._fused_sdp_choice  # what scaled_dot_product_attention asks
    attention = BACKENDS.get(int(choose(some, some, some)), "efficient")
    share = 0.0
    if device.type == "cuda":
        channels, side = sizes.scratch
        rows = torch.zeros(1, channels, side, side, device=device, dtype=torch.bfloat16)
        weight = torch.zeros(channels, channels, 3, 3, device=device, dtype=torch.bfloat16)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        out = F.conv2d(rows, weight, padding=1)
        took = torch.cuda.max_memory_allocated(device) - before - out.nbytes
        share = round(max(0, took) / (rows.nbytes + out.nbytes), 3)
    return {"name": name, "attention": attention, "nchw": share, "cublas": cublas}


def _device(device: torch.device) -> tuple[str, str, int, int]:
    """Its name, compute capability, multiprocessors and bytes."""
    if device.type != "cuda":
        return str(device), "", 1, 1 << 30
    said: Any = torch.cuda.get_device_properties(device)
    total = int(torch.cuda.mem_get_info(device)[1])
    return str(said.name), f"{said.major}.{said.minor}", int(said.multi_processor_count), total


def _versions(device: torch.device) -> dict[str, str]:
    made: dict[str, str] = {"torch": str(torch.__version__)}
    if device.type == "cuda":
        cudnn: Any = torch.backends.cudnn
        made |= {"cuda": str(torch.version.cuda), "cudnn": str(cudnn.version())}
        with suppress(OSError, subprocess.SubprocessError):
            asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
            made["driver"] = done.stdout.split("\n")[0].strip()
    return made


def _release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
