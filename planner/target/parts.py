"""A component's modules by name, as far as they can be known: from a built model, or from a file's header."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from planner.target.headers import Stored

KINDS = frozenset(
    {"Linear", "Embedding", *("Conv1d", "Conv2d", "Conv3d")}
    | {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"}
)
"""torch classes that quantization knows; a subclass is of the kind of its base."""

EMBEDDINGS = frozenset(
    (
        *("a", "addition_t_embedding", "audio_embeddings", "bias", "c", "charge", "class_embedding"),
        *("cond_type_embed", "controlnet_mode_embedder", "data_type_token_embedding", "element", "emb"),
        *("embed", "embed_image_indicator", "embed_positions", "embed_tokens", "embed_tokens_per_layer"),
        *("embedding", "embedding_table", "embeddings", "fc", "fps_embedding", "height_emb", "pos_embed"),
        *("pos_embedding", "position_embedding", "position_embeddings", "position_encoding"),
        *("prior_token_embedding", "relative_attention_bias", "shared", "style_embedder", "t"),
        *("token_embedder", "token_embedding", "token_type_embeddings", "visual_token_type_embeddings"),
        *("width_emb", "word_embeddings", "wpe", "wte"),
    )
)
"""Names under which the models of diffusers (0.42.1) and transformers (5.23) keep an Embedding; they keep
no Linear without a bias under any of them. A test compares them with the installed diffusers' source, and
with every model that is built."""

OPEN = frozenset(("gate", "time_proj"))
"""Names under which some models keep a Linear, and some a matrix in a module of their own making (diffusers'
MoEGate)."""

OWN = frozenset(("motion_encoder",))
"""Parts of a model made of modules of its own that look like a Linear or a convolution (WanAnimate)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A module with weights of its own.

    ``kinds``: those that it may be of (one for a built module, several where a header leaves it open, none
    for a norm); ``classes``: its class and that class's bases, None when not known; ``shape`` and ``dtype``
    of its weight, the latter as torch names it; ``parameters`` of all of its tensors, and the bytes of each
    in ``tensors``, the weight's first; ``tied``: a module before it has the same weight.
    """

    name: str
    kinds: frozenset[str]
    classes: frozenset[str] | None = None
    shape: tuple[int, ...] = ()
    dtype: str = ""
    parameters: int = 0
    tensors: tuple[int, ...] = ()
    tied: bool = False

    @property
    def nbytes(self) -> int:
        """Of all of its tensors."""
        return sum(self.tensors)


def parts_of(module: Any) -> Iterator[Part]:
    """The modules of a built model, on any device, that have weights and are of a kind. Duck-typed.

    peft's ``x.base_layer`` is told as ``x``, the name that it has without an adapter. Left out: what torch
    reads without calling (the output projection of ``MultiheadAttention``), since no hook would see it; and
    what shares a weight with a module of another kind (an Embedding and the Linear at the end of a language
    model), which few backends take both of.
    """
    kinds_of: dict[int, set[frozenset[str]]] = {}
    for part in module.modules():
        kinds_of.setdefault(id(part._parameters.get("weight")), set()).add(_kinds(part))
    read = {
        id(child)
        for parent in module.modules()
        if "MultiheadAttention" in {c.__name__ for c in type(parent).__mro__}
        for child in parent.children()
    }
    seen: set[int] = set()
    for name, part in module.named_modules():
        weight = part._parameters.get("weight")
        kinds = _kinds(part)
        if not kinds or weight is None or id(part) in read or len(kinds_of[id(weight)]) > 1:
            continue
        others = (t for key, t in part._parameters.items() if key != "weight" and t is not None)
        own = (weight, *others)
        yield Part(
            name=name.replace(".base_layer", ""),
            kinds=kinds,
            classes=frozenset(c.__name__ for c in type(part).__mro__),
            shape=tuple(weight.shape),
            dtype=str(weight.dtype).removeprefix("torch."),
            parameters=sum(t.numel() for t in own),
            tensors=tuple(t.numel() * t.element_size() for t in own),
            tied=id(weight) in seen,
        )
        seen.add(id(weight))


def parts_in(
    tensors: Iterable[tuple[Stored, int]], half: str, *, library: bool = False, tied: Collection[str] = ()
) -> tuple[Part, ...]:
    """The modules that a file's tensors, each with its bytes once loaded, belong to.

    ``half``: the dtype of what is loaded in two bytes; ``library``: the model is of a class whose names are
    known; ``tied``: names of tensors that modules of two kinds share. A weight's dimensions tell what it may
    be of: more than two a convolution, two a Linear or an Embedding. The latter has no bias, and no other
    name than those of EMBEDDINGS in a library's model.
    """
    found: dict[str, dict[str, tuple[Stored, int]]] = {}
    for stored, nbytes in tensors:
        name, _, leaf = stored.name.rpartition(".")
        found.setdefault(name, {})[leaf] = stored, nbytes
    reads = {name for name, own in found.items() if "in_proj_weight" in own or "q_proj_weight" in own}
    made = []
    for name, own in found.items():
        if not name or "weight" not in own or f"{name}.weight" in tied or name.rpartition(".")[0] in reads:
            continue
        weight, nbytes = own["weight"]
        others = (size for leaf, (_, size) in own.items() if leaf != "weight")
        made.append(
            Part(
                name=name,
                kinds=_possible(name, weight.shape, "bias" in own, library),
                shape=weight.shape,
                dtype={8: "float64", 4: "float32", 2: half}.get(nbytes // max(weight.numel, 1), ""),
                parameters=sum(stored.numel for stored, _ in own.values()),
                tensors=(nbytes, *others),
            )
        )
    return tuple(made)


def _kinds(module: Any) -> frozenset[str]:
    return KINDS & {c.__name__ for c in type(module).__mro__}


def _possible(name: str, shape: tuple[int, ...], biased: bool, library: bool) -> frozenset[str]:
    steps = name.split(".")
    if OWN.intersection(steps):
        return frozenset()
    if len(shape) != 2:
        return frozenset(k for k in KINDS if k.endswith(f"{len(shape) - 2}d"))
    if biased:
        return frozenset({"Linear"})
    leaf = next((step for step in reversed(steps) if not step.isdigit()), "")
    if library and leaf not in OPEN:
        return frozenset({"Embedding" if leaf in EMBEDDINGS else "Linear"})
    return frozenset({"Linear", "Embedding"})
