"""The JSON Schema of a card's file."""

from __future__ import annotations

from typing import Any

NAME = "card.v1.schema.json"
DTYPES = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "int8")
KINDS = {"matmul": 4, "conv": 5, "attention": 5, "group_norm": 3}
"""Numbers of a shape, by kind of operation, as ``planner.predict.profile.Operation`` has them."""
SHAPES = {
    "matmul": "batch, m, n, k",
    "conv": "batch, channels in, channels out, positions of the output, kernel volume",
    "attention": "batch, heads, queries, keys, head size",
    "group_norm": "batch, channels, positions",
}


def schema() -> dict[str, Any]:
    """Draft 2020-12, as it ships in ``schemas/``."""
    rates = {
        kind: _mapping(
            f"FLOP/s by dtype, at shapes ({SHAPES[kind]}) or at FLOPs.",
            {dtype: _table() for dtype in DTYPES},
        )
        for kind in ("matmul", "conv", "attention")
    }
    rates["memory"] = _mapping(
        "Bytes a second by bytes read and written, of operations that compute little; `any`: every dtype.",
        {dtype: _table() for dtype in ("any", *DTYPES)},
    )
    rates["group_norm"] = _mapping(
        "Bytes a second of group norms, read and written once, at batch, channels, positions.",
        {dtype: _table() for dtype in DTYPES},
    )
    copies = {
        "pinned": _table("From and to pinned host memory: [bytes of one copy, bytes a second]."),
        "pageable": _table("From and to other host memory: [bytes of one copy, bytes a second]."),
    }
    keys: dict[str, Any] = {
        "version": {"const": 1, "description": "Of this format."},
        "name": _text("What people call it."),
        "aliases": _texts("Other names, as --card may say them, and as the driver calls it."),
        "backend": {"enum": ["cuda", "mps", "xpu"], "description": "torch's name of its kind of device."},
        "capability": _text("CUDA's compute capability, in quotes."),
        "sms": _whole("Streaming multiprocessors; cores, of another backend."),
        "source": {
            "enum": ["measured", "assumed"],
            "description": "Where the values come from that neither `measured` nor `assumed` lists.",
        },
        "measured": _texts("Paths of values (`memory.context`, `link`) that were measured."),
        "assumed": _texts("Paths of values that were not."),
        "versions": {
            "type": "object",
            "additionalProperties": _text("A version, in quotes."),
            "description": "What it was measured with: torch, cuda, cudnn, driver.",
        },
        "notes": _texts("What a reader should know: whence a number is."),
        "memory": _mapping(
            "Bytes.",
            {
                "total": _bytes("As the driver shows it."),
                "context": _bytes("What a process takes before any weight, libraries loaded."),
                "registered": _whole("Device bytes more for each GiB of registered host memory.", least=0),
                "bandwidth": _rate(
                    "Bytes a second of the device's memory, as the data sheet says, or the best measured."
                ),
            },
            ("total", "context", "bandwidth"),
        ),
        "link": _mapping(
            "Copies between host and device.",
            {
                "to_device": _mapping("From the host.", copies, ("pinned", "pageable")),
                "to_host": _mapping("To the host.", copies, ("pinned", "pageable")),
                "register": _rate("Bytes of host memory registered a second."),
            },
            ("to_device", "to_host", "register"),
        ),
        "host": _mapping(
            "Of the machine that the card is in: what loading and applying take. Left out, it is assumed.",
            {
                "read": _rate("Bytes of weights' files read a second, which the page cache has."),
                "pack": _rate("Bytes of small weights packed a second, registered meanwhile."),
            },
            ("read", "pack"),
        ),
        "launch": _seconds("The least time of an operation on the device."),
        "dispatch": _seconds("What the host takes to hand the device one operation."),
        "peak": _mapping(
            "FLOP/s by dtype, as the data sheet says (of matrix units, dense), or the best measured.",
            {dtype: _rate(f"Of {dtype}.") for dtype in DTYPES},
            ("float32",),
        ),
        "rates": _mapping("What operations were measured to reach.", rates),
        "kernels": _mapping(
            "Which kernels libraries run there, and what these take.",
            {
                "name": _text("Of the generation: predictions of memory are kept by it."),
                "attention": {
                    "enum": ["cudnn", "flash", "efficient"],
                    "description": "What scaled_dot_product_attention tries first.",
                },
                "nchw": {
                    "type": "number",
                    "minimum": 0,
                    "description": "Scratch of convolutions over NCHW, as a share of input and output.",
                },
                "cublas": _whole("Bytes of cuBLAS's workspace.", least=0),
            },
            ("name",),
        ),
    }
    needed = ("version", "name", "source", "sms", "memory", "link", "launch", "dispatch", "peak", "kernels")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://github.com/offload-planner/offload-planner/schemas/{NAME}",
        "title": "card",
        **_mapping("A card to predict for: memory, link, rates, kernels.", keys, needed),
    }


def _mapping(said: str, keys: dict[str, Any], needed: tuple[str, ...] = ()) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object", "description": said, "properties": keys}
    if needed:
        made["required"] = list(needed)
    return {**made, "additionalProperties": False}


def _text(said: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": 200, "description": said}


def _texts(said: str) -> dict[str, Any]:
    return {
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": 500},
        "description": said,
    }


def _whole(said: str, *, least: int = 1) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "description": said}


def _bytes(said: str) -> dict[str, Any]:
    return _whole(f"Bytes. {said}")


def _rate(said: str) -> dict[str, Any]:
    return {"type": "number", "exclusiveMinimum": 0, "description": said}


def _seconds(said: str) -> dict[str, Any]:
    return {"type": "number", "exclusiveMinimum": 0, "description": f"Seconds. {said}"}


def _table(said: str = "Rows: the numbers of a size, then the rate there.") -> dict[str, Any]:
    row = {"type": "array", "minItems": 2, "maxItems": 6, "items": {"type": "number", "exclusiveMinimum": 0}}
    return {"type": "array", "minItems": 1, "maxItems": 500, "items": row, "description": said}
