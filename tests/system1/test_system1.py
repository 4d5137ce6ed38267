from dataclasses import replace

import pytest
import torch
from torch import Tensor

from video2act.config import DenoisingConfig, System1Config
from video2act.system1 import System1, Visibility
from video2act.system1.action_dit import ProjectedConditions
from video2act.types import Tokens

CPU = torch.device("cpu")
CONFIG = System1Config(hidden=32, depth=4, num_heads=4, text_dim=16, image_channels=8)
TEXT = ["push the block", "pull"]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(config: System1Config = CONFIG, cameras: tuple[str, ...] = ("front", "wrist")) -> System1:
    torch.manual_seed(0)
    return System1(config, cameras, state_dim=3, action_dim=2, horizon=4)


def images(seed: int = 0) -> dict[str, Tensor]:
    return {camera: randn(2, 3, 16, 16, seed=seed + k).clamp(-1, 1) for k, camera in enumerate(("front", "wrist"))}


def project(
    system1: System1, text: list[str] = TEXT, visible: Visibility | None = None, seed: int = 0, video_seed: int = 0
) -> ProjectedConditions:
    visible = visible or Visibility.full(2, CPU)
    video = Tokens.all_visible(randn(2, 5, 32, seed=video_seed))
    conditions = system1.gather(text, images(seed), video=video, visible=visible)
    return system1.project(conditions, randn(2, 3, seed=seed), staleness=torch.tensor([0.0, 0.1]), visible=visible)


def sample(system1: System1, conditions: ProjectedConditions) -> Tensor:
    with torch.no_grad():
        return system1.sample(conditions, randn(2, 4, 2, seed=9))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


HIDDEN = torch.zeros(2, dtype=torch.bool)
PAD = torch.tensor([[False, False, True, True], [False, True, True, True]])


class TestLoss:
    @pytest.mark.parametrize(
        "denoising",
        [
            DenoisingConfig(noise_draws=2),
            DenoisingConfig("flow_matching", "velocity", loss="smooth_l1"),
            DenoisingConfig("ddpm", "epsilon"),
        ],
        ids=lambda d: f"{d.schedule} {d.prediction}",
    )
    def test_it_is_finite_and_reaches_every_weight(self, denoising: DenoisingConfig):
        system1 = build(replace(CONFIG, denoising=denoising))
        loss = system1.loss(randn(2, 4, 2), PAD, conditions=project(system1), generator=seeded())
        loss.backward()
        assert loss.isfinite()
        assert [name for name, p in system1.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_change_the_padding_and_nothing_changes(self):
        """Neither the loss nor the gradient may know what was written past the end of an episode."""
        system1, actions = build(replace(CONFIG, denoising=DenoisingConfig(noise_draws=2))), randn(2, 4, 2)
        results = []
        for padded in (actions, torch.where(PAD[..., None], torch.tensor(50.0), actions)):
            system1.zero_grad()
            loss = system1.loss(padded, PAD, conditions=project(system1), generator=seeded())
            loss.backward()
            results.append([loss.detach(), *(p.grad.clone() for p in system1.parameters() if p.grad is not None)])
        assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))

    def test_it_is_the_mean_over_real_actions(self):
        system1, actions = build(), randn(2, 4, 2)
        whole = system1.loss(
            actions, torch.zeros(2, 4, dtype=torch.bool), conditions=project(system1), generator=seeded()
        )
        parts = []
        for t in range(4):
            only = torch.ones(2, 4, dtype=torch.bool)
            only[:, t] = False
            parts.append(system1.loss(actions, only, conditions=project(system1), generator=seeded()))
        assert torch.allclose(whole, torch.stack(parts).mean(), atol=1e-5)

    def test_nothing_but_padding_is_no_loss(self):
        system1 = build()
        loss = system1.loss(
            randn(2, 4, 2), torch.ones(2, 4, dtype=torch.bool), conditions=project(system1), generator=seeded()
        )
        assert loss == 0

    def test_it_is_a_function_of_the_generator(self):
        system1, actions = build(), randn(2, 4, 2)
        first, again = (system1.loss(actions, PAD, conditions=project(system1), generator=seeded()) for _ in range(2))
        other = system1.loss(actions, PAD, conditions=project(system1), generator=torch.Generator().manual_seed(1))
        assert first == again
        assert first != other


class TestConditions:
    @pytest.mark.parametrize("sees_video", [True, False])
    def test_swap_the_instructions_and_the_actions_change(self, sees_video: bool):
        system1 = build()
        visible = replace(Visibility.full(2, CPU), video=torch.full((2,), sees_video))
        first = sample(system1, project(system1, TEXT, visible))
        second = sample(system1, project(system1, TEXT[::-1], visible))
        assert ((first - second).abs().amax(dim=(1, 2)) > 1e-5).all()

    def test_beside_a_longer_instruction_the_actions_stay(self):
        system1 = build()
        beside_short, beside_long = (
            sample(system1, project(system1, ["push", other]))[0]
            for other in ("pull", "open the drawer and look inside")
        )
        assert torch.allclose(beside_short, beside_long, atol=1e-5)

    @pytest.mark.parametrize("which", ["text", "image", "video", "state"])
    def test_what_is_hidden_says_nothing_and_only_that(self, which: str):
        system1 = build()
        hidden = replace(Visibility.full(2, CPU), **{which: torch.tensor([False, True])})

        def changed(visible: Visibility) -> Tensor:
            """How much each sample's actions change with the condition."""
            conditions = [
                system1.project(
                    system1.gather(
                        ["push it", "pull it"] if which == "text" and seed else ["open", "close"],
                        images(seed if which == "image" else 0),
                        video=Tokens.all_visible(randn(2, 5, 32, seed=seed if which == "video" else 0)),
                        visible=visible,
                    ),
                    randn(2, 3, seed=seed if which == "state" else 0),
                    staleness=torch.zeros(2),
                    visible=visible,
                )
                for seed in (0, 1)
            ]
            first, second = (sample(system1, known) for known in conditions)
            return (first - second).abs().amax(dim=(1, 2))

        assert (changed(Visibility.full(2, CPU)) > 1e-5).all()
        change = changed(hidden)
        assert change[0] < 1e-6
        assert change[1] > 1e-5

    def test_with_everything_hidden_actions_are_finite(self):
        system1 = build()
        nothing = Visibility(HIDDEN, HIDDEN, HIDDEN, HIDDEN)
        conditions = project(system1, visible=nothing)
        assert sample(system1, conditions).isfinite().all()
        system1.loss(randn(2, 4, 2), PAD, conditions=conditions, generator=seeded()).backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in system1.parameters())

    def test_no_images_are_as_hidden_images(self):
        system1 = build()
        video, full = Tokens.all_visible(randn(2, 5, 32)), Visibility.full(2, CPU)
        hidden = replace(full, image=HIDDEN)
        first = system1.gather(TEXT, None, video=video, visible=full)
        second = system1.gather(TEXT, images(), video=video, visible=hidden)
        assert first.image.data.shape[1] == 0
        state, age = randn(2, 3), torch.zeros(2)
        with_none, with_hidden = (
            sample(system1, system1.project(known, state, staleness=age, visible=full)) for known in (first, second)
        )
        assert torch.allclose(with_none, with_hidden, atol=1e-6)

    def test_cameras_are_told_apart(self):
        system1 = build()
        shown = images()
        swapped = {"front": shown["wrist"], "wrist": shown["front"]}
        full, video = Visibility.full(2, CPU), Tokens.empty(2, 32, like=shown["front"])
        first, second = (
            system1.gather(TEXT, pictures, video=video, visible=full).image.data for pictures in (shown, swapped)
        )
        assert not torch.allclose(first.mean(dim=1), second.mean(dim=1), atol=1e-3)

    def test_a_policy_without_cameras_has_no_image_tokens(self):
        system1 = build(cameras=())
        conditions = system1.gather(
            TEXT, {}, video=Tokens.empty(2, 32, like=torch.zeros(1)), visible=Visibility.full(2, CPU)
        )
        assert conditions.image.data.shape == (2, 0, 32)
