"""A pipeline's own call with components that compute nothing: each distinct use is traced once.

The pipeline's own work (tokenizers, schedulers, latents) runs on the CPU with its values. Where it enters a
component, by calling the module or one of its methods, the arguments become tensors without data on the
GPU, the use is traced, and zeros of the right shape come back.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from planner.predict.allocator import Allocator
from planner.predict.profile import Turn, UseProfile, Weights
from planner.predict.replay import peak_of
from planner.session.signature import signature
from planner.tracing.blocks import blocks
from planner.tracing.forms import Form, run
from planner.tracing.glue import Glue
from planner.tracing.inputs import again, mark
from planner.tracing.ledger import rounded
from planner.tracing.mode import Tracer
from planner.tracing.modules import converted
from planner.tracing.patches import as_called, as_on_gpu
from planner.tracing.tensor import CPU

OTHER = frozenset(
    {
        *("from_pretrained", "save_pretrained", "from_config", "register_to_config", "can_generate"),
        *("enable_tiling", "disable_tiling", "enable_slicing", "disable_slicing", "set_attn_processor"),
        *("fuse_qkv_projections", "unfuse_qkv_projections", "get_input_embeddings", "get_output_embeddings"),
        *(
            "set_input_embeddings",
            "num_parameters",
            "post_init",
            "tie_weights",
            "clear_cache",
            "init_weights",
        ),
        *("prepare_inputs_for_generation", "blend_v", "blend_h", "blend_t", "quantize", "dequantize"),
        *("get_position_ids", "get_image_ids"),
    }
)
"""Methods that are no use of the weights."""


class Recorder:
    """``pipe``: whose components are copies without data (``planner.tracing.modules.copied``); ``forms``: by
    component and path of a layer, how its weight is stored where that is not plain."""

    def __init__(self, pipe: Any, tracer: Tracer, forms: Mapping[str, Mapping[str, Form]]) -> None:
        self._pipe = pipe
        self._forms = forms
        self._stored: dict[int, Form] = {}
        self._tracer = tracer
        self._glue = Glue()
        self._owners: dict[int, tuple[str, str]] = {}
        self._blocks: dict[int, str] = {}
        self._loaded: dict[str, Any] = {}
        """Each component's dtype before the call."""
        self._seen: dict[Any, tuple[int, Any]] = {}
        self._inside = False
        self._active = False
        self.uses: list[UseProfile] = []
        self.turns: list[Turn] = []
        self.weights: dict[str, Weights] = {}
        self.prepared = self._prepare()

    def _prepare(self) -> tuple[str, ...]:
        names = []
        for name, module in self._pipe.components.items():
            if isinstance(module, torch.nn.Module) and id(module) not in self._owners:
                for path, part in module.named_modules():
                    self._owners.setdefault(id(part), (name, path))
                    if (form := self._forms.get(name, {}).get(path)) is not None:
                        self._stored[id(part)] = form
                self.weights[name], inside = blocks(module)
                self._blocks |= inside
                self._loaded[name] = _dtype(module)
                module.__class__ = self._dressed(type(module))
                names.append(name)
        return tuple(names)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The pipeline is called here."""
        with as_called(self._tracer, self._called, self._converted), self._glue:
            self._active = True
            try:
                yield
            finally:
                self._active = False

    def kept(self) -> int:
        """Bytes on the device when the call is over and what it returned is gone, beside weights and buffers:
        a scheduler's state, tables that modules or caches of functions keep. Ends the recording: outputs of
        uses are not known any more."""
        self._seen.clear()
        gc.collect()  # what refers to itself is gone on a device too, some time
        return self._glue.live + self._tracer.ledger.lasting

    def _dressed(self, cls: type) -> type:
        """``cls`` whose methods that take tensors are uses, and which says that it is on the CPU."""
        body: dict[str, Any] = {
            "device": property(lambda _: CPU),
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
        }
        for name in dir(cls):
            if name.startswith("_") or name in OTHER or hasattr(torch.nn.Module, name):
                continue
            raw = inspect.getattr_static(cls, name, None)
            if inspect.isfunction(raw):
                body[name] = self._method(name, raw)
        return type(cls.__name__, (cls,), body)

    def _method(self, name: str, function: Any) -> Any:
        recorder = self

        @functools.wraps(function)
        def entered(self: Any, *args: Any, **kwargs: Any) -> Any:
            if recorder._inside or not recorder._active or not _tensors(args, kwargs):
                return function(self, *args, **kwargs)
            return recorder._use(self, name, functools.partial(function, self), args, kwargs)

        return entered

    def _called(self, call: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``Module.__call__``."""
        if self._inside:
            return self._in_block(call, module, args, kwargs)
        if id(module) not in self._owners:
            return call(module, *args, **kwargs)
        return self._use(module, "", functools.partial(call, module), args, kwargs)

    def _in_block(self, call: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ledger = self._tracer.ledger
        before = ledger.block
        ledger.block = self._blocks.get(id(module), before)
        form = self._stored.get(id(module))
        try:
            if form is not None:
                return run(form, self._tracer, call, module, args, kwargs)
            return call(module, *args, **kwargs)
        finally:
            ledger.block = before

    def _converted(self, apply: Any, module: Any, function: Any, recurse: bool) -> Any:
        if id(module) not in self._owners:
            return apply(module, function, recurse)
        return converted(module, function, self._tracer, recurse)

    def _use(
        self,
        module: Any,
        entry: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        component, path = self._owners[id(module)]
        where = ".".join(part for part in (path, entry) if part)
        parameters = module.forward if not entry else function
        dtype = _dtype(module)
        key = (component, where, dtype, mark(parameters, args, kwargs))
        held, glue = self._glue.live, self._glue.events()
        if key not in self._seen:
            said = signature(module if not path else None, where, (args, kwargs))
            self._inside = True
            try:
                with self._glue.left():
                    self._seen[key] = self._traced(component, where, said, function, args, kwargs)
            finally:
                self._inside = False
        use, out = self._seen[key]
        self.turns.append(Turn(use, held, glue))
        return again(out)

    def _weights(self, component: str) -> Weights | None:
        """Of a component that was cast since it was loaded."""
        module = self._pipe.components[component]
        return blocks(module)[0] if _dtype(module) is not self._loaded[component] else None

    def _traced(
        self,
        component: str,
        entry: str,
        said: str,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[int, Any]:
        ledger = self._tracer.ledger
        flat, spec = tree_flatten((args, kwargs))
        given = {id(v): self._tracer.given(v) for v in flat if isinstance(v, torch.Tensor)}
        size = sum(rounded(tensor.meta.untyped_storage().nbytes()) for tensor in given.values())
        args, kwargs = tree_unflatten([given.get(id(v), v) for v in flat], spec)
        del flat, given  # as on a device, an input lives as long as who was given it refers to it
        with as_on_gpu(self._tracer):
            ledger.begin()
            ledger.block = ""
            try:
                out = function(*args, **kwargs)
                output = ledger.live
            finally:
                ledger.end()
        use = UseProfile(
            component=component,
            entry=entry,
            signature=said,
            inputs=size,
            output=output,
            events=tuple(ledger.events),
            scratch=frozenset(ledger.scratch),
            operations=ledger.operations,
            sections=ledger.sections,
            notes=tuple(sorted(ledger.notes)),
            weights=self._weights(component),
        )
        self.uses.append(replace(use, room=peak_of(use, Allocator(expandable=True)).asked))
        return len(self.uses) - 1, out


def _dtype(module: torch.nn.Module) -> torch.dtype | None:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def _tensors(args: Any, kwargs: Any) -> bool:
    return any(isinstance(value, torch.Tensor) for value in tree_flatten((args, kwargs))[0])
