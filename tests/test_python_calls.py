"""What a researcher types in Python, without the type checks of the other tests: a folder stands for its dataset, and a
mistake is answered in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import json, sys
import video2act as v2a
folder, out, *calls = json.loads(sys.argv[1])
class Still:
    def reset(self): ...
    def observe(self, observation): ...
    def infer(self, observation): ...
runner = v2a.Runner(Still(), execute_steps=1)
runner.reset()
from video2act.data import DatasetWriter
from video2act.data.view import split
def create(**given):
    usual = {"cameras": ("front",), "state_names": ("x", "y"), "action_names": ("x", "y"), "relative_actions": ()}
    DatasetWriter.create(out + "/new", fps=10, robot="arm", image_size=32, **{**usual, **given})
data, config = v2a.open_dataset(folder), v2a.preset("tiny_blind", folder)
several = [folder, data]
for call in calls:
    try:
        result = str(eval(call))
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    print(json.dumps(result))
"""

BY_NAME = "TypeError: a preset is asked for by its name, then the data: preset('tiny', data); got a value of type "
FIRST = (
    "TypeError: train takes a policy's config, then the data: train(preset('tiny', data), data, out=...); got a value"
)
NO_DATASET = "TypeError: expected a dataset or its folder, got a value of type "
PATHS = 'TypeError: replace takes a dict of paths, such as replace({"horizon": 16}), got '

LISTED = "TypeError: {0} is a list of names, got the text '{1}'; give a list: ['{1}']"

ANSWERS = {
    "v2a.preset('tiny', folder) == v2a.preset('tiny', data)": "True",
    "len(v2a.open_datasets(folder))": "3",
    "v2a.preset(data, 'tiny')": BY_NAME + "LeRobotDataset",
    "repr(data)": "LeRobotDataset('{folder}': 3 episodes, ",
    "repr(v2a.open_datasets(folder, episodes=[0]))": "DatasetView(1 episodes, ",
    "v2a.preset('tiny')": "TypeError: preset('tiny') lacks the data, whose sizes the policy gets: preset('tiny', ",
    "runner.step({'images': {}})": "TypeError: expected an Observation(images={camera: RGB}, state=..., instruction",
    "v2a.preset('tiny', 7)": NO_DATASET + "int; open_dataset(folder) opens one",
    "v2a.preset('tiny', folder + '/nowhere')": "FileNotFoundError: ",
    # a folder is opened: what is refused then comes later
    "v2a.train(config, folder, out=out, video_model='nowhere')": "ValueError: this policy has no System 2",
    "v2a.Runner(out, limits={'low': [0.0]})": "TypeError: limits is an object, Limits(low, high), or a text: data, ",
    "v2a.train(config, data, out=out, video_data=folder)": "ValueError: video_data is for the video model's own loss",
    "v2a.train(config, data, out=out, video_data=several)": "ValueError: video_data is for the video model's own loss",
    "v2a.train(v2a.preset('tiny', data), data, out=out)": "ValueError: this policy has System 2, which needs a video ",
    "v2a.train(data, config, out=out)": FIRST + " of type LeRobotDataset first",
    "v2a.train('tiny', data, out=out)": FIRST + " of type str first",
    "v2a.train(config, several, out=out)": NO_DATASET + "list",
    "v2a.train_video(folder, out=folder)": "FileExistsError: {folder} holds a dataset",
    "v2a.train_video(several, out=folder)": "FileExistsError: {folder} holds a dataset",
    "v2a.train_video(config, out=out)": NO_DATASET + "PolicyConfig",
    "v2a.label(folder, folder, out=out)": "ValueError: label needs at least 5 episodes with recorded actions, got 3",
    "v2a.open_dataset(folder, state='observation.state')": LISTED.format("state", "observation.state"),
    "v2a.open_datasets(folder, action='action')": LISTED.format("action", "action"),
    "v2a.open_datasets(folder, embodiments='single_arm')": LISTED.format("embodiments", "single_arm"),
    "v2a.preset('tiny', folder, cameras='front')": LISTED.format("cameras", "front"),
    "v2a.make_environment('moving:push', cameras='front')": LISTED.format("cameras", "front"),
    "create(cameras='front')": LISTED.format("cameras", "front"),
    "create(state_names='xy')": LISTED.format("state_names", "xy"),
    "create(action_names='xy')": LISTED.format("action_names", "xy"),
    "create(relative_actions='x')": LISTED.format("relative_actions", "x"),
    "v2a.open_dataset(folder, episodes=3)": "TypeError: episodes is a list of numbers, got 3; give [3], or range(3)",
    "v2a.train(config, data, out=out, training=v2a.VideoTrainConfig())": (
        "TypeError: train takes training=TrainConfig(...), got a value of type VideoTrainConfig"
    ),
    "v2a.train_video(data, out=out, training=v2a.TrainConfig())": (
        "TypeError: train_video takes training=VideoTrainConfig(...), got a value of type TrainConfig"
    ),
    "v2a.label(data, data, out=out, training=v2a.TrainConfig())": (
        "TypeError: label takes training=InverseTrainConfig(...), got a value of type TrainConfig"
    ),
    "v2a.train(config, data, out=out, lr=3)": "TypeError: train has no argument 'lr'; it has config, data, out, ",
    "v2a.train(config, data, out=out, batch_size=3)": (
        "TypeError: train has no argument 'batch_size'; give training=TrainConfig(batch_size=...); it has config, "
    ),
    "v2a.train(config, data, out=out, num_step=3)": (
        "TypeError: train has no argument 'num_step'; did you mean num_steps? it has config, data, out, training, "
    ),
    "v2a.evaluate(out, 'moving:push', n_episodes=1)": (
        "TypeError: evaluate has no option 'n_episodes'; did you mean episodes? it has "
    ),
    "v2a.collect('moving:push', out, episode=1)": (
        "TypeError: collect has no option 'episode'; did you mean episodes? it has "
    ),
    "split(data, 2)": "ValueError: the fraction of episodes that is held out must lie in [0, 1), got 2",
    "[len(half) for half in split(data, 0.4)]": "[2, 1]",
    "config.replace(horizon=16)": PATHS + "horizon=16",
    "config.replace('horizon')": PATHS + "'horizon'",
    "config.replace({'horizon': 16}).horizon": "16",
}


@pytest.fixture(scope="module")
def said(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each call answers, in a process in which annotations are not checked."""
    given = json.dumps([str(recorded), str(tmp_path_factory.mktemp("calls") / "out"), *ANSWERS])
    done = subprocess.run([sys.executable, "-c", CODE, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(ANSWERS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("call", ANSWERS)
def test_a_call_is_understood_or_answered_in_one_line(call: str, said: dict[str, str], recorded: Path):
    """`'str' object has no attribute 'fps'` was the answer to a folder."""
    assert said[call].startswith(ANSWERS[call].replace("{folder}", str(recorded)))
