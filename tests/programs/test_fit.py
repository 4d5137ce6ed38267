"""Cameras as people have them, 640x480 and 320x240: every preset, every program, the same pixels."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import video2act.frames
from trainings import fill_cache, train, train_video
from video2act.clips import FrameHistory
from video2act.config import BackboneConfig, FrameConfig, PolicyConfig, TrainConfig, VideoTrainConfig
from video2act.config.training_options import TrainOptions
from video2act.data import DatasetWriter, Episode, FrameStore, LeRobotDataset, open_dataset
from video2act.data.batches import BatchLoader, episode_clips
from video2act.data.fit import check_fit
from video2act.evaluation.suitability import check_fits
from video2act.interfaces import EnvironmentSpec
from video2act.observations import read_image
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec, make_preset
from video2act.programs.info.dataset import describe_dataset
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract
from video2act.training.choice import choose_policy
from video2act.types import Observation, VideoCondition

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

TRAINING = TrainConfig(num_steps=2, batch_size=2, warmup_steps=1, save_every=2)
VIDEO = VideoTrainConfig(num_steps=2, batch_size=2, num_frames=9, sizes_px=(16, 32))


def record(root: Path, sizes: dict[str, tuple[int, int]], num_episodes: int = 2, length: int = 10) -> Path:
    """Noise that a codec cannot smooth away, in cameras of these sizes (height, width)."""
    writer = DatasetWriter.create(
        root,
        fps=20.0,
        robot="arm",
        cameras=tuple(sizes),
        image_size=sizes,
        state_names=("x", "y", "grip"),
        action_names=("dx", "dy"),
    )
    rng = np.random.default_rng(0)
    with writer:
        for number in range(num_episodes):
            frames = {
                camera: np.repeat(rng.integers(0, 256, (length, h // 8, w // 8, 3), dtype=np.uint8), 8, axis=1).repeat(
                    8, axis=2
                )
                for camera, (h, w) in sizes.items()
            }
            numbers = rng.normal(size=(length, 3)).astype(np.float32)
            writer.add_episode(Episode(frames, numbers, numbers[:, :2], "push", seed=number))
    return root


@pytest.fixture(scope="module")
def oblong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two commonest cameras, of different sizes in one dataset."""
    return record(tmp_path_factory.mktemp("oblong") / "set", {"front": (480, 640), "wrist": (240, 320)})


@pytest.fixture(scope="module")
def low(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smaller than the small presets' frames."""
    return record(tmp_path_factory.mktemp("low") / "set", {"front": (24, 32)})


class TestEveryPreset:
    @pytest.mark.parametrize("camera", ["front", "wrist"])
    @pytest.mark.parametrize("name", PRESETS)
    def test_it_fits_the_commonest_cameras(self, oblong: Path, name: str, camera: str):
        dataset = open_dataset(oblong)
        check_fit(make_preset(name, dataset, (camera,)), dataset)

    def test_info_lists_each_with_what_it_does(self, oblong: Path):
        text = describe_dataset(oblong)
        assert set(PRESETS) <= set(text.replace(",", " ").split())
        for line in (
            "front: letterbox 640x480 -> 64x48 in 64x64 (spatial, motion, System 1)",
            "wrist: letterbox 320x240 -> 64x48 in 64x64 (System 1)",
            "front: letterbox 640x480 -> 480x360 in 480x480 (spatial)",
            "wrist: letterbox 320x240 -> 384x288 in 384x384, enlarged 1.2 times (System 1)",
            "front: stretch 640x480 -> 832x480, enlarged 1.3 times (spatial)",
        ):
            assert line in text

    def test_info_and_training_name_the_same_that_do_not_fit(self, low: Path):
        dataset, text = open_dataset(low), " ".join(describe_dataset(low).split())
        for name in PRESETS:
            policy = make_preset(name, dataset)
            if name in ("tiny_blind", "rdt_1b", "official"):
                check_fit(policy, dataset)
                continue
            with pytest.raises(ValueError, match=r"camera 'front', .* frames of 32x24 are too small for"):
                check_fit(policy, dataset)
        assert "front: does not fit stream 'spatial': frames of 32x24 are too small for 64x64" in text


class TestOnePath:
    """Training, cache, robot and plugin see the same pixels, bit by bit."""

    rules = (FrameConfig("letterbox"), FrameConfig("crop"), FrameConfig("stretch"), FrameConfig("crop", "lanczos"))

    @pytest.mark.parametrize("rule", rules, ids=lambda rule: f"{rule.fit} {rule.resample}")
    def test_the_same_frame_gives_the_same_pixels(self, oblong: Path, small_config: PolicyConfig, rule: FrameConfig):
        dataset = LeRobotDataset(oblong)
        paths = ("image", "system2.streams.spatial.frame", "system2.streams.motion.frame")
        config = small_config.replace(dict.fromkeys(paths, rule))
        assert config.system2 is not None
        store = FrameStore(dataset)
        batch = BatchLoader(dataset, store, config=config, batch_size=4, seed=0)
        places = batch.places(0)
        loaded = BatchLoader(dataset, store, config=replace(config, max_staleness_steps=0), batch_size=4, seed=0)[0]
        raw = {camera: dataset.frames(0, camera) for camera in ("front", "wrist")}
        robot = FrameHistory(config.system2.streams)
        for step in range(dataset.lengths[0]):
            images = {camera: frames[step] for camera, frames in raw.items()}
            seen = Observation(images, np.zeros(3, np.float32), "push", step / 20)
            robot.append(seen)
            for i, place in enumerate(places):
                if place != (0, step):
                    continue
                for name, clip in robot.clips(20.0).items():
                    assert torch.equal(clip.grid[0], loaded.videos[name].grid[i])
                for camera in ("front", "wrist"):
                    image = read_image(seen, camera, config=config, device=torch.device("cpu"))
                    assert torch.equal(image[0], loaded.images[camera][i])
        assert {episode for episode, _ in places} >= {0}
        # the cache reads by episode_clips, as the loader does
        for stream in config.system2.streams:
            cached = episode_clips(store, stream, places=places, control_fps=20.0)
            assert torch.equal(cached.grid, loaded.videos[stream.name].grid)

    def test_there_is_one_function(self):
        """Whoever resizes otherwise shows the network other pixels; `viz` draws for people."""
        root = Path(video2act.frames.__file__).parent
        plugin = Path(__file__).parents[2] / "lerobot_policy_video2act" / "src"
        assert plugin.is_dir()
        files = [*root.rglob("*.py"), *plugin.rglob("*.py")]
        resizing = {file.name for file in files if ".resize(" in file.read_text()}
        assert resizing == {"frames.py", "pictures.py"}


class TestTraining:
    def test_a_small_policy_learns_from_cameras_of_two_sizes(
        self,
        oblong: Path,
        small_backbone: BackboneConfig,
        small_preset: Callable[[DataSpec], PolicyConfig],
        capsys: pytest.CaptureFixture[str],
        tmp_path: Path,
    ):
        train_video((oblong,), tmp_path / "video", config=VIDEO, backbone=small_backbone)
        fit = {"system2.streams.motion.frame.fit": "crop", "image.fit": "stretch"}
        policy = train(
            (oblong,),
            tmp_path / "run",
            config=TRAINING,
            preset="small",
            changes=fit,
            video_model=tmp_path / "video",
        )
        # only the stream that does otherwise than train-video did is named
        printed = capsys.readouterr().out
        expected = "note: stream 'motion' shows the video model frames that it did not learn from: crop 640x480"
        assert printed.count("note: stream") == printed.count(expected) == 1
        images = {"front": np.zeros((480, 640, 3), np.uint8), "wrist": np.zeros((240, 320, 3), np.uint8)}
        observation = Observation(images, np.zeros(3, np.float32), "push", 0.0)
        loaded = Video2Act.load(tmp_path / "run")
        assert loaded.config == policy.config
        assert loaded.config.image.fit == "stretch"
        tokens = loaded._no_tokens(1)
        assert np.isfinite(loaded.act(observation, VideoCondition(tokens, 0.0, 0)).actions).all()
        filled = fill_cache((oblong,), tmp_path / "cache", preset="small", video_model=tmp_path / "video")
        assert filled.num_frames == 20
        assert "note: stream" not in capsys.readouterr().out

    def test_one_word_changes_every_stream_and_image(self, oblong: Path):
        data = open_dataset(oblong)
        policy = choose_policy(TrainOptions(data=(oblong,), out=oblong, preset="tiny", fit="crop"), data)
        assert policy.system2 is not None
        assert {policy.image.fit, *(stream.frame.fit for stream in policy.system2.streams)} == {"crop"}

    @pytest.mark.parametrize("verb", ["train", "train_video", "cache"])
    def test_frames_that_are_too_small_are_refused_before_any_work(
        self, low: Path, small_backbone: BackboneConfig, tmp_path: Path, verb: str
    ):
        out = tmp_path / "out"
        model = tmp_path / "absent"
        video = replace(VIDEO, sizes_px=(16, 64))
        run = {
            "train": lambda: train((low,), out, config=TRAINING, preset="tiny", video_model=model),
            "train_video": lambda: train_video((low,), out, config=video, backbone=small_backbone),
            "cache": lambda: fill_cache((low,), out, preset="tiny", video_model=model),
        }[verb]
        with pytest.raises(ValueError, match=r"camera 'front'.*frames of 32x24 are too small for 64x64"):
            run()
        assert not out.exists()


class TestActing:
    """What training refuses, the robot, the server and an evaluation refuse."""

    image = np.zeros((9, 12, 3), np.uint8)

    def test_the_robot(self, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]):
        images = {"front": self.image, "wrist": self.image}
        observation = Observation(images, np.zeros(3, np.float32), "push", 0.0)
        assert small_config.system2 is not None
        with pytest.raises(ValueError, match="camera 'front', stream 'spatial': frames of 12x9 are too small"):
            FrameHistory(small_config.system2.streams).append(observation)
        policy = make_policy(small_config)
        with pytest.raises(ValueError, match="camera 'front', System 1: frames of 12x9"):
            policy.act(observation, VideoCondition(policy._no_tokens(1), 0.0, 0))

    def test_the_server(self, small_config: PolicyConfig):
        contract = Contract.from_metadata(Contract.of(small_config, "policy").to_metadata())
        with pytest.raises(MessageError, match="camera 'wrist', System 1: frames of 12x9 are too small for 16x16"):
            contract.image_rules["wrist"].check("wrist", 9, width=12)
        contract.image_rules["wrist"].check("wrist", 9, width=16)

    def test_an_evaluation(self, small_config: PolicyConfig):
        spec = EnvironmentSpec("toy:x", "arm", "push", ("front", "wrist"), 12, ("a",) * 3, ("b",) * 2, 20.0, 10)
        with pytest.raises(ValueError, match="camera 'wrist', System 1: frames of 12x12 are too small for 16x16"):
            check_fits(small_config, spec)
