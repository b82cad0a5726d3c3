"""All pipeline classes that the installed diffusers defines."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings

PLACES = ("diffusers.pipelines", "diffusers.experimental.rl")


def pipeline_classes() -> tuple[type, ...]:
    """Every subclass of ``DiffusionPipeline`` in the installed diffusers, sorted by name.

    Modules are imported one by one, so that classes which the package itself replaces by dummies (a
    package for one scheduler is missing) are found too.
    """
    for place in PLACES:
        package = importlib.import_module(place)
        for module in pkgutil.walk_packages(package.__path__, place + "."):
            _import(module.name)
    base = importlib.import_module("diffusers.pipelines.pipeline_utils").DiffusionPipeline
    below = (c for c in _below(base) if c.__module__.startswith("diffusers."))
    # A pipeline under a plan has a class that carries the names of its own.
    found = {c for c in below if getattr(sys.modules.get(c.__module__), c.__name__, None) is c}
    return tuple(sorted(found, key=lambda c: c.__name__))


def _import(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(name)
        except (ImportError, RuntimeError):  # helpers that want cv2 or note_seq; no pipeline is in them
            return


def _below(cls: type) -> set[type]:
    found: set[type] = set()
    below: list[type] = cls.__subclasses__()
    for each in below:
        found |= {each} | _below(each)
    return found
