"""The grey clip that is subtracted: as long, large and fast as the stream, per instruction, while weights stay."""

from dataclasses import replace

import pytest
import torch

from video2act.config import BackboneConfig, FilterConfig, FormerConfig, PolicyConfig, StreamConfig, TuningConfig
from video2act.system2 import System2
from video2act.system2 import reference as module
from video2act.system2.backbones import TinyBackbone
from video2act.system2.reference import GreyReference
from video2act.types import Video

STREAM = StreamConfig("s", "top", 9, 2, 16, FilterConfig("sobel"), FormerConfig(), width_px=24)


class Counting(TinyBackbone):
    """Remembers the pixels it was given, and how many clips it looked at."""

    def __init__(self, config: BackboneConfig):
        super().__init__(config)
        for parameter in self.parameters():  # layers that begin at zero would ignore the text
            torch.nn.init.normal_(parameter, std=0.2)
        self.pixels: list[Video] = []
        self.texts: list[str] = []

    def encode(self, pixels: Video) -> Video:
        self.pixels.append(pixels)
        return super().encode(pixels)

    def features(self, latents: Video, instruction: list[str]) -> Video:
        self.texts += instruction
        return super().features(latents, instruction)


@pytest.fixture
def backbone(small_backbone: BackboneConfig) -> Counting:
    torch.manual_seed(0)
    return Counting(small_backbone)


def test_it_is_a_grey_clip_of_the_streams_size_length_and_rate(backbone: Counting):
    """Features of 2.5 Hz are made of frames of 10 Hz, 4 for each."""
    found = GreyReference(backbone).features(STREAM, ["push"], fps=2.5, keep=True)
    (pixels,) = backbone.pixels
    assert pixels.grid.shape == (1, 3, 9, 16, 24)
    assert not pixels.grid.any()
    assert pixels.fps == 10.0
    expected = backbone.features(backbone.encode(Video(torch.zeros(1, 3, 9, 16, 24), 10.0)), ["push"]).grid
    assert torch.allclose(found, expected, atol=1e-6)


def test_of_chosen_and_resized_latents_too(backbone: Counting):
    stream = replace(STREAM, latent_frames=(0, 2), latent_size=(4, 6))
    found = GreyReference(backbone).features(stream, ["push"], fps=1.25, keep=True)
    assert found.shape[2:] == (2, 4, 6)
    assert backbone.pixels[0].fps == 10.0


def test_each_instruction_has_its_own_in_the_order_of_the_batch(backbone: Counting):
    reference = GreyReference(backbone)
    alone = {text: reference.features(STREAM, [text], fps=2.5, keep=False)[0] for text in ("push", "pull", "lift")}
    asked = ["pull", "push", "pull", "lift"]
    for keep in (False, True, True):
        found = reference.features(STREAM, asked, fps=2.5, keep=keep)
        for item, text in zip(found, asked, strict=True):
            assert torch.allclose(item, alone[text], atol=1e-5)
    assert (alone["push"] - alone["pull"]).abs().max() > 1e-3


def test_it_is_computed_once_for_stream_instruction_and_rate(backbone: Counting):
    reference, other = GreyReference(backbone), replace(STREAM, size_px=24)
    for _ in range(2):
        for stream, fps in ((STREAM, 2.5), (other, 2.5), (STREAM, 5.0)):
            for texts in (["push"], ["push", "pull"]):
                reference.features(stream, texts, fps=fps, keep=True)
    assert sorted(backbone.texts) == ["pull"] * 3 + ["push"] * 3


def test_each_precision_has_its_own(backbone: Counting):
    """An export was refused after acting in bfloat16: its check in full precision read what bfloat16 had left."""
    reference = GreyReference(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = reference.features(STREAM, ["push"], fps=2.5, keep=True)
    exact = reference.features(STREAM, ["push"], fps=2.5, keep=True)
    assert torch.equal(exact, GreyReference(backbone).features(STREAM, ["push"], fps=2.5, keep=False))
    assert not torch.equal(coarse.float(), exact)


def test_while_weights_are_trained_it_is_computed_each_time(backbone: Counting):
    reference = GreyReference(backbone)
    for _ in range(3):
        reference.features(STREAM, ["push"], fps=2.5, keep=False)
    assert backbone.texts == ["push"] * 3
    reference.features(STREAM, ["push"], fps=2.5, keep=True)
    for changed in (backbone.latent_in.bias, backbone.modulation.bias, backbone.text_in.bias):
        before = reference.features(STREAM, ["push"], fps=2.5, keep=True)
        with torch.no_grad():
            changed.add_(0.1)
        assert not torch.equal(reference.features(STREAM, ["push"], fps=2.5, keep=True), before)


def test_what_was_used_least_recently_goes_first(backbone: Counting, monkeypatch: pytest.MonkeyPatch):
    reference = GreyReference(backbone)
    size = reference.features(STREAM, ["push"], fps=2.5, keep=True).nbytes
    monkeypatch.setattr(module, "MAX_BYTES", 2 * size)
    for texts in (["pull"], ["push"], ["lift"], ["push"]):
        reference.features(STREAM, texts, fps=2.5, keep=True)
    assert backbone.texts == ["push", "pull", "lift"], "push was kept: it had been used again"
    reference.features(STREAM, ["pull"], fps=2.5, keep=True)
    assert backbone.texts[3:] == ["pull"]


@pytest.mark.parametrize("method", ["frozen", "full"])
def test_it_is_kept_unless_the_video_model_learns(
    small_config: PolicyConfig, method: str, monkeypatch: pytest.MonkeyPatch
):
    config = replace(small_config.system2, tuning=TuningConfig(method))  # type: ignore[type-var, arg-type]
    system2 = System2(config, TinyBackbone(config.backbone), token_dim=32)
    system2.learn()
    kept, features = [], system2.reference.features
    monkeypatch.setattr(
        system2.reference, "features", lambda *a, **words: (kept.append(words["keep"]), features(*a, **words))[1]
    )
    frames = {"spatial": 1, "motion": 9}
    system2.see({name: Video(torch.zeros(1, 3, t, 16, 16), 20.0) for name, t in frames.items()}, ["push"])
    assert kept == [method == "frozen"] * 2
