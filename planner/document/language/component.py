"""What a plan says of single components."""

from __future__ import annotations

from planner.document.language.shape import Shape, mapping, ref, said, text, whole
from planner.source.limits import BLOCKS, COMPONENTS, NAME

POLICY: Shape = said(
    "resident: moved once, stays until removal. offload: the whole component comes and goes. stream: in "
    "blocks.",
    ["offload"],
    title="policy",
    enum=["resident", "offload", "stream"],
)

COMPONENT: Shape = said(
    "A policy alone, or a mapping.",
    ["stream", {"policy": "stream", "resident": "50%", "prefetch": 2}],
    **mapping(
        {
            "policy": said(
                "What happens to its weights. The compiler chooses when left out.",
                ["resident"],
                **ref("policy"),
            ),
            "resident": said(
                "How much of a streamed component stays on the device while it is in use: bytes, or a share "
                "of the component.",
                ["50%", "6GiB"],
                **ref("amount"),
            ),
            "prefetch": said("How many blocks ahead are on their way.", [2], **whole(0, BLOCKS.most)),
            "source": said(
                "Its own folder, file or hub id, in place of the pipeline's.",
                ["./controlnet-canny"],
                **text(),
            ),
            "tiling": said(
                "Encode and decode in tiles: less memory, and another image.",
                ["on"],
                enum=[True, False, "on", "off"],
            ),
            "slicing": said(
                "Encode and decode the items of a batch one at a time: less memory for several images, and "
                "for a video whose frames are a batch. The image may round otherwise.",
                ["on"],
                enum=[True, False, "on", "off"],
            ),
        }
    )
    | {"type": ["string", "object"], "if": {"type": "string"}, "then": ref("policy")},
)

COMPONENT_MAP: Shape = said(
    "What is said of single components, by their names in the pipeline.",
    [{"unet": "stream", "vae": {"tiling": True}}],
    type="object",
    maxProperties=COMPONENTS.most,
    propertyNames={"title": "component", "maxLength": NAME.most},
    additionalProperties=ref("component"),
)
