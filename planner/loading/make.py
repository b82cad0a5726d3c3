"""Code that the command line names: ``--from module:function`` or ``module:Class``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p9_machine import BAD_FACTORY, FACTORY_FAILED
from planner.loading.packages import require


def code_at(spec: str) -> Any:
    """The class or function that ``module:name`` leads to. The current folder is searched first.

    Raises PlanError for a name that leads nowhere, and for what importing the module raised.
    """
    require()
    module_name, sign, name = spec.partition(":")
    if not sign or not all(part.isidentifier() for part in [*module_name.split("."), *name.split(".")]):
        raise PlanError([finding(BAD_FACTORY, f'expected MODULE:NAME, found "{spec}"')])
    return _function(module_name, name)


def made_by(spec: str, function: Any) -> Any:
    """What ``function``, named ``spec``, returns: a loaded diffusers pipeline.

    Raises PlanError for what the function raised (its ``__cause__``) and for a result that is no pipeline.
    """
    try:
        made = function()
    except PlanError:
        raise
    except Exception as error:
        raise PlanError([_failed(f'"{spec}" raised', error)]) from error
    from diffusers import DiffusionPipeline

    if not isinstance(made, DiffusionPipeline):
        said = f'"{spec}" returned {_kind(made)}, expected a loaded diffusers pipeline'
        raise PlanError([finding(FACTORY_FAILED, said)])
    return made


def from_factory(spec: str) -> Any:
    """``made_by`` of ``code_at``."""
    return made_by(spec, code_at(spec))


def _function(module_name: str, name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does: an installed command starts without it
    try:
        found: Any = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            said = f'no module "{error.name}" here or in the environment'
            raise PlanError([finding(BAD_FACTORY, said)]) from error
        raise PlanError([_failed(f'importing "{module_name}" raised', error)]) from error
    except Exception as error:
        raise PlanError([_failed(f'importing "{module_name}" raised', error)]) from error
    for part in name.split("."):
        known = [n for n, value in vars(found).items() if callable(value) and not n.startswith("_")]
        found = getattr(found, part, None)
        if found is None:
            said = f'module "{module_name}" has no "{name}"'
            raise PlanError([finding(BAD_FACTORY, said, hint=did_you_mean(part, known))])
    if not callable(found):
        raise PlanError(
            [finding(BAD_FACTORY, f'"{module_name}:{name}" is {_kind(found)}, expected a function')]
        )
    return found


def _failed(what: str, error: Exception) -> Diagnostic:
    text = " ".join(str(error).split())
    return finding(FACTORY_FAILED, f"{what} {type(error).__name__}" + (f": {text}" if text else ""))


def _kind(value: Any) -> str:
    return "nothing" if value is None else f'a "{type(value).__name__}"'
