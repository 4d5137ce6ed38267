"""State and action under other names, in parts, or not there; pictures that are no cameras."""

import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import change_info, make_episode, write_dataset

from video2act.config import VideoTrainConfig
from video2act.data import DatasetError, LeRobotDataset, open_dataset, open_datasets
from video2act.data.check import check_dataset
from video2act.data.fit import check_columns, check_fit
from video2act.data.lerobot_format import load_info
from video2act.data.opening import open_as_trained
from video2act.files.run_folder import DATA_FILE
from video2act.presets import PRESETS, make_preset
from video2act.programs.info import check
from video2act.programs.info.dataset import describe_dataset
from video2act.programs.train_video import train_video


def rename(root, names):
    """Columns under other names, everywhere."""
    for path in root.glob("data/*/*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    for file in ("info", "stats"):
        path = root / f"meta/{file}.json"
        fields = json.loads(path.read_text())
        table = fields["features"] if file == "info" else fields
        for old, new in names.items():
            table[new] = table.pop(old)
        path.write_text(json.dumps(fields))
    return root


def change_feature(root, key, **changes):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[key] |= changes
    change_info(root, features=features)


def written(number, length=7):
    action = make_episode(number, length).action
    assert action is not None
    return action


def action_of(data, number):
    action = data.episode(number).action
    assert action is not None
    return action


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "set", [make_episode(0), make_episode(1, 5)])


@pytest.fixture
def plain(root):
    return rename(root, {"observation.state": "state", "action": "actions"})


def test_a_run_finds_its_columns_again(plain, tmp_path):
    """`export --data` and `view` read the standard columns, whatever the training had read."""
    entry = {"name": "set", "robot": "arm", "episodes": 2, "frames": 12, "tasks": ["push"]}
    run = tmp_path / "run"
    run.mkdir()
    assert open_as_trained(plain, run).state_dim == 0
    (run / DATA_FILE).write_text(json.dumps([entry | {"state": ["state"], "action": ["actions"]}]))
    data = open_as_trained(plain, run)
    assert (data.state_dim, data.action_dim) == (3, 2)
    (run / DATA_FILE).write_text(json.dumps([entry | {"state": ["elsewhere"], "action": ["actions"]}]))
    assert open_as_trained(plain, run).state_dim == 0


def test_columns_of_other_names_are_chosen(plain):
    data = open_dataset(plain, state=["state"], action=["actions"])
    assert (data.state_dim, data.action_dim) == (3, 2)
    assert np.array_equal(action_of(data, 1), written(1, 5))
    check_columns(data)
    assert check_dataset(plain, state=["state"], action=["actions"]) == []
    text = describe_dataset(plain, state=["state"], action=["actions"])
    assert "3 numbers: state" in text
    assert "2 numbers: actions" in text


def test_parts_are_joined_in_the_order_that_is_asked_for(root):
    rename(root, {"observation.state": "action.arm", "action": "action.gripper"})
    data = open_datasets([root], state=["action.arm"], action=["action.gripper", "action.arm"])
    episode = data.episode(0)
    assert np.array_equal(action_of(data, 0), np.concatenate([written(0), episode.state], axis=1))
    assert LeRobotDataset(root, action=["action.gripper", "action.arm"]).info.action_names == (
        "dx",
        "dy",
        "x",
        "y",
        "grip",
    )
    assert check_dataset(root, action=["action.gripper", "action.arm"]) == []


def test_without_a_choice_the_columns_are_named_and_no_videos_only(plain):
    with pytest.raises(ValueError, match=r"no column action.* state \[3\], actions \[2\].* --action") as caught:
        check_columns(LeRobotDataset(plain))
    assert "videos only" not in str(caught.value)
    text = describe_dataset(plain)
    assert "train --state or --action can choose it" in text
    assert "videos only" not in text


@pytest.mark.parametrize("name", ["state", "observation.environment_state", "observation.qpos"])
def test_a_state_that_was_not_chosen_is_not_left_out_silently(root, name):
    rename(root, {"observation.state": name})
    with pytest.raises(ValueError, match=rf"no column observation\.state.* {name} \[3\].* --state COLUMN"):
        check_columns(LeRobotDataset(root))
    check_columns(LeRobotDataset(root, state=[name]))


@pytest.mark.parametrize("columns", [["nothing"], ["observation.images.front"], ["timestamp"]])
def test_a_column_that_does_not_exist_is_refused_with_those_that_do(root, columns):
    for option in ("state", "action"):
        with pytest.raises(ValueError, match=rf"--{option} .*observation\.state \[3\], action \[2\]"):
            open_dataset(root, **{option: columns})


def test_a_column_named_twice_is_refused(root):
    with pytest.raises(ValueError, match="names a column twice"):
        open_dataset(root, state=["action", "action"])


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [64, 64, 1]},
        {"shape": [1, 64, 64]},
        {"shape": [64, 64]},
        {"info": {"is_depth_map": True}},
        {"info": {"video.is_depth_map": True}},
        {"info": {"video.pix_fmt": "gray12le"}},
    ],
)
def test_depth_is_no_colour_camera(root, changes):
    change_feature(root, "observation.images.wrist", **changes)
    data = LeRobotDataset(root)
    assert data.cameras == ("front",)
    assert "not a colour camera" in describe_dataset(root)
    assert check_dataset(root) == []
    assert "picture decoded, but not observation.images.wrist, which is no colour camera; nothing is" in check(root)


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("file", r"wrist/chunk-000/file-000\.mp4 does not exist, but episode 0 refers to it"),
        ("column", r"episode 0 has no videos/observation\.images\.wrist/file_index, but meta/info\.json declares"),
        ("all", r"episode 0 has no videos/observation\.depth/chunk_index, but meta/info\.json declares"),
    ],
)
def test_depth_that_is_declared_and_not_there_is_found(root, missing, match):
    """The check said that every picture was decoded."""
    change_feature(root, "observation.images.wrist", info={"is_depth_map": True})
    path = min(root.glob("meta/episodes/*/*.parquet"))
    if missing == "file":
        (root / "videos/observation.images.wrist/chunk-000/file-000.mp4").unlink()
    elif missing == "column":
        pq.write_table(pq.read_table(path).drop_columns(["videos/observation.images.wrist/file_index"]), path)
    else:
        info = json.loads((root / "meta/info.json").read_text())
        change_info(root, features=info["features"] | {"observation.depth": {"dtype": "video", "shape": [64, 64, 1]}})
    (fault,) = check_dataset(root)
    assert re.search(match, fault)


def test_a_rate_that_is_null_is_the_datasets(root):
    change_feature(root, "observation.images.wrist", info={"video.fps": None})
    assert LeRobotDataset(root).info.rate_faults() == []


@pytest.mark.parametrize(
    "names",
    [
        {"motors": ["a", "b", "c"]},
        {"left": ["a", "b"], "right": ["c"]},
        {"arms": {"left": ["a"], "right": ["b"]}, "gripper": ["c"]},
        [["a", "b"], ["c"]],
        {"a": 0, "b": 1, "c": 2},
        ["a", "b", "c"],
    ],
)
def test_names_in_groups_are_read(root, names):
    change_feature(root, "observation.state", names=names)
    assert LeRobotDataset(root).info.state_names == ("a", "b", "c")


@pytest.mark.parametrize("names", [5, ["\x1b[31m", "b", "c"], ["x" * 201, "b", "c"]], ids=["5", "escape", "long"])
def test_names_that_are_none_are_refused(root, names):
    change_feature(root, "observation.state", names=names)
    with pytest.raises(DatasetError, match=r"info\.json: names .*must (be a list|have at most 200 printable letters)"):
        LeRobotDataset(root)


@pytest.mark.parametrize("features", [[], {"action": None}, {"action": {"dtype": "float32"}}], ids=str)
def test_features_that_are_no_tables_are_named(root, features):
    change_info(root, features=features)
    with pytest.raises(DatasetError, match=r"info\.json: (features|the feature action) must be a table"):
        LeRobotDataset(root)


def test_two_cameras_that_would_share_a_name_are_both_there(root):
    """The first was left out silently, and its files called strangers."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    change_info(root, features={**features, "observation.front": {**features["observation.images.front"]}})
    info = load_info(root)
    assert info.cameras["front"] == "observation.images.front"
    assert info.cameras["observation.front"] == "observation.front"


def test_a_camera_with_the_sign_of_past_images_has_another_name(root):
    """A policy read `front@1` as what `front` saw a step ago, and never looked through it."""
    features = json.loads((root / "meta/info.json").read_text())["features"]
    renamed = {key.replace("wrist", "front@1"): feature for key, feature in features.items()}
    change_info(root, features=renamed)
    (root / "videos/observation.images.wrist").rename(root / "videos/observation.images.front@1")
    for path in (root / "meta/episodes").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(table.rename_columns([name.replace("wrist", "front@1") for name in table.column_names]), path)
    data = open_dataset(root)
    assert data.cameras == ("front", "front_1")
    assert data.frames(0, "front_1").shape == (7, 64, 64, 3)
    policy = make_preset("tiny", data)
    check_fit(policy, data)
    assert policy.all_cameras == ("front", "front_1")
    assert "front_1" in describe_dataset(root)


def test_without_a_colour_camera_every_program_says_so(root, tmp_path):
    """It was an IndexError. What sees nothing needs none."""
    for camera in ("front", "wrist"):
        change_feature(root, f"observation.images.{camera}", shape=[64, 64, 1])
    data = open_dataset(root)
    for name in PRESETS:
        if name != "tiny_blind":
            with pytest.raises(ValueError, match=f"the preset {name} looks through a colour camera, and there is none"):
                make_preset(name, data)
    assert make_preset("tiny_blind", data).all_cameras == ()
    with pytest.raises(ValueError, match="has no colour camera"):
        train_video(data, out=tmp_path / "video", training=VideoTrainConfig(num_steps=1))
    assert not (tmp_path / "video").exists()


def test_what_a_dataset_names_is_shown_and_not_obeyed(root):
    """`[/b]` is markup for what draws the tables, which ended in a traceback; an escape clears the screen."""
    change_feature(root, "observation.state", names=["[/b]", "[red]", ":smile:"])
    path = root / "meta/tasks.parquet"
    table = pq.read_table(path)
    sentences = pa.array(["push [/x] \x1b[2J it"] * len(table))
    pq.write_table(table.set_column(table.column_names.index("task"), "task", sentences), path)
    page = describe_dataset(root)
    assert "push [/x] \N{REPLACEMENT CHARACTER}[2J it" in page
    assert all(name in page for name in ("[/b]", "[red]", ":smile:"))


def test_a_dataset_without_episodes_is_not_called_sound(root):
    change_info(root, total_episodes=0, total_frames=0)
    assert any("holds no complete episode yet" in fault for fault in check_dataset(root))


def test_statistics_that_are_a_pointer_of_git_lfs_are_called_one(root):
    (root / "meta/stats.json").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert any("stats.json is a pointer of Git LFS" in fault for fault in check_dataset(root))


def test_a_hidden_folder_of_episodes_is_passed_by(root):
    shutil.copytree(root / "meta/episodes/chunk-000", root / "meta/episodes/.ipynb_checkpoints")
    assert len(LeRobotDataset(root)) == 2
