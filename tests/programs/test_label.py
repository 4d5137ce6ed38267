"""`label` as it is run: what it writes, what it says of it, what it refuses, and that it goes on."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from trainings import train
from video2act.config import InverseTrainConfig, PolicyConfig, TrainConfig
from video2act.config.training_options import LabelOptions
from video2act.data import DatasetWriter, Episode, LeRobotDataset, load_origin, open_datasets
from video2act.data.labels import load_labels
from video2act.data.origin import ORIGIN_PATH
from video2act.files.lock import FolderLock, InUseError
from video2act.policy import Video2Act
from video2act.presets import PRESETS
from video2act.programs import info
from video2act.programs.label import label, main
from video2act.training.inverse_dynamics import MomentReader
from video2act.training.labelling import split_by_seed

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

CONFIG = InverseTrainConfig(
    num_steps=3, batch_size=8, warmup_steps=1, context=1, stride=1, image_px=32, image_shift_px=0, channels=8
)
ENVIRONMENT = "metaworld:push-v3"


def write(
    root: Path,
    numbers: Sequence[int],
    *,
    has_action: bool = True,
    cameras: tuple[str, ...] = ("front",),
    actions: tuple[str, ...] = ("dx", "dy"),
    length: int = 12,
    **options: Any,
) -> Path:
    """A bright square that each action moves by up to six pixels."""
    described: dict[str, Any] = {"fps": 20.0, "robot": "arm", "image_size": 32, "state_names": ("x", "y")} | options
    names = actions if has_action else ()
    origin = {"environment": ENVIRONMENT, "videos_only": not has_action}
    origin |= {} if has_action else {"visual_shift": "colours"}
    writer = DatasetWriter.create(root, cameras=cameras, action_names=names, origin=origin, **described)
    side = described["image_size"]
    with writer:
        for number in numbers:
            action = np.random.default_rng(number).uniform(-1, 1, (length, 2)).astype(np.float32)
            place = np.full((length, 2), 16.0)
            for t in range(length - 1):
                place[t + 1] = np.clip(place[t] + 6 * action[t], 4, 28)
            frames = np.full((length, side, side, 3), 30, np.uint8)
            for t, (x, y) in enumerate(place.astype(int)):
                frames[t, y - 4 : y + 4, x - 4 : x + 4] = 220
            state = place.astype(np.float32)[:, : len(described["state_names"])]
            recorded = action if has_action else None
            sentences: dict[str, Any] = {"seen": ("shove",), "unseen": ("nudge",)}
            writer.add_episode(Episode(dict.fromkeys(cameras, frames), state, recorded, "push", number, **sentences))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "push", range(6))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "videos", range(10, 13), has_action=False)


@pytest.fixture(scope="module")
def labelled(data: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels") / "labelled"
    run(data, videos, out)
    return out


def run(data: Path, videos: Path, out: Path, *, config: InverseTrainConfig = CONFIG, **options: Any) -> Any:
    return label(open_datasets([data]), open_datasets([videos]), out=out, training=config, **options)


class TestLabels:
    def test_the_videos_are_there_with_actions_and_say_that_these_are_labels(
        self, labelled: Path, videos: Path, data: Path
    ):
        found, before = LeRobotDataset(labelled), LeRobotDataset(videos)
        assert found.lengths == before.lengths
        assert found.info.action_names == LeRobotDataset(data).info.action_names
        for i, (entry, old) in enumerate(zip(found.entries, before.entries, strict=True)):
            assert (entry.seed, entry.seen, entry.unseen) == (old.seed, old.seen, old.unseen)
            assert np.array_equal(found.episode(i).state, before.episode(i).state)
            assert found.episode(i).instruction == before.episode(i).instruction
            assert found.frames(i, "front").shape == before.frames(i, "front").shape
        recorded = np.concatenate([LeRobotDataset(data).episode(i).actions for i in range(6)])
        labels = np.concatenate([found.episode(i).actions for i in range(3)])
        assert (labels >= recorded.min(axis=0)).all()
        assert (labels <= recorded.max(axis=0)).all()
        assert load_origin(labelled)["environment"] == ENVIRONMENT  # an evaluation refuses the same scenes
        assert load_origin(labelled)["visual_shift"] == "colours"

    def test_the_error_and_the_baselines_are_recorded_and_shown(self, labelled: Path):
        labels = load_labels(labelled)
        assert labels is not None
        assert (labels.episodes, labels.num_recorded, labels.num_held_out) == ((0, 1, 2), 5, 1)
        assert [error.name for error in labels.errors] == ["dx", "dy"]
        for error in labels.errors:
            assert error.raw / error.normalised == pytest.approx(error.mean_raw / error.mean_normalised)
        assert labels.mean_error == pytest.approx(1, abs=0.4)
        shown = " ".join(info.describe(labelled).split())
        assert "the actions of 3 episodes are labels of an inverse-dynamics model, not recorded" in shown
        assert f"{labels.error:.2f} deviations" in shown
        assert "nothing is wrong" in info.check(labelled)

    def test_a_policy_trains_on_them_and_the_training_says_so(
        self,
        labelled: Path,
        data: Path,
        small_config: PolicyConfig,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ):
        blind = replace(small_config, state_dim=2, cameras=(), system2=None)
        monkeypatch.setitem(PRESETS, "blind", lambda spec: blind)
        config = TrainConfig(num_steps=1, batch_size=2, warmup_steps=1)
        train((data, labelled), tmp_path / "run", config=config, preset="blind")
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "labels" in line]
        assert line.startswith(f"note: {labelled}: the actions of 3 episodes are labels")
        assert len(json.loads((tmp_path / "run" / "scenes.json").read_text())[ENVIRONMENT]) == 9
        policy = Video2Act.load(tmp_path / "run")
        policy.save_pretrained(tmp_path / "upload", run=tmp_path / "run")
        card = (tmp_path / "upload" / "README.md").read_text()
        assert card.count("labels of an inverse-dynamics model, not recorded") == 1

    def test_a_trained_model_labels_other_videos(
        self, labelled: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("video2act.training.labelling._train", None)
        other = write(tmp_path / "other", [20], has_action=False)
        model = labelled.with_name("labelled.model")
        assert run(data, other, tmp_path / "out", model=model).episodes == (0,)
        with pytest.raises(FileExistsError, match=r"another inverse-dynamics model \(context: 1 then, 2 now\)"):
            run(data, other, tmp_path / "again", model=model, config=replace(CONFIG, context=2))

    def test_the_state_is_read_where_it_is_asked_for(self, data: Path, videos: Path, tmp_path: Path):
        run(data, videos, tmp_path / "out", use_state=True)
        weights = load_file(tmp_path / "out.model" / "model.safetensors")
        assert weights["out.0.weight"].shape[1] == (17 + 2) * 64 + 3 * 2

    def test_recorded_actions_of_another_column(self, videos: Path, tmp_path: Path):
        """`label` had no --action, so data of other columns could not be used."""
        data = write(tmp_path / "other", range(20, 26))
        for path in data.glob("data/*/*.parquet"):
            table = pq.read_table(path)
            pq.write_table(
                table.rename_columns(["moves" if name == "action" else name for name in table.column_names]), path
            )
        for file in ("info", "stats"):
            path = data / f"meta/{file}.json"
            fields = json.loads(path.read_text())
            table = fields["features"] if file == "info" else fields
            table["moves"] = table.pop("action")
            path.write_text(json.dumps(fields))
        options = LabelOptions(data=(data,), videos=(videos,), out=tmp_path / "out", action=("moves",), training=CONFIG)
        main(options)
        assert LeRobotDataset(tmp_path / "out").action_dim == 2

    def test_mirrored_data_do_not_label_upright_videos(self, data: Path, videos: Path, tmp_path: Path):
        """The labels were wrong without a word; train refuses such data."""
        mirrored = Path(shutil.copytree(videos, tmp_path / "mirrored"))
        path = mirrored / ORIGIN_PATH
        path.write_text(json.dumps({**load_origin(mirrored), "orientation": "lerobot"}))
        with pytest.raises(ValueError, match="orientation is upright in the data and lerobot in the videos; turn the"):
            run(data, mirrored, tmp_path / "out")


class TestLearning:
    def test_the_error_is_below_that_of_the_mean_action(self, videos: Path, tmp_path: Path):
        """The square moves as the action says."""
        data = write(tmp_path / "data", range(30, 42))
        config = replace(CONFIG, num_steps=100, batch_size=16, learning_rate=3e-3)
        labels = run(data, videos, tmp_path / "out", config=config)
        assert labels.error < 0.6 * labels.mean_error
        # labels of the videos are as good: their true actions are known here
        truth = np.concatenate([np.random.default_rng(i).uniform(-1, 1, (12, 2)) for i in range(10, 13)])
        found = np.concatenate([LeRobotDataset(tmp_path / "out").episode(i).actions for i in range(3)])
        assert np.corrcoef(truth.ravel(), found.ravel())[0, 1] > 0.8

    def test_episodes_are_held_out_by_the_seed(self):
        learned, held_out = split_by_seed(10, 0.2, seed=0)
        assert sorted(learned + held_out) == list(range(10))
        assert len(held_out) == 2
        assert split_by_seed(10, 0.2, seed=0) == (learned, held_out)
        assert len({tuple(split_by_seed(10, 0.2, seed=seed)[1]) for seed in range(5)}) > 1


class TestInterrupted:
    def test_a_killed_labelling_that_goes_on_equals_one_that_was_never_killed(
        self, labelled: Path, data: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        out, predict = tmp_path / "out", MomentReader.predict

        def killed(self: MomentReader, model: Any, episode: int, *, device: torch.device) -> Any:
            if len(self.data) == 3 and episode == 1:  # of the videos
                raise KeyboardInterrupt
            return predict(self, model, episode, device=device)

        with monkeypatch.context() as patch:
            patch.setattr(MomentReader, "predict", killed)
            with pytest.raises(KeyboardInterrupt):
                run(data, videos, out)
        assert len(LeRobotDataset(out)) == 1
        with pytest.raises(FileExistsError, match=r"labelled otherwise \(model.seed: 0 then, 1 now\)"):
            run(data, videos, out, config=replace(CONFIG, seed=1))
        run(data, videos, out)
        assert LeRobotDataset(out).fingerprint == LeRobotDataset(labelled).fingerprint
        assert load_labels(out) == load_labels(labelled)

    def test_finished_labels_are_left_as_they_are(
        self, data: Path, videos: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
    ):
        """The same call failed, so a study that was killed after a job `label` and before its record never went on."""
        before = {path: path.stat().st_mtime_ns for path in labelled.rglob("*") if path.is_file()}
        assert run(data, videos, labelled) == load_labels(labelled)
        assert "holds these labels already: the actions of 3 episodes are labels" in capsys.readouterr().out
        assert {path: path.stat().st_mtime_ns for path in labelled.rglob("*") if path.is_file()} == before

    def test_two_at_once_are_refused(self, data: Path, videos: Path, tmp_path: Path):
        with FolderLock(tmp_path / "out.model", "a training"), pytest.raises(InUseError, match="is being written by"):
            run(data, videos, tmp_path / "out")


class TestRefused:
    @pytest.mark.parametrize(
        ("changed", "match"),
        [
            ({"has_action": False}, "the data have none; name datasets that have"),
            ({"cameras": ("top",)}, "the data's cameras are top, the videos' front; choose common ones with --cameras"),
            ({"numbers": range(4)}, "at least 5 episodes with recorded actions, got 4; record more"),
            ({"robot": "leg"}, "robot is leg in the data and arm in the videos"),
            ({"fps": 10.0}, "fps is 10.0 in the data and 20.0 in the videos"),
            ({"image_size": 64}, r"camera 'front': height and width are \(64, 64\) in the data, \(32, 32\)"),
        ],
    )
    def test_data_that_do_not_go_with_the_videos(
        self, changed: dict[str, Any], match: str, videos: Path, tmp_path: Path
    ):
        given: dict[str, Any] = {"numbers": range(5)} | changed
        data = write(tmp_path / "data", **given)
        with pytest.raises(ValueError, match=match):
            run(data, videos, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]

    @pytest.mark.parametrize(
        ("column", "value", "match"),
        [
            ("task", "", "episode 0: the instruction is empty"),
            ("shape", [33, 32, 3], "camera 'front': H.264 stores even sizes, got 33 x 32; record with an even"),
        ],
        ids=["no sentence", "odd size"],
    )
    def test_videos_that_could_not_be_written_again(
        self, column: str, value: Any, match: str, data: Path, videos: Path, tmp_path: Path
    ):
        """They were refused after the model was trained, without their folder and episode."""
        others = [Path(shutil.copytree(root, tmp_path / root.name)) for root in (data, videos)]
        for root in others:
            if column == "task" and root.name == "videos":
                path = root / "meta/tasks.parquet"
                table = pq.read_table(path)
                pq.write_table(table.set_column(table.column_names.index("task"), "task", [[value]]), path)
            elif column == "shape":
                path = root / "meta/info.json"
                info = json.loads(path.read_text())
                info["features"]["observation.images.front"]["shape"] = value
                path.write_text(json.dumps(info))
        with pytest.raises(ValueError, match=rf"the videos of {others[1]} cannot be labelled: {match}"):
            run(others[0], others[1], tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["push", "videos"]

    def test_other_names_of_actions(self, data: Path, videos: Path, tmp_path: Path):
        other = write(tmp_path / "other", range(5), actions=("dy", "dx"))
        with pytest.raises(ValueError, match=r"action\[0\] is dx in the first and dy in the second"):
            label(open_datasets([data, other]), open_datasets([videos]), out=tmp_path / "out", training=CONFIG)

    def test_a_state_in_another_order_is_not_read(self, data: Path, tmp_path: Path):
        """--use-state compared the sizes of the states only, so that a model read x where it had learned y."""
        turned = write(tmp_path / "turned", [1], has_action=False, state_names=("y", "x"))
        with pytest.raises(ValueError, match=r"--use-state: state\[0\] is x in the data and y in the videos; leave"):
            run(data, turned, tmp_path / "out", use_state=True)
        assert not (tmp_path / "out").exists()

    def test_videos_with_actions_and_a_state_or_camera_that_is_not_there(
        self, data: Path, videos: Path, tmp_path: Path
    ):
        with pytest.raises(ValueError, match="has actions already"):
            run(data, data, tmp_path / "out")
        bare = write(tmp_path / "bare", [1], has_action=False, state_names=())
        with pytest.raises(ValueError, match="--use-state: the state has 2 numbers in the data and 0 in the videos"):
            run(data, bare, tmp_path / "out", use_state=True)
        with pytest.raises(ValueError, match="the data have no camera 'top'; their cameras are front"):
            run(data, videos, tmp_path / "out", cameras=("top",))
        assert not (tmp_path / "out").exists()

    def test_a_folder_that_holds_something_else(self, data: Path, videos: Path):
        with pytest.raises(FileExistsError, match="holds no labels that could be continued"):
            run(data, videos, data)

    def test_labels_in_place_of_recorded_actions(self, videos: Path, labelled: Path, tmp_path: Path):
        with pytest.raises(ValueError, match=r"learns from recorded actions, but .* are labels of an inverse-dynamics"):
            run(labelled, videos, tmp_path / "out")
