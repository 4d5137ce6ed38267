"""A simulator renders what a policy was trained on: demonstrations of 64 px were evaluated at 128 px, and nobody heard
of it. With the recorded size a policy solved 35 scenes of 50 where it had solved 23."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from video2act.config import EvaluateOptions, PolicyConfig, RuntimeConfig
from video2act.config.checks import Pixels, problem_of
from video2act.envs import make_environment
from video2act.evaluation.episodes import EpisodeTask, EpisodeWorker, Evaluation
from video2act.evaluation.report import heading
from video2act.evaluation.sources import LoadedPolicy, RunFolder, rendered_size
from video2act.evaluation.suitability import check_image_size
from video2act.files.run_folder import (
    DATA_FILE,
    INSTRUCTIONS_FILE,
    SCENES_FILE,
    load_frame_sizes,
    load_instructions,
    load_training_seeds,
)
from video2act.policy import Video2Act
from video2act.programs.evaluate import evaluate
from video2act.programs.info.run import describe_run
from video2act.programs.serve import serve_policy
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract

DEMOS = {"name": "demos", "robot": "arm", "episodes": 1, "frames": 2, "tasks": ["push"]}
SIZES = {"front": (24, 32), "wrist": (24, 32)}


@pytest.fixture
def run(saved_policy: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(saved_policy, folder)
    describe(folder, SIZES)
    return folder


def describe(folder: Path, sizes: Any) -> None:
    (folder / DATA_FILE).write_text(json.dumps([DEMOS | {"frame_sizes": sizes}]))


class Seen:
    """Remembers the sizes that were asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, name: str, cameras: tuple[str, ...], *, image_size: Any, visual_shift: Any = None) -> Any:
        self.asked.append(image_size)
        raise RuntimeError("enough")


@pytest.mark.parametrize(("chosen", "expected"), [(None, (24, 32)), (96, (96, 96))])
def test_an_evaluation_asks_for_the_recorded_size_or_the_chosen_one(run: Path, chosen: int | None, expected: Any):
    seen = Seen()
    options = EvaluateOptions(image_size=chosen, expert=False, num_videos=0)
    worker = EpisodeWorker(Evaluation(RunFolder(run), ("moving:push",), options, seen))
    with pytest.raises(RuntimeError, match="enough"):
        worker(EpisodeTask("moving:push", 0))
    assert seen.asked == [expected]


def test_a_loaded_and_a_served_policy_know_the_recorded_size(run: Path):
    policy = Video2Act.from_pretrained(run, device="cpu")
    assert LoadedPolicy(policy).frame_sizes() == SIZES
    contract = serve_policy(
        policy, (), frame_sizes=load_frame_sizes(run), refresh_every=4, system2="inline", runtime=RuntimeConfig()
    ).contract
    assert Contract.from_metadata(json.loads(json.dumps(contract.to_metadata()))).frame_sizes == SIZES


def test_a_policy_that_does_not_know_it_leaves_the_usual_size_and_says_so(run: Path):
    (run / DATA_FILE).unlink()
    evaluation = Evaluation(RunFolder(run), ("moving:push",), EvaluateOptions(num_videos=0))
    assert evaluation.image_size is None
    assert "NOT RECORDED" in heading(info(evaluation))


def test_a_chosen_size_is_named_beside_the_recorded_one(run: Path):
    options = EvaluateOptions(num_videos=0)
    assert "training" not in heading(info(Evaluation(RunFolder(run), ("moving:push",), options)))
    other = Evaluation(RunFolder(run), ("moving:push",), replace(options, image_size=96))
    assert "images of 96 x 96 px, in training: front 24 x 32, wrist 24 x 32" in heading(info(other))


def info(evaluation: Evaluation) -> dict[str, Any]:
    return {"settings": evaluation.to_json(), "missed_deadlines": 0}


def test_cameras_of_several_sizes_need_a_choice(run: Path):
    describe(run, SIZES | {"wrist": (64, 64)})
    with pytest.raises(ValueError, match=r"front 24 x 32, wrist 64 x 64.*--image-size"):
        evaluate(run, "moving:push", episodes=1, expert=False)
    assert rendered_size({"front": (24, 32), "wrist": (64, 64)}, 64) == (64, 64)


def test_an_environment_of_your_own_does_not_obey_a_choice():
    with pytest.raises(ValueError, match="own:make has an image size of its own; leave image_size=64 out"):
        check_image_size(64, ["moving:push", "own:make"])
    check_image_size(None, ["own:make"])


SIZES_OF_STRANGERS = (
    *("64", "[64]", "[64, 64, 64]", "[64, true]", '["64", 64]', "[64, 64.5]", "[64, Infinity]", "null"),
    *("[0, 64]", "[-64, 64]", "[8193, 64]", "[64, 1e9]", f"[64, {10**9}]", f"[64, 1{'0' * 4000}]"),
)


@pytest.mark.parametrize(
    "text",
    ["[1]", "{", "{}", "5", "[" * 10_000, json.dumps([{"frame_sizes": SIZES}]), json.dumps([DEMOS | {"frames": -1}])]
    + [f'{json.dumps([DEMOS])[:-2]}, "frame_sizes": {{"front": {size}}}}}]' for size in SIZES_OF_STRANGERS],
    ids=range(7 + len(SIZES_OF_STRANGERS)),
)
def test_a_damaged_record_is_named(run: Path, text: str):
    (run / DATA_FILE).write_text(text)
    for read in (load_frame_sizes, describe_run):
        with pytest.raises(ValueError, match=r"data\.json is damaged.*copy the run folder again"):
            read(run)


def test_more_tasks_than_are_shown_are_no_damage(run: Path):
    describe(run, SIZES)
    (run / DATA_FILE).write_text(json.dumps([DEMOS | {"tasks": ["push"] * 5000, "frame_sizes": SIZES}]))
    assert load_frame_sizes(run) == SIZES


def test_more_cameras_than_anyone_has_are_refused(run: Path):
    describe(run, {f"camera{number}": (64, 64) for number in range(100_000)})
    with pytest.raises(ValueError, match="at most 1000 items"):
        load_frame_sizes(run)


@pytest.mark.parametrize(("name", "text"), [(SCENES_FILE, '{"a:b": "x"}'), (SCENES_FILE, "[]"), (SCENES_FILE, "{")])
def test_damaged_scenes_are_named(run: Path, name: str, text: str):
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=r"scenes\.json.*copy the run folder again"):
        load_training_seeds(run, "a:b")


@pytest.mark.parametrize("text", ['{"a": 1}', "[5]", "["])
def test_damaged_instructions_are_named(run: Path, text: str):
    (run / INSTRUCTIONS_FILE).write_text(text)
    with pytest.raises(ValueError, match=r"instructions\.json"):
        load_instructions(run)


@pytest.mark.parametrize("size", SIZES_OF_STRANGERS)
def test_a_server_cannot_ask_for_an_absurd_size(size: str, small_config: PolicyConfig):
    metadata = Contract.of(small_config, "policy").to_metadata() | {"frame_sizes": {"front": json.loads(size)}}
    with pytest.raises(MessageError, match=r"first message does not fit: .*frame_sizes"):
        Contract.from_metadata(metadata)


def test_an_absurd_size_is_refused_before_there_is_a_renderer():
    pytest.importorskip("mujoco")
    with pytest.raises(ValueError, match="image_size must be at most 8192"):
        make_environment("moving:push", image_size=(64, 10**9))
    assert problem_of(tuple[Pixels, Pixels], (64,)) == "must have 2 items, not 1"


def test_a_gymnasium_environment_does_not_obey_a_choice_either():
    with pytest.raises(ValueError, match="Walker2d-v5 has an image size of its own"):
        check_image_size(64, ["Walker2d-v5"])


def test_an_environment_of_your_own_is_not_said_to_show_the_recorded_size(run: Path):
    evaluation = Evaluation(RunFolder(run), ("own:make",), EvaluateOptions(num_videos=0))
    assert evaluation.image_size is None
    assert "images of the environment's own size, in training: front 24 x 32" in heading(info(evaluation))


@pytest.mark.parametrize("name", ["moving:push", "metaworld:push-v3", "aloha:insertion"])
def test_a_simulator_renders_oblong_pictures(name: str):
    pytest.importorskip("mujoco")
    environment = make_environment(name, image_size=(24, 32), max_steps=2)
    try:
        shapes = {image.shape for image in environment.reset(0).images.values()}
    finally:
        environment.close()
    assert shapes == {(24, 32, 3)}
    assert set(environment.spec.frame_sizes.values()) == {(24, 32)}
