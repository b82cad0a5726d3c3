"""Gradients through components under a plan are those of the whole pipeline, on the user's own Parameters;
where they cannot be, an error with a code comes before the first wrong number."""

from __future__ import annotations

import gc
import inspect
from functools import partialmethod
from typing import Any

import pytest
import torch
from covering import covering
from diffusers import StableDiffusionAttendAndExcitePipeline
from peft import LoraConfig
from pipelines import images, parts
from pipelines.all import build, run, same
from pipelines.plans import attached, read
from torch.utils.checkpoint import checkpoint

from laws.policies import POLICIES, SD, mostly_wide, nothing_left, on_sim, small, tensors_on
from planner.diagnostics.diagnostic import PlanError
from planner.virtual.backend import install
from planner.virtual.device import SimDevice


def with_lora() -> tuple[Any, list[torch.nn.Parameter]]:
    pipe = build(SD)
    pipe.unet.requires_grad_(False)
    torch.manual_seed(0)
    pipe.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    return pipe, [p for p in pipe.unet.parameters() if p.requires_grad]


def trained(
    pipe: Any, mine: list[torch.nn.Parameter], steps: int = 3, on: str = "sim:0"
) -> tuple[list[float], list[Any]]:
    """Losses, and the gradients of the last step."""
    optimizer = torch.optim.AdamW(mine, lr=0.05)
    generator, losses, gradients = torch.Generator().manual_seed(1), [], []
    for _ in range(steps):
        x, e = (torch.randn(*s, generator=generator).to(on) for s in ((1, 4, 8, 8), (1, 7, 32)))
        loss = ((pipe.unet(x, 1, e).sample - x) ** 2).mean()
        loss.backward()
        gradients = [None if p.grad is None else p.grad.detach().cpu().clone() for p in mine]
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, gradients


@pytest.mark.parametrize("policy", mostly_wide(*POLICIES))
def test_a_lora_is_trained_as_without_a_plan(policy: str) -> None:
    install()
    whole, mine = with_lora()
    whole.to("sim:0")
    expected, right = trained(whole, mine)
    pipe, mine = with_lora()
    pipe, session, device = on_sim(policy, pipe)
    losses, gradients = trained(pipe, mine)
    assert sum(g is not None for g in gradients) == len(mine) == len(right) > 8
    assert losses == expected
    assert all(torch.equal(a, b) for a, b in zip(gradients, right, strict=True))
    assert same(run(pipe, SD), run(whole, SD))
    gc.collect()
    nothing_left(pipe, session, device)
    assert all(
        a is b for a, b in zip(mine, (p for p in pipe.unet.parameters() if p.requires_grad), strict=True)
    )


def gradients_of(pipe: Any, own: list[Any], *, asked_of_input: bool = False, on: str = "sim:0") -> list[Any]:
    """Of the U-Net's Parameters ``own``, after one backward."""
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).to(on)
    x.requires_grad_(asked_of_input)
    e = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(2)).to(on)
    pipe.unet(x, 1, e).sample.square().mean().backward()
    return [None if p.grad is None else p.grad.cpu() for p in own]


@pytest.mark.parametrize("policy", mostly_wide(*POLICIES))
def test_gradients_of_all_weights_are_on_the_users_own_parameters(policy: str) -> None:
    install()
    whole = build(SD).to("sim:0")
    right = gradients_of(whole, [*whole.unet.parameters()])
    pipe = build(SD)
    own = [*pipe.unet.parameters()]
    pipe, session, device = on_sim(policy, pipe)
    made = gradients_of(pipe, own)
    assert all(g is not None for g in right)
    assert [g is not None for g in made] == [True] * len(own)
    assert all(torch.equal(a, b) for a, b in zip(made, right, strict=True))
    nothing_left(pipe, session, device)


def attend_and_excite() -> Any:
    torch.manual_seed(0)
    pipe = StableDiffusionAttendAndExcitePipeline(
        vae=parts.vae().eval(),
        text_encoder=parts.clip_text().eval(),
        tokenizer=parts.clip_tokenizer(),
        scheduler=images.ddim(),
        safety_checker=None,
        unet=parts.unet(block_out_channels=(8, 16), norm_num_groups=2).eval(),
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def excited(pipe: Any) -> torch.Tensor:
    made: torch.Tensor = pipe(
        prompt="a cat and a frog",
        token_indices=[2, 5],
        num_inference_steps=2,
        guidance_scale=6.0,
        output_type="pt",
        height=32,
        width=32,
        max_iter_to_alter=2,
        thresholds={0: 0.7},
        attn_res=(8, 8),
        generator=torch.Generator().manual_seed(0),
    )[0]
    return made.detach().cpu()


@pytest.mark.parametrize("policy", mostly_wide("offload", "stream", "kept", "streamed, kept", "resident"))
def test_attend_and_excite_is_as_without_a_plan(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = StableDiffusionAttendAndExcitePipeline
    refine = partialmethod(cls._perform_iterative_refinement_step, max_refinement_steps=3)
    monkeypatch.setattr(cls, "_perform_iterative_refinement_step", refine)  # 20 are more of the same
    install()
    expected = excited(attend_and_excite().to("sim:0"))
    pipe, session, device = on_sim(policy, attend_and_excite())
    assert not expected.isnan().any()
    assert torch.equal(excited(pipe), expected)
    assert torch.equal(excited(pipe), expected)
    del pipe.attention_store  # the class keeps its last maps, with their graph and the weights that it saved
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", mostly_wide(*POLICIES))
def test_backward_after_the_component_left(policy: str) -> None:
    """A loss after the call: the U-Net and the VAE have left when backward reads their weights."""
    install()
    raw = inspect.unwrap(type(build(SD)).__call__)

    def gradient(pipe: Any) -> torch.Tensor:
        e = torch.randn(2, 1, 77, 32, generator=torch.Generator().manual_seed(1)).to("sim:0").requires_grad_()
        x = raw(
            pipe,
            prompt_embeds=e[0],
            negative_prompt_embeds=e[1],
            num_inference_steps=2,
            output_type="latent",
            return_dict=False,
            generator=torch.Generator().manual_seed(0),
        )[0]
        pipe.vae.decode(x).sample.square().mean().backward()
        assert e.grad is not None
        return e.grad.cpu()

    expected = gradient(build(SD).to("sim:0"))
    pipe, session, device = on_sim(policy)
    assert torch.equal(gradient(pipe), expected)
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", ["offload", "stream", "tight"])
def test_a_forward_with_gradients_and_no_backward_holds_no_weights(policy: str) -> None:
    pipe, session, device = on_sim(policy, build(SD))
    x, e = torch.randn(1, 4, 8, 8).to("sim:0"), torch.randn(1, 7, 32).to("sim:0")
    kept = [pipe.unet(x, 1, e).sample for _ in range(3)]
    assert all(one.requires_grad for one in kept)
    assert device.own == device.abandoned == 0
    del kept
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize(
    ("policy", "reentrant"), covering(["offload", "stream", "kept", "resident"], [False, True])
)
def test_gradient_checkpointing_is_right(policy: str, reentrant: bool) -> None:
    """diffusers' own: a block's forward is run again on autograd's own time, outside of any use."""

    def gradients(pipe: Any, own: list[Any]) -> list[Any]:
        pipe.unet.enable_gradient_checkpointing(
            gradient_checkpointing_func=lambda f, *a: checkpoint(f, *a, use_reentrant=reentrant)
        )
        pipe.unet.train()
        return gradients_of(pipe, own, asked_of_input=True)

    install()
    whole = build(SD).to("sim:0")
    right = gradients(whole, [*whole.unet.parameters()])
    pipe = build(SD)
    own = [*pipe.unet.parameters()]
    pipe, session, device = on_sim(policy, pipe)
    made = gradients(pipe, own)
    assert [g is None for g in made] == [g is None for g in right]
    assert all(a is None or torch.equal(a, b) for a, b in zip(made, right, strict=True))
    pipe.unet.zero_grad()
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", ["offload", "stream", "streamed, kept"])
def test_weights_that_were_changed_before_backward_are_an_error(policy: str) -> None:
    pipe, session, _device = on_sim(policy, build(SD))
    x = torch.randn(1, 4, 8, 8).to("sim:0").requires_grad_()
    loss = pipe.unet(x, 1, torch.randn(1, 7, 32).to("sim:0")).sample.square().mean()
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            weight.mul_(1.5)
    with pytest.raises((PlanError, RuntimeError)) as caught:
        loss.backward()
    assert "P734" in str(caught.value)
    del loss, caught
    session.remove()
    assert tensors_on(pipe) == []


@pytest.mark.parametrize("policy", ["offload", "stream"])
def test_two_backwards_through_one_graph(policy: str) -> None:
    pipe, session, device = on_sim(policy, small())
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    plain = small().big(y := x.clone().requires_grad_()).square().sum()
    plain.backward(retain_graph=True)
    plain.backward()
    made = pipe.big(z := x.to("sim:0").requires_grad_()).square().sum()
    made.backward(retain_graph=True)
    made.backward()
    assert y.grad is not None
    assert z.grad is not None
    assert torch.allclose(z.grad.cpu(), y.grad, atol=1e-5)
    del made
    gc.collect()
    nothing_left(pipe, session, device)


@pytest.mark.parametrize("policy", ["kept", "resident", "excluded"])
def test_gradients_accumulate_on_what_stays(policy: str) -> None:
    pipe, want = small(), small()
    own = [*pipe.big.parameters()]
    if policy == "excluded":
        text = "version: 1\npipeline: {class: Small}\norder: encoder -> decoder\nexclude: [big]\n"
        session, device = attached(read(text), pipe, None, SimDevice(aliases=True))
    else:
        pipe, session, device = on_sim(policy, pipe)
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(3))
    for _ in range(2):
        pipe()
        pipe.big(x.to("sim:0")).square().sum().backward()
        want.big(x).square().sum().backward()
    for mine, theirs in zip(own, want.big.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(mine.grad.cpu(), theirs.grad, atol=1e-4)
    session.remove()
    assert device.ledger.live == 0
