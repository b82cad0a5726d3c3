"""Sizes, shares and loops, and how a use is named. Digits are written out: engines read ``\\d`` "
"differently."""

from __future__ import annotations

from planner.document.language.shape import Shape, said
from planner.source.limits import DIGITS, NAME, REPEATS

_NUMBER = r"[0-9]+(\.[0-9]+)?"
_WORD = "[A-Za-z_][A-Za-z0-9_]*"

UNITS: Shape = {
    "amount": said(
        "A size with its unit (B KB MB GB KiB MiB GiB) or a share (N%).",
        ["11GiB", "500MB", "80%"],
        title="size",
        type="string",
        maxLength=DIGITS.most,
        pattern=f"^{_NUMBER} ?(B|KB|MB|GB|KiB|MiB|GiB|%)$",
    ),
    "bytes": said(
        "A size with its unit (B KB MB GB KiB MiB GiB).",
        ["16GiB", "500MB"],
        title="bytes",
        type="string",
        maxLength=DIGITS.most,
        pattern=f"^{_NUMBER} ?(B|KB|MB|GB|KiB|MiB|GiB)$",
    ),
    "use": said(
        "A component, or one of its entry points.",
        ["unet", "vae.encode"],
        title="use",
        type="string",
        maxLength=NAME.most,
        pattern=rf"^[ \t\r\n]*{_WORD}(\.{_WORD})*[ \t\r\n]*$",
    ),
    "loop": said(
        "How often: a number, steps, or a share of the steps.",
        ["steps", 20, "12.5%"],
        title="loop",
        type=["integer", "string"],
        minimum=1,
        maximum=REPEATS.most,
        maxLength=DIGITS.most,
        pattern=f"^(steps|{_NUMBER}%)$",
    ),
}
