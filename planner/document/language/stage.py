"""In which order components run: ``order``, and ``stages``, its long form."""

from __future__ import annotations

from planner.document.language.shape import Shape, listed, mapping, ref, said
from planner.source.limits import NAME, NESTED, RUNS, STAGES

ORDER: Shape = said(
    "In which order the components run: a string with -> or commas between names, or a list. Each name is a "
    "stage; the denoiser repeats every step. An entry point is a name with a dot: vae.encode. The class's "
    "own "
    "order when order and stages are left out.",
    ["text_encoder -> unet -> vae", ["text_encoder", "unet", "vae.decode"]],
    **listed(ref("use"), STAGES.most, least=1) | {"type": ["string", "array"], "minLength": 1},
)

STAGE_LIST: Shape = said(
    "The long form of order: what runs together, what repeats, what follows what.",
    [[{"id": "prompt", "runs": ["text_encoder"]}, {"id": "denoise", "runs": ["unet"], "loop": "steps"}]],
    **listed(ref("stage"), STAGES.most, least=1),
)

STAGE: Shape = said(
    "What runs together. It follows the stage above it, unless after says otherwise.",
    [{"id": "denoise", "runs": ["controlnet", "unet"], "loop": "steps"}],
    **mapping(
        {
            "id": said(
                "Its name.",
                ["denoise"],
                title="id",
                type="string",
                maxLength=NAME.most,
                pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            ),
            "runs": said(
                "Components and entry points in call order.",
                [["text_encoder", "text_encoder_2"]],
                **listed(ref("use"), RUNS.most, least=1),
            ),
            "stages": said(
                f"Stages inside, in place of runs: a group that may repeat. {NESTED.most} deep at most.",
                [[{"id": "chunk", "runs": ["vae.decode"]}]],
                **listed(ref("stage"), STAGES.most, least=1),
            ),
            "loop": said("How often it runs in a call.", ["steps", 20, "12.5%"], **ref("loop")),
            "after": said(
                "The stages that it waits for, by id; empty for none.",
                [["prompt"], []],
                **listed(
                    said("The id of a stage beside it.", ["prompt"], type="string", maxLength=NAME.most),
                    STAGES.most,
                ),
            ),
            "optional": said("It may not run; the plan holds either way.", [True], type="boolean"),
        },
        required=["id"],
    ),
    oneOf=[{"required": ["runs"]}, {"required": ["stages"]}],
)
