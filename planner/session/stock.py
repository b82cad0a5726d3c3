"""diffusers' and accelerate's own offload: taken off before a plan comes, and put back where applying
fails."""

from __future__ import annotations

from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_session import STOCK_OFFLOAD
from planner.session.checks import modules_of
from planner.session.undo import Undo


def take_off(pipe: Any, failing: Undo) -> tuple[Diagnostic, ...]:
    """Frees ``pipe`` of stock offload, leaving hooks of others; a note where there was any. ``failing`` is
    what puts it back: a plan that was removed leaves a plain pipeline."""
    from accelerate.hooks import AlignDevicesHook, CpuOffload, add_hook_to_module, remove_hook_from_module

    freed = {}
    for name, module in modules_of(pipe).items():
        chain = _chain(module.__dict__.get("_hf_hook"))
        below = (m.__dict__.get("_hf_hook") for m in module.modules())
        if any(isinstance(h, (CpuOffload, AlignDevicesHook)) for h in (*chain, *below)):
            freed[name] = (module, chain)
    if not freed:
        return ()
    device, models = getattr(pipe, "_offload_device", None), bool(getattr(pipe, "_all_hooks", []))

    def restore() -> None:
        if device is not None:
            (pipe.enable_model_cpu_offload if models else pipe.enable_sequential_cpu_offload)(device=device)

    failing.add(restore)
    for module, chain in freed.values():
        remove_hook_from_module(module, recurse=True)
        for hook in chain:
            if not isinstance(hook, (CpuOffload, AlignDevicesHook)):
                add_hook_to_module(module, hook, append=True)
    pipe._all_hooks = []
    return (finding(STOCK_OFFLOAD, f"freed of diffusers' own offload: {', '.join(freed)}"),)


def _chain(hook: Any) -> list[Any]:
    if hook is None:
        return []
    return [h for inner in hook.hooks for h in _chain(inner)] if hasattr(hook, "hooks") else [hook]
