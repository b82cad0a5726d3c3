"""``python -m planner.docs.cookbook [NAME ...]``: fits models to cards, and writes their plans and the page.

Plans go to ``plans/cookbook``, tables into ``planner/docs/cookbook.md``; in a checkout, with the extra
``[fit]``. Without names, all models; with ``--page``, the page alone, from the plans that are there. All of
it takes minutes of one core, and neither torch nor a network, as traces of all these calls ship.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from planner.docs.cookbook.making import write
from planner.docs.cookbook.page import PAGE, written
from planner.docs.cookbook.recipes import RECIPES, SIZES, entry


def main(asked: Sequence[str]) -> int:
    """Exit code: 0, or 2 for a name that is none. Raises PlanError where not memory makes a fit fail."""
    known = {recipe.name: recipe for recipe in RECIPES}
    if unknown := [name for name in asked if name not in {*known, "--page"}]:
        print(f"{', '.join(unknown)}: known are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in [] if "--page" in asked else asked or known:
        for size in SIZES:
            fits = write(known[name], size)
            print(f"{entry(known[name], size)}: {'written' if fits else 'nothing fits'}", file=sys.stderr)
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
