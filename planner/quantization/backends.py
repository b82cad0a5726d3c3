"""The backends as data: their formats, options and kinds of modules. One row a backend; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

When = Literal["load", "after", "never"]

FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
FLOATS = ("bfloat16", "float16", "float32")
CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a backend: the values that it takes, and the formats that know it (all when empty).

    ``values``: the words allowed, or a type: ``int`` (at least 1), ``float`` or ``bool``.
    """

    values: tuple[str, ...] | type
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """Who quantizes. ``when``: while the weights are read, or after; ``kinds``: the torch classes that it
    quantizes; ``types``: its formats, by the key that names them.

    ``distribution`` and ``least``: the package to install, and the oldest version that works; ``beside``:
    what loading with it needs more.
    """

    name: str
    when: When
    kinds: frozenset[str]
    types: tuple[str, ...]
    type_key: str = "type"
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    distribution: str = ""
    least: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    reference: str

    def keys(self) -> tuple[str, ...]:
        """Every option that a rule may write, the format's own key first."""
        return (self.type_key, *self.options)

    def type_of(self, options: Mapping[str, object]) -> str:
        """The format that ``options`` ask for; a rule may leave out one that has a usual value."""
        return str(options.get(self.type_key, self.types[0]))

    @property
    def install(self) -> str:
        """The command that brings its package."""
        return f"pip install '{self.distribution}>={self.least}'"

    @property
    def needs(self) -> tuple[tuple[str, str], ...]:
        """Distributions and the oldest version of each; none for what torch does by itself."""
        return ((self.distribution, self.least), *self.beside) if self.distribution else ()


_DOCS = "https://huggingface.co/docs/diffusers/quantization"

BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {
        b.name: b
        for b in (
            Backend(
                name="bitsandbytes",
                when="load",
                kinds=frozenset({"Linear"}),
                types=("nf4", "fp4", "int8"),
                options={
                    "compute_dtype": Option(values=FLOATS, types=("nf4", "fp4")),
                    "double_quant": Option(values=bool, types=("nf4", "fp4")),
                    "threshold": Option(values=float, types=("int8",)),
                },
                distribution="bitsandbytes",
                least="0.46.1",  # transformers import_utils.py; diffusers is content with 0.43.3
                beside=(("accelerate", "1.1.0"),),  # the same
                reference=f"{_DOCS}/bitsandbytes",
            ),
            Backend(
                name="torchao",
                when="load",
                kinds=frozenset({"Linear"}),
                types=(
                    *("int8_weight_only", "int4_weight_only", "float8_weight_only"),
                    *("int8_dynamic", "float8_dynamic"),
                ),
                options={"group_size": Option(values=int, types=("int4_weight_only",))},
                distribution="torchao",
                least="0.15.0",  # diffusers quantization_config.py: TorchAoConfig.post_init
                reference=f"{_DOCS}/torchao",
            ),
            Backend(
                name="quanto",
                when="load",
                kinds=frozenset({"Linear"}),
                types=("int8", "float8", "int4", "int2"),
                distribution="optimum-quanto",
                least="0.2.6",  # diffusers quanto_quantizer.py: validate_environment
                beside=(("accelerate", "1.1.0"),),  # transformers import_utils.py
                reference=f"{_DOCS}/quanto",
            ),
            Backend(
                name="gguf",
                when="never",
                kinds=frozenset({"Linear"}),
                types=("file",),
                options={"compute_dtype": Option(values=FLOATS)},
                distribution="gguf",
                least="0.10.0",  # diffusers gguf_quantizer.py: validate_environment
                beside=(("accelerate", "0.26.0"),),  # the same
                reference=f"{_DOCS}/gguf",
            ),
            Backend(
                name="layerwise_cast",
                when="after",
                # diffusers hooks/_common.py: _GO_LC_SUPPORTED_PYTORCH_LAYERS
                kinds=frozenset({"Linear", "Embedding", *CONVOLUTIONS}),
                types=FLOAT8,
                type_key="storage_dtype",
                options={"compute_dtype": Option(values=FLOATS)},
                reference="https://huggingface.co/docs/diffusers/optimization/memory#layerwise-casting",
            ),
        )
    }
)

SELECTORS = ("component", "backend", "match", "classes", "skip", "required")
"""The keys of a rule that are not its backend's."""

CAST_SKIPS = ("pos_embed", "patch_embed", "norm", "^proj_in$", "^proj_out$")
"""Modules that diffusers (0.42.1, hooks/layerwise_casting.py: DEFAULT_SKIP_MODULES_PATTERN) casts in no
model; a class adds its own."""

ADAPTERS = (
    *("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"),
    *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)
"""peft's adapter layers (``adapter_layer_names``): small, and never quantized."""
