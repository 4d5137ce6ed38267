"""One rule for a frame's size: what it does, what it refuses, and that it says so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import transformers
from PIL import Image

from video2act.config import FrameConfig, PolicyConfig, to_json
from video2act.files.run_folder import load_config
from video2act.frames import GREY, check_frames, describe_fit, fit_frames, frame_problems
from video2act.presets import RELEASED_FRAMES, SIGLIP_FRAMES

LETTERBOX, CROP, STRETCH = FrameConfig("letterbox"), FrameConfig("crop"), FrameConfig("stretch")


class TestAveraging:
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)

    def fit(self, height: int, width: int) -> np.ndarray:
        return fit_frames(self.images, (height, width), rule=LETTERBOX)

    @pytest.mark.parametrize("size", [12, 8, 6, 1])
    def test_it_is_the_mean_of_each_block(self, size: int):
        k = 24 // size
        mean = self.images.reshape(3, size, k, size, k, 3).astype(float).mean(axis=(2, 4))
        assert np.abs(self.fit(size, size) - mean).max() <= 0.5

    def test_it_does_not_drift_brighter_or_darker(self):
        mean = self.images.reshape(3, 12, 2, 12, 2, 3).astype(float).mean(axis=(2, 4))
        assert abs((self.fit(12, 12) - mean).mean()) < 0.15

    def test_white_stays_white_and_sizes_that_do_not_divide_work(self):
        white = np.full((1, 24, 24, 3), 255, np.uint8)
        for size in (24, 12, 10, 7):
            assert (fit_frames(white, (size, size), rule=LETTERBOX) == 255).all()
        # 10 px out of 24: cells overlap, as in torch's adaptive pooling
        small = self.fit(10, 10)
        assert small.shape == (3, 10, 10, 3)
        assert abs(small[:, 0, 0].astype(float) - self.images[:, :3, :3].mean(axis=(1, 2))).max() <= 0.5

    def test_the_same_size_changes_nothing(self):
        assert np.array_equal(self.fit(24, 24), self.images)


class TestFit:
    frames = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)

    def test_letterbox_keeps_the_picture_between_grey_bars(self):
        square = fit_frames(self.frames, (16, 16), rule=SIGLIP_FRAMES)
        assert np.array_equal(square[:, 2:14], self.frames)
        assert (square[:, :2] == GREY).all()
        assert (square[:, 14:] == GREY).all()
        upright = fit_frames(self.frames.swapaxes(1, 2), (16, 16), rule=SIGLIP_FRAMES)
        assert np.array_equal(upright, square.swapaxes(1, 2))

    def test_oblong_frames_are_averaged_down_between_the_same_bars(self):
        small = fit_frames(self.frames, (8, 8), rule=LETTERBOX)
        assert (small[:, 0] == GREY).all()
        assert (small[:, 7] == GREY).all()
        inner = self.frames.astype(int).reshape(2, 6, 2, 8, 2, 3).sum(axis=(2, 4))
        assert np.array_equal(small[:, 1:7], (inner + 2) // 4)

    def test_an_odd_remainder_goes_below(self):
        square = fit_frames(self.frames[:, :11], (16, 16), rule=LETTERBOX)
        assert np.array_equal(square[:, 2:13], self.frames[:, :11])

    def test_crop_keeps_the_centre(self):
        assert np.array_equal(fit_frames(self.frames, (12, 12), rule=CROP), self.frames[:, :, 2:14])
        middle = self.frames[:, :, 2:14].astype(int).reshape(2, 6, 2, 6, 2, 3).sum(axis=(2, 4))
        assert np.array_equal(fit_frames(self.frames, (6, 6), rule=CROP), (middle + 2) // 4)

    def test_stretch_averages_rows_and_columns_by_different_factors(self):
        blocks = self.frames.astype(float).reshape(2, 4, 3, 8, 2, 3).mean(axis=(2, 4))
        assert np.abs(fit_frames(self.frames, (4, 8), rule=STRETCH) - blocks).max() <= 0.5

    @pytest.mark.parametrize("size", [(6, 8), (9, 12)])
    def test_a_target_of_the_same_shape_needs_no_bars(self, size: tuple[int, int]):
        for rule in (LETTERBOX, CROP, STRETCH):
            fitted = fit_frames(self.frames, size, rule=rule)
            assert np.array_equal(fitted, fit_frames(self.frames, size, rule=STRETCH))

    def test_an_oblong_target_gets_bars_where_it_is_longer(self):
        wide = fit_frames(self.frames, (12, 20), rule=LETTERBOX)
        assert np.array_equal(wide[:, :, 2:18], self.frames)
        assert (wide[:, :, :2] == GREY).all()

    def test_it_is_what_siglips_processor_does_to_a_square(self):
        # since transformers 5, the name without Pil needs torchvision
        make = getattr(transformers, "SiglipImageProcessorPil", transformers.SiglipImageProcessor)
        processor = make(size={"height": 24, "width": 24})
        square = Image.fromarray(fit_frames(self.frames, (16, 16), rule=SIGLIP_FRAMES)[0])
        expected = processor(square, return_tensors="np")["pixel_values"][0]
        ours = fit_frames(self.frames[:1], (24, 24), rule=SIGLIP_FRAMES)[0].astype(np.float32) / 127.5 - 1
        assert np.allclose(ours.transpose(2, 0, 1), expected, atol=1e-6)

    @pytest.mark.parametrize("resample", ["area", "bicubic", "lanczos"])
    def test_every_kernel_takes_any_shape_to_any_shape(self, resample):
        for fit in ("letterbox", "crop", "stretch"):
            rule = FrameConfig(fit, resample, max_enlargement=0.0)
            for size in ((30, 52), (9, 7), (5, 40), (12, 16)):
                assert fit_frames(self.frames, size, rule=rule).shape == (2, *size, 3)
        flat = np.full_like(self.frames, 77)
        assert (fit_frames(flat, (9, 7), rule=FrameConfig("stretch", resample, max_enlargement=0.0)) == 77).all()


class TestEnlarging:
    frames = np.zeros((1, 24, 32, 3), np.uint8)

    def test_it_is_refused_with_sizes_and_factor(self):
        with pytest.raises(ValueError, match=r"32x24 are too small for 40x40: letterbox would enlarge them 1.25 times"):
            fit_frames(self.frames, (40, 40), rule=LETTERBOX)

    def test_a_crop_needs_the_shorter_side(self):
        assert fit_frames(self.frames, (32, 32), rule=LETTERBOX).shape == (1, 32, 32, 3)
        for rule in (CROP, STRETCH):
            with pytest.raises(ValueError, match=r"would enlarge them 1.33 times, and max_enlargement is 1"):
                fit_frames(self.frames, (32, 32), rule=rule)

    def test_it_is_allowed_up_to_the_factor(self):
        rule = replace(LETTERBOX, max_enlargement=1.5)
        assert fit_frames(self.frames, (48, 48), rule=rule).shape == (1, 48, 48, 3)
        with pytest.raises(ValueError, match=r"enlarge them 1.53 times, and max_enlargement is 1.5"):
            fit_frames(self.frames, (49, 49), rule=rule)

    def test_a_policy_names_every_camera_its_reader_and_the_remedy(self, small_config: PolicyConfig):
        problems = frame_problems(small_config, {"front": (12, 8), "wrist": (16, 9)})
        assert len(problems) == 3  # two streams and System 1 read the front camera; the wrist's longer side is enough
        assert problems[0].startswith("camera 'front', stream 'spatial': frames of 8x12 are too small for 16x16")
        assert "lower --policy.system2.streams.spatial.size-px" in problems[0]
        assert problems[2].endswith("lower --policy.image-px, or allow it with --policy.image.max-enlargement 1.34")
        allowed = {"system2.streams.spatial.frame", "system2.streams.motion.frame", "image"}
        with pytest.raises(ValueError, match="camera 'front', System 1"):
            check_frames(small_config, {"front": (12, 8)})
        config = small_config.replace({f"{path}.max_enlargement": 1.34 for path in allowed})
        check_frames(config, {"front": (12, 8), "wrist": (16, 9)})


@pytest.mark.parametrize(
    ("recorded", "size", "rule", "text"),
    [
        ((480, 640), (256, 256), LETTERBOX, "letterbox 640x480 -> 256x192 in 256x256"),
        ((640, 480), (64, 64), LETTERBOX, "letterbox 480x640 -> 48x64 in 64x64"),
        (
            (240, 320),
            (480, 480),
            replace(LETTERBOX, max_enlargement=2.0),
            "320x240 -> 480x360 in 480x480, enlarged 1",
        ),
        ((480, 640), (256, 256), CROP, "crop 640x480 -> 480x480 -> 256x256"),
        ((480, 640), (256, 256), STRETCH, "stretch 640x480 -> 256x256"),
        ((128, 128), (64, 64), STRETCH, "reduce 128x128 -> 64x64"),
        ((480, 640), (240, 320), LETTERBOX, "reduce 640x480 -> 320x240"),
        ((64, 64), (64, 64), CROP, "64x64 as recorded"),
    ],
)
def test_what_is_done_is_said_in_one_line(recorded, size, rule, text):
    assert text in describe_fit(recorded, size, rule=rule)


def test_older_run_folders_keep_what_they_did_with_frames(tmp_path: Path, small_config: PolicyConfig):
    fields = json.loads(to_json(small_config))
    del fields["image"]
    fields["image_fit"] = "pad"
    for stream, word in zip(fields["system2"]["streams"], ("area", "lanczos"), strict=True):
        del stream["frame"]
        stream["resize"] = word
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = load_config(tmp_path)
    assert config.image == SIGLIP_FRAMES
    assert config.system2 is not None
    assert [stream.frame for stream in config.system2.streams] == [LETTERBOX, RELEASED_FRAMES]
