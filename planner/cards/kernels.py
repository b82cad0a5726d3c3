"""Which kernels libraries run on a card, and what these take beside their inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Attention = Literal["cudnn", "flash", "efficient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """Rules of a card's generation under one torch and one cuDNN.

    ``attention``: what ``scaled_dot_product_attention`` tries first, of those that take the inputs.
    ``nchw``: scratch of a convolution whose kernel is larger than 1 and whose memory is not channels-last, as
    a share of the bytes of its input and output (cuDNN changes their layout); 0 where kernels read NCHW.
    ``sms``: streaming multiprocessors, by which flash attention splits its keys. ``cublas``: bytes of
    cuBLAS's workspace, allocated once in a process; no use of a component counts it.
    """

    name: str
    sms: int
    attention: Attention = "flash"
    nchw: float = 1.0
    cublas: int = 8519680


HOPPER = Kernels(name="hopper", sms=132, attention="cudnn", cublas=34603008)
"""As measured on an H200 with torch 2.11 and cuDNN 9.19."""
