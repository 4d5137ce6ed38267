"""What trained weights compute, pinned: every network of ours with weights from a formula, and a few of its outputs.

The numbers were recorded from this code. Properties are tested elsewhere; this file notices what no property says: a
constant, a unit, an axis, a lost residual. Whoever changes a form on purpose records the numbers again, and knows that
saved policies mean something else.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from video2act.config import (
    BackboneConfig,
    DenoisingConfig,
    DitConfig,
    FilterConfig,
    FormerConfig,
    PolicyConfig,
    System1Config,
)
from video2act.layers import CrossAttention, Mlp, RmsNorm, SelfAttention, grid_embedding, grid_rotation, make_adaptor
from video2act.policy import Video2Act
from video2act.statistics import Statistics
from video2act.system1 import System1, Visibility
from video2act.system1.encoders import ImageEncoder, key_points
from video2act.system2.backbones.tiny import TinyBackbone
from video2act.system2.backbones.tiny_codec import LinearCodec
from video2act.system2.former import Former, LayerMixture
from video2act.system2.video_training import continue_video, diffusion_loss
from video2act.types import Batch, Observation, Tokens, Video, VideoCondition

CPU = torch.device("cpu")


def waves(*shape: int, pace: float = 0.7, size: float = 1.0) -> Tensor:
    """Numbers in [-size, size] that no axis can be swapped in unnoticed."""
    return size * torch.sin(pace * torch.arange(math.prod(shape), dtype=torch.float64) + 0.3).float().view(shape)


def filled(module: Any) -> Any:
    """The module with weights from a formula; scales of norms stay near 1."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(module.named_parameters())):
            drawn = waves(*parameter.shape, pace=0.37 + 0.11 * (number % 7))
            fan_in = parameter.shape[-1] if parameter.ndim < 3 else math.prod(parameter.shape[1:])
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(1 + 0.2 * drawn if is_scale else 2 / math.sqrt(fan_in) * drawn)
    return module.eval()


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class TestLayers:
    def test_self_attention(self):
        assert_golden("self_attention", filled(SelfAttention(8, 2))(waves(2, 3, 8)))
        assert_golden("self_attention of variance", filled(SelfAttention(8, 2, norm="variance"))(waves(2, 3, 8) + 0.5))

    def test_cross_attention(self):
        cross = filled(CrossAttention(8, 2, condition_width=6))
        mask = torch.tensor([[True, True, False, True], [False, True, True, False]])
        assert_golden("cross_attention", cross(waves(4, 3, 8), cross.project(waves(2, 4, 6, pace=0.9), mask)))

    def test_norms(self):
        # small enough for the constant under the root to count
        assert_golden("rms", torch.stack([filled(RmsNorm(6))(waves(6, size=size)) for size in (1e-3, 1.0)]))
        variance = filled(RmsNorm(6, "variance"))
        assert_golden("variance", torch.stack([variance(waves(6, size=size)) for size in (1e-3, 1.0)]))

    def test_mlps(self):
        assert_golden("mlp gelu", filled(Mlp(6, 10, out=3))(3 * waves(2, 6)))
        assert_golden("mlp silu", filled(Mlp(6, 10, out=3, activation="silu"))(3 * waves(2, 6)))
        assert_golden("adaptor of 3", filled(make_adaptor("mlp3x_gelu", 6, width_out=4))(3 * waves(2, 6)))

    def test_positions(self):
        assert_golden("grid 2 x 3 x 5", grid_embedding(2, 3, 5, width=24, device=CPU))
        turned = grid_rotation(torch.tensor([[-1.0, 0.0, 2.0]]), 3, 5, head_dim=12)
        assert_golden("rotated", filled(SelfAttention(24, 2))(waves(1, 45, 24), rotation=turned))

    def test_mixture_of_layers(self):
        mixture = LayerMixture(3)
        mixture.load_state_dict({"weight": torch.tensor([0.5, -0.2, 1.0]), "scale": torch.tensor([1.5])})
        # weights .319, .158 and .525 of the softmax
        layers = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1, 1)
        assert float(mixture(Video(layers, 5.0)).grid.detach()) == pytest.approx(81.473, abs=0.01)


class TestSystem2:
    BACKBONE = BackboneConfig(
        feature_layers=(1,),
        hidden=24,
        depth=3,
        num_heads=2,
        latent_channels=6,
        patch_px=2,
        frames_per_latent=4,
        text_dim=8,
    )

    @pytest.fixture
    def backbone(self) -> TinyBackbone:
        model = filled(TinyBackbone(self.BACKBONE))
        self.fit(model.codec)
        return model

    def fit(self, codec: LinearCodec) -> LinearCodec:
        """A codec whose components, mean and deviations are all different."""
        basis, _ = torch.linalg.qr(waves(*codec.components.shape, pace=1.3).double())
        codec.components.copy_(basis * torch.sign(basis[0]))
        codec.mean.copy_(waves(len(codec.mean), size=0.3))
        codec.std.copy_(1.5 + waves(len(codec.std)))
        return codec

    def test_the_codec(self):
        codec = self.fit(LinearCodec(6, 2, frames_per_latent=4))
        pixels = Video(waves(1, 3, 9, 4, 6), 20.0)
        latents = codec.encode(pixels)
        assert_golden("codec encodes", latents.grid)
        assert_golden("codec encodes one frame", codec.encode(Video(pixels.grid[:, :, :1], 20.0)).grid)
        assert_golden("codec decodes", codec.decode(latents).grid)
        assert_golden("codec holds", codec.hold(latents.grid[:, :, 1]))
        assert (latents.fps, codec.decode(latents).fps, codec.encode(Video(pixels.grid[:, :, :1], 20.0)).fps) == (
            5.0,
            20.0,
            5.0,
        )

    @pytest.mark.parametrize("norm", ["none", "layer", "modulated"])
    def test_features_of_an_oblong_grid(self, backbone: TinyBackbone, norm):
        backbone.config = replace(self.BACKBONE, feature_norm=norm)
        features = backbone.features(Video(waves(2, 6, 3, 2, 4, pace=0.31), 5.0), ["push", "pull it"])
        assert_golden(f"features, {norm}", features.grid)
        assert features.fps == 5.0

    def test_the_flow_of_a_clip_with_a_past(self, backbone: TinyBackbone):
        level = torch.tensor([[0.0, 0.0, 0.6], [0.0, 0.3, 0.3], [0.9, 0.9, 0.9]])
        noisy = Video(waves(3, 6, 3, 2, 4, pace=0.31), 5.0)
        assert_golden("flow", backbone.velocity(noisy, level, instruction=["push", "pull", "lift"]).grid)

    def test_video_training_and_imagining(self, backbone: TinyBackbone):
        latents, text = Video(waves(4, 6, 4, 2, 3, pace=0.31), 5.0), ["push", "pull", "lift", "push"]
        with torch.no_grad():
            loss = diffusion_loss(backbone, latents, instruction=text, generator=seeded())
        assert_golden("loss of clips", loss[None])
        words = {"instruction": text, "num_steps": 3, "generator": seeded()}
        assert_golden("imagined", continue_video(backbone, latents, num_frames=2, **words).grid)

    def test_a_former_over_an_oblong_grid(self):
        former = filled(Former(FormerConfig(num_tokens=3, depth=2, num_heads=2), 24, token_dim=8))
        assert_golden("former", former(Video(2 * waves(2, 24, 2, 3, 4) + 1, 5.0)).data)


class TestSystem1:
    CONFIG = System1Config(hidden=16, depth=4, num_heads=2, text_dim=8, image_channels=8)

    def build(self, **changes) -> System1:
        config = replace(self.CONFIG, **changes)
        return filled(System1(config, ("front", "wrist"), state_dim=3, action_dim=2, horizon=4, fps=20.0))

    def project(self, system1: System1):
        visible = Visibility.full(2, CPU)
        images = {"front": waves(2, 3, 16, 24), "wrist": waves(2, 3, 24, 16, pace=0.5)}
        video = Tokens(waves(2, 3, 16, pace=0.9), torch.tensor([[True] * 3, [True, True, False]]))
        conditions = system1.gather(["push the block", "pull"], images, video=video, visible=visible)
        return system1.project(conditions, waves(2, 3), staleness=torch.tensor([0.05, 0.2]), visible=visible)

    def test_an_image_encoder(self):
        assert_golden("image encoder", filled(ImageEncoder(8, 6))(waves(2, 3, 16, 24)).data)
        heat = torch.zeros(1, 1, 3, 5)
        heat[0, 0, 2, 1] = 20.0  # the last row, the second column
        assert torch.allclose(key_points(heat), torch.tensor([[1.0, -0.5]]), atol=1e-5)

    @pytest.mark.parametrize("form", ["ours", "of a frequency"])
    def test_a_prediction(self, form: str):
        other = DitConfig("variance", "frequency", 8, "silu", pools_text=False, num_text_positions=20)
        system1 = self.build(dit=DitConfig() if form == "ours" else other, max_delay_steps=2)
        is_committed = torch.tensor([[True, False, False, False]])
        predicted = system1.dit(
            waves(4, 4, 2), torch.tensor([10.0, 250.0, 500.0, 999.0]), self.project(system1), is_committed
        )
        assert_golden(f"prediction, {form}", predicted)

    @pytest.mark.parametrize(
        "denoising",
        [
            DenoisingConfig(noise_draws=2),
            DenoisingConfig("flow_matching", "velocity", noise_shift=3.0, loss="smooth_l1"),
            DenoisingConfig("ddpm", "epsilon", num_steps=3),
            DenoisingConfig("ddpm", "sample", num_steps=4),
        ],
        ids=lambda d: f"{d.schedule} {d.prediction}",
    )
    def test_a_loss_and_a_sample(self, denoising: DenoisingConfig):
        system1, name = self.build(denoising=denoising), f"{denoising.schedule} {denoising.prediction}"
        is_pad = torch.tensor([[False] * 4, [False, False, True, True]])
        with torch.no_grad():
            conditions = self.project(system1)
            loss = system1.loss(waves(2, 4, 2), is_pad, conditions=conditions, generator=seeded())
            assert_golden(f"loss, {name}", loss[None])
            if denoising.prediction != "epsilon":  # of which the noisiest step makes thousands
                assert_golden(f"sample, {name}", system1.sample(conditions, waves(2, 4, 2, pace=1.1)))

    @pytest.mark.parametrize("guidance", [5.0, None])
    def test_a_plan_that_continues(self, guidance: float | None):
        system1 = self.build(max_delay_steps=2)
        with torch.no_grad():
            actions = system1.continue_sample(
                self.project(system1),
                waves(2, 4, 2, pace=1.1),
                committed=waves(2, 3, 2, pace=0.4),
                num_frozen=1,
                guidance=guidance,
            )
        assert_golden(f"continued, guidance {guidance}", actions)


def test_what_is_learned_begins_small(small_config: PolicyConfig, small_statistics: dict[str, Statistics]):
    """Embeddings and queries with a deviation of 0.02; heat maps six times as sharp as a plain softmax."""
    torch.manual_seed(0)
    policy = Video2Act(small_config, small_statistics)
    former = policy.slow.formers["motion"]
    dit, encoder = policy.system1.dit, policy.system1.image[0]  # type: ignore[index]
    embeddings = (
        policy.slow.stream_embedding,
        former.queries,
        dit.position,
        dit.image_type,
        dit.video_type,
        encoder.position,
    )
    for embedding in embeddings:
        assert isinstance(embedding, Tensor)
        assert embedding.std().item() == pytest.approx(0.02, rel=0.3)
    assert encoder.sharpness.item() == 6.0  # type: ignore[operator, union-attr]
    assert not policy.slow.backbone.latent_out.weight.any()  # type: ignore[union-attr]


class TestPolicy:
    """In raw units, from a picture to an action."""

    @pytest.fixture
    def policy(self, small_config: PolicyConfig, small_statistics: dict[str, Statistics]) -> Video2Act:
        spatial, motion = small_config.system2.streams  # type: ignore[union-attr]
        streams = (
            replace(spatial, width_px=24, channel_order="bgr"),
            replace(motion, width_px=24, stride=2, filter=FilterConfig("temporal_bandpass", then="sobel")),
        )
        config = replace(small_config, system2=replace(small_config.system2, streams=streams))  # type: ignore[type-var]
        policy = filled(Video2Act(config, small_statistics))
        policy.system2.backbone.codec.std.copy_(1.5 + waves(16))
        policy.system2.backbone.codec.components.copy_(
            torch.linalg.qr(waves(*policy.system2.backbone.codec.components.shape, pace=1.3).double())[0].abs()
        )
        return policy

    def clips(self, b: int) -> dict[str, Video]:
        return {
            "spatial": Video(waves(b, 3, 1, 16, 24), 20.0),
            "motion": Video(waves(b, 3, 9, 16, 24, pace=0.43), 10.0),
        }

    def test_what_system_2_sees_and_says(self, policy: Video2Act):
        for name, video in policy.explain(self.clips(2), ["push", "pull"]).items():
            assert_golden(f"seen, {name}", video.grid)
        assert_golden("tokens", policy.perceive(self.clips(2), ["push", "pull"]).data)

    def test_a_loss(self, policy: Video2Act):
        batch = Batch(
            self.clips(2),
            {"front": waves(2, 3, 16, 16), "wrist": waves(2, 3, 16, 16, pace=0.5)},
            torch.tensor([[1.2, -9.0, 3.0], [0.7, 2.2, 40.0]]),  # two numbers far outside the training data
            ["push", "pull"],
            waves(2, 4, 2),
            torch.tensor([[False] * 4, [False, False, False, True]]),
            torch.tensor([0.0, 0.15]),
            clip_instruction=("push", "lift"),
        )
        with torch.no_grad():
            assert_golden("loss of a batch", policy(batch, seeded(), state_noise=0.1)[None])

    @pytest.mark.parametrize("staleness", [0.0, 0.15])
    def test_an_action(self, policy: Video2Act, staleness: float):
        pictures = {
            camera: ((waves(20, 28, 3, pace=pace) + 1) * 127).to(torch.uint8).numpy()
            for camera, pace in (("front", 0.7), ("wrist", 0.5))
        }
        seen = Observation(pictures, np.array([1.2, -9.0, 3.0], np.float32), "push", 7.15)
        tokens = Tokens.all_visible(waves(1, 6, 32, pace=0.9))
        policy.seed(3)
        chunk = policy.act(seen, VideoCondition(tokens, 7.15 - staleness, 0, 1))
        assert_golden(f"action, condition of {staleness} s", torch.from_numpy(chunk.actions))


def assert_golden(name: str, found: Tensor) -> None:
    """Compare eight numbers, spread over the output, and their total."""
    flat = found.detach().double().flatten()
    chosen = flat[torch.linspace(0, len(flat) - 1, min(8, len(flat))).long()]
    numbers = [*chosen.tolist(), float((flat * torch.cos(torch.arange(len(flat)))).sum())]
    assert numbers == pytest.approx(GOLDEN[name], rel=1e-3, abs=1e-4), name


GOLDEN: dict[str, list[float]] = {
    "self_attention": [-1.62712, 1.95347, 4.00565, -2.06192, -4.76419, 2.44063, 5.26040, -3.09168, 1.45073],
    "self_attention of variance": [2.55179, -2.34252, 4.66209, -2.01180, -3.33844, 4.61282, 5.71408, -2.61965, 0.80634],
    "cross_attention": [-0.98427, -2.27236, -1.25430, -1.00939, 0.25225, 0.17146, -0.31042, -0.10518, -2.58456],
    "rms": [0.26126, 0.78964, 0.67514, 0.04150, 0.47444, 1.43397, 1.22605, -1.08273, -0.48556],
    "variance": [0.26879, 0.81240, 0.69460, 0.04270, 0.52464, 1.58569, 1.35577, -1.19729, -0.49224],
    "mlp gelu": [1.87714, 1.81287, -0.34832, 6.61900, 5.14082, -4.50779, -8.19012],
    "mlp silu": [1.73097, 1.66564, -0.22791, 6.53972, 5.11278, -4.43342, -8.34803],
    "adaptor of 3": [3.53359, -2.77128, 3.99798, -1.18426, 6.11951, -5.34711, 5.83489, -1.76251, 0.30190],
    "grid 2 x 3 x 5": [1.00000, 0.00000, -0.64001, 0.55143, 0.99500, -0.76837, 0.99318, 0.96875, -3.28719],
    "codec encodes": [-0.40891, -0.10908, -0.23299, -0.06460, -0.15633, 0.13070, -0.15561, -0.94763, -0.08634],
    "codec encodes one frame": [-0.40891, -0.01230, -1.41826, -0.47062, -0.12793, 0.33432, 0.82061, 0.63643, 3.83207],
    "codec decodes": [0.75474, 0.29358, 0.08772, 0.07051, -0.42003, -0.07967, -0.30394, 0.19856, -4.53144],
    "codec holds": [0.29205, 0.13868, 0.21127, -0.09752, 0.24065, -0.11001, 0.47500, -0.05361, -0.48823],
    "features, none": [5.25353, -4.75325, 1.83840, 1.00449, 1.35668, 2.42127, -0.67866, 0.37549, -23.16050],
    "features, layer": [1.01207, -0.61604, 0.09302, -0.30633, 0.23184, 0.99148, 0.46152, 0.93260, -0.39351],
    "features, modulated": [4.25392, 1.11449, -0.18473, -1.16301, 1.88733, 0.93855, -0.79965, -0.76422, -1.18727],
    "flow": [0.00000, 0.00000, 0.00000, -3.22691, 0.00000, -0.67884, 4.03323, -0.49980, -3.35406],
    "loss of clips": [2.39874, 2.39874],
    "imagined": [0.29552, 0.84380, 1.82209, 0.86733, 4.56483, 0.70704, -0.86840, 0.50668, -2.61794],
    "former": [1.62194, -1.38623, 0.16520, -0.23844, 1.96205, 0.73983, 0.85681, -1.17165, 1.46964],
    "image encoder": [1.35249, -1.13499, -0.21638, -0.59330, 0.90211, 1.89797, 0.61349, -1.41355, 13.15760],
    "prediction, ours": [0.82803, 1.01905, 0.84186, 0.74221, 0.56754, 0.99287, 0.96600, 0.68539, 0.35878],
    "prediction, of a frequency": [0.75244, 0.81960, 0.79411, 0.66817, 0.65890, 0.93402, 0.81504, 0.64217, 0.48570],
    "loss, flow_matching sample": [0.94242, 0.94242],
    "sample, flow_matching sample": [0.89692, 0.90718, 0.93827, 0.93200, 0.90803, 0.93363, 0.92771, 0.73100, 0.73826],
    "loss, flow_matching velocity": [1.39926, 1.39926],
    "sample, flow_matching velocity": [
        -0.66528,
        -0.37551,
        -2.13540,
        -0.40073,
        -0.69666,
        -2.05171,
        -0.15746,
        -1.47531,
        5.55082,
    ],
    "loss, ddpm epsilon": [2.08609, 2.08609],
    "loss, ddpm sample": [1.05488, 1.05488],
    "sample, ddpm sample": [0.88896, 0.89485, 0.94276, 0.92023, 0.89892, 0.93708, 0.91378, 0.72926, 0.73690],
    "continued, guidance 5.0": [0.29552, 0.84169, 0.82856, 0.81980, 0.42738, 0.99147, 0.91860, 0.71633, 0.62291],
    "continued, guidance None": [0.29552, 0.84220, 0.82917, 0.81980, 0.42738, 0.98615, 0.91795, 0.71662, 0.63455],
    "seen, spatial": [1.98115, 2.74858, 2.06056, 0.81284, 1.16012, 0.57245, 3.81654, 5.62584, 1.11289],
    "seen, motion": [2.32482, 3.50756, 1.65541, 0.40208, 1.46152, 3.75124, 1.40557, 1.47083, -1.97833],
    "tokens": [-0.10760, -0.84891, 0.77687, 1.52373, 0.63959, -0.34600, 0.08955, 0.67520, 10.31072],
    "loss of a batch": [2.29896, 2.29896],
    "action, condition of 0.0 s": [2.84908, -0.20381, 2.74307, -0.15468, 2.53516, -0.11596, 3.14524, -0.23798, 2.90114],
    "action, condition of 0.15 s": [
        2.85786,
        -0.20509,
        2.75223,
        -0.15553,
        2.54190,
        -0.11645,
        3.14910,
        -0.23856,
        2.90498,
    ],
    "rotated": [-8.65412, 12.96444, -14.67875, -1.25125, -3.61539, -10.25337, 12.45070, 0.50782, 0.39829],
}
