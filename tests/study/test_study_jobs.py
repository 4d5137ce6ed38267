"""What a study's yaml file becomes: commands that share what they can, checked before the first is run."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_study import STUDY, write_study
from video2act import cli
from video2act.cli_flags import parse
from video2act.data import DatasetWriter, Episode
from video2act.study.jobs import StudyPlan, flags, load_study, plan_jobs

REPOSITORY = Path(__file__).parents[2]
COMMITTED = sorted((REPOSITORY / "studies").glob("*.yaml"))


def plan(folder: Path, **changes: Any) -> StudyPlan:
    path = write_study(folder, **changes)
    return plan_jobs(load_study(path, None), folder)


def parsed(words: tuple[str, ...]) -> Any:
    """The options that the command line makes of a job's words."""
    verb = cli.VERBS[words[0]]
    return parse(verb.options, list(words[1:]), program="video2act", positional=verb.positional)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_study_is_valid(path: Path):
    """All of its forms are planned, for one seed; the command line takes what the smallest one runs."""
    config, smoke = load_study(path, None), load_study(path, "smoke")
    assert len(config.seeds) >= 3
    for part in (None, *config.slices):
        plan_jobs(replace(load_study(path, part), seeds=config.seeds[:1]), path.parent)
    jobs = plan_jobs(smoke, path.parent).needed(product(config.slices["smoke"].arms, smoke.seeds)).values()
    for job in {job.kind: job for job in jobs}.values():  # parsing takes its time
        parsed(job.words)


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_job_of_a_committed_study_is_a_command(path: Path):
    config = load_study(path, None)
    for job in plan_jobs(config, path.parent).needed(product(config.arms, config.seeds[:1])).values():
        parsed(job.words)


def test_jobs_are_shared_and_wait_for_what_they_need(tmp_path: Path):
    jobs = plan(tmp_path).jobs
    assert list(jobs)[:4] == ["collect_demos", "train_video_trained", "train_good_seed0", "eval_good_seed0"]
    assert len([name for name in jobs if name.startswith("train_video")]) == 1
    assert jobs["train_good_seed0"].needs == ("collect_demos", "train_video_trained")
    assert jobs["train_alone_seed1"].needs == ("collect_demos",)
    assert jobs["eval_bad_seed1"].needs == ("train_bad_seed1",)


def test_arms_that_differ_in_their_evaluation_alone_share_a_training(tmp_path: Path):
    arms = {"good": {}, "bad": {"evaluate": {"refresh_every": 4}}, "alone": {"evaluate": {"blind": True}}}
    jobs = plan(tmp_path, arms=arms).jobs
    assert [name for name in jobs if name.startswith("train_good")] == ["train_good_seed0", "train_good_seed1"]
    assert not any(name.startswith(("train_bad", "train_alone")) for name in jobs)
    assert parsed(jobs["eval_bad_seed1"].words).refresh_every == 4
    assert jobs["eval_bad_seed1"].words[1] == "policies/good_seed1"


def test_a_video_model_of_each_seed(tmp_path: Path):
    models = {"trained": {"data": ["demos"], "per_seed": True}}
    jobs = plan(tmp_path, video_models=models).jobs
    assert parsed(jobs["train_video_trained_seed1"].words).training.seed == 1
    assert "video_models/trained_seed1" in jobs["train_good_seed1"].words


def test_words_mean_what_the_file_says(tmp_path: Path):
    arms = {
        **STUDY["arms"],
        "good": {
            "changes": {
                "horizon": 16,
                "system2": {"streams": {"motion": {"filter": {"name": "none"}}}},
                "system2.streams.spatial": None,
                "system2.backbone.feature_layers": [1, 3],
            },
            "training": {"learning_rate": 1e-3},
            "options": {"cameras": ["corner4"]},
            "evaluate": {"simulate_latency": "system2=400ms"},
        },
    }
    jobs = plan(tmp_path, arms=arms).jobs
    train, evaluate = parsed(jobs["train_good_seed1"].words), parsed(jobs["eval_good_seed0"].words)
    assert (train.training.seed, train.training.num_steps, train.training.learning_rate) == (1, 10, 1e-3)
    assert train.cameras == ("corner4",)
    assert train.changes == {
        "horizon": 16,
        "system2.streams.motion.filter.name": "none",
        "system2.streams.spatial": None,
        "system2.backbone.feature_layers": (1, 3),
    }
    assert (evaluate.simulate_latency.system2, evaluate.expert, evaluate.workers) == (0.4, False, 1)
    assert parsed(jobs["train_bad_seed0"].words).changes == {"system2.streams.motion.is_still": True}
    assert flags({"a_b": False, "c": [1, 2]}) == ("--no-a-b", "--c", "1", "2")


def test_labels_and_results_from_elsewhere(tmp_path: Path):
    datasets = {
        **STUDY["datasets"],
        "free": {"collect": {"env": "moving:intercept", "videos_only": True, "seed": 500, "episodes": 9}},
        "labelled": {"label": {"data": ["demos"], "videos": ["free"], "training": {"num_steps": 7}}},
    }
    arms = {**STUDY["arms"], "bad": {"results": "theirs/seed{seed}.json"}, "alone": {"data": ["demos", "labelled"]}}
    made = plan(tmp_path, datasets=datasets, arms=arms)
    assert made.results["bad", 1] == str(tmp_path / "theirs/seed1.json")
    assert "eval_bad_seed0" not in made.jobs
    label = made.jobs["label_labelled"]
    assert label.needs == ("collect_demos", "collect_free")
    assert parsed(label.words).training.num_steps == 7
    assert parsed(made.jobs["train_alone_seed0"].words).data == (Path("data/demos"), Path("data/labelled"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"datasets": {}}, r"there is no dataset 'demos'; there are none"),
        ({"data": ["demo"]}, r"no dataset 'demo'; did you mean 'demos'\?"),
        ({"primary": {"arm": "god", "than": "bad"}}, r"no arm \(of contrast god - bad\) 'god'; did you mean 'good'"),
        ({"primary": {"arm": "bad", "than": "bad"}}, "does not differ from itself"),
        ({"questions": "?"}, r"unknown field questions of StudyConfig; did you mean 'question'\?"),
        ({"arms": {"good": {"chnges": {}}, "bad": {}, "alone": {}}}, r"chnges of ArmPlan; did you mean 'changes'\?"),
        ({"arms": {"good": {"preset": "tinny"}, "bad": {}, "alone": {}}}, r"unknown preset 'tinny'; did you mean"),
        (
            {"arms": {"good": {"changes": {"system2.streams.moton.stride": 2}}, "bad": {}, "alone": {}}},
            r"arm good: .*has no 'moton'; did you mean motion\?",
        ),
        (
            {"arms": {"good": {"training": {"num_step": 2}}, "bad": {}, "alone": {}}},
            r"num_step of TrainConfig; did you mean 'num_steps'\?",
        ),
        ({"arms": {"good": {"training": {"seed": 2}}, "bad": {}, "alone": {}}}, "seed cannot be set in training"),
        ({"arms": {"good": {"evaluate": {"system2": "thread"}}, "bad": {}, "alone": {}}}, "evaluates inline"),
        ({"arms": {"good": {"evaluate": {"seed": 2}}, "bad": {}, "alone": {}}}, "seed cannot be set in evaluate"),
        ({"arms": {"good": {"evaluate": {"blnd": True}}, "bad": {}, "alone": {}}}, "did you mean 'blind'"),
        ({"arms": {"good": {"video_model": "other"}, "bad": {}, "alone": {}}}, "no video model .* 'other'"),
        ({"video_model": ""}, "needs a video model; name one"),
        ({"scenes": {"seed": 2}}, r"seeds 0\.\.3 and the scenes 2\.\.51 overlap"),
        (
            {"env": ["libero:libero_object"], "scenes": {"seed": 0, "episodes": 51}},
            "libero:libero_object has 50 scenes of a task, and others would count twice; lower scenes.episodes=51",
        ),
        ({"seeds": [0, 0]}, "each once"),
        (
            {"arms": {"good": {"results": "theirs.json"}, "bad": {}, "alone": {}}},
            r"theirs\.json is one training, which would count as 2 training seeds; write \{seed\}",
        ),
        ({"arms": {"good": {"policy": "runs/a"}, "bad": {}, "alone": {}}}, "runs/a is one training, which would count"),
        (
            {"arms": {"good": {"policy": "runs/a{seed}"}, "bad": {}, "alone": {}}},
            "runs/a0 does not exist; policy names",
        ),
        ({"env": ["moving:intercpt"]}, "intercept"),
        ({"env": []}, "env must name one environment or more, got none"),
        ({"datasets": {"demos": {"folder": "nowhere"}}}, r"dataset demos: .*nowhere holds no dataset"),
        ({"datasets": {"demos": {}}}, "one of folder, collect and label, got none"),
        ({"datasets": {"demos": {"collect": {"env": "moving:intercept", "episode": 3}}}}, "did you mean 'episodes'"),
        (
            {
                "datasets": {
                    **STUDY["datasets"],
                    "a": {"label": {"data": ["b"], "videos": ["demos"]}},
                    "b": {"label": {"data": ["demos"], "videos": ["a"]}},
                }
            },
            "it is made from itself: a from b from a",
        ),
        (
            {"datasets": {**STUDY["datasets"], "a": {"label": {"data": "demos", "videos": ["demos"]}}}},
            r"dataset a: label\.data: expected a list, got 'demos'",
        ),
        ({"training": {"num_step": 2}}, r"^training: unknown field num_step of TrainConfig; did you mean 'num_steps'"),
        ({"primary": {"arm": "good", "than": "bad", "goal_points": 500}}, "goal_points"),
        ({"slices": {"smoke": {"arms": ["god"]}}}, r"no arm \(of slice smoke\) 'god'"),
        (
            {"secondary": [{"arm": "bad", "than": "good"}]},
            "contrast good - bad is named twice, in this order or the other",
        ),
        ({"arms": {**STUDY["arms"], "good": {"title": "alone"}}}, "two arms have the title 'alone'"),
        (
            {"arms": {**STUDY["arms"], "alone": {"preset": "tiny_system1", "training": {"clip_jitter": 0.1}}}},
            "clip_jitter",
        ),
        (
            {"arms": {**STUDY["arms"], "alone": {"preset": "tiny_system1", "options": {"init_parts": ["system1"]}}}},
            "init_parts system1 says what is taken of init, which is not given",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_any_work(tmp_path: Path, changes: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        plan(tmp_path, **changes)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ({"policy": "runs/{seed}", "changes": {"execute_steps": 8}, "training": {"num_steps": 3}}, "changes, training"),
        ({"policy": "runs/{seed}", "preset": "tiny_blind"}, "preset"),
        ({"results": "theirs/{seed}", "evaluate": {"blind": True}}, "evaluate"),
        ({"results": "theirs/{seed}", "data": ["demos"]}, "data"),
        ({"results": "theirs/{seed}", "preset": "tiny"}, "preset"),
    ],
)
def test_fields_that_a_finished_arm_would_ignore_are_refused(tmp_path: Path, arm: dict[str, Any], said: str):
    """An arm with a policy and changes was the policy without them, and `could not be told apart` from it."""
    with pytest.raises(
        ValueError, match=rf"{said} would have no effect: .*was (trained|evaluated) elsewhere; leave it"
    ):
        plan(tmp_path, arms={**STUDY["arms"], "alone": arm})


def test_two_arms_that_are_the_same_are_refused(tmp_path: Path):
    for twins in ({}, {"preset": "tiny"}), ({"results": "a{seed}"}, {"results": "a{seed}", "title": "b"}):
        arms = dict(zip(("good", "bad"), twins, strict=True)) | {"alone": STUDY["arms"]["alone"]}
        with pytest.raises(ValueError, match="arms good and bad are the same; leave one out"):
            plan(tmp_path, arms=arms)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (["moving:push"], r"in 2 environments \(moving:push, moving:intercept\), and in moving:push; their scenes are"),
        (
            ["moving:intercept", "moving:push"],
            r"and in 2 environments \(moving:intercept, moving:push\); .*same order",
        ),
        (
            ["moving:intercept_velocity", "moving:push"],
            "compared one by one, so name as many for each",
        ),
    ],
    ids=["fewer", "in another order", "one at another place"],
)
@pytest.mark.parametrize("arm", [{"preset": "tiny_system1"}, {"results": "theirs{seed}"}], ids=["trained", "results"])
def test_arms_whose_scenes_do_not_pair_are_refused(tmp_path: Path, arm: dict[str, Any], env: list[str], said: str):
    """Of two arms the scenes of other environments were compared with each other, or the run ended after all trainings:
    their environments differed in number, or in their order."""
    arms = {**STUDY["arms"], "alone": {**arm, "env": env}}
    with pytest.raises(ValueError, match=rf"arms good and alone are evaluated .*{said}"):
        plan(tmp_path, env=["moving:push", "moving:intercept"], arms=arms)


def test_an_arm_may_be_evaluated_in_another_form_of_the_same_scenes(tmp_path: Path):
    arms = {**STUDY["arms"], "alone": {"preset": "tiny_system1", "env": ["moving:push", "moving:intercept_velocity"]}}
    assert plan(tmp_path, env=["moving:push", "moving:intercept"], arms=arms).jobs


def test_results_may_name_the_folder_of_an_evaluation(tmp_path: Path):
    (tmp_path / "theirs0").mkdir()
    made = plan(tmp_path, arms={**STUDY["arms"], "alone": {"results": "theirs{seed}"}})
    assert made.results["alone", 0] == str(tmp_path / "theirs0/eval_info.json")
    (tmp_path / "theirs0/eval/first").mkdir(parents=True)
    (tmp_path / "theirs0/eval/first/eval_info.json").write_text("{}")
    made = plan(tmp_path, arms={**STUDY["arms"], "alone": {"results": "theirs{seed}"}})
    assert made.results["alone", 0] == str(tmp_path / "theirs0/eval/first/eval_info.json"), "the only one of a run"


def test_an_environment_of_ones_own_is_looked_for_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "my_robot_of_a_study.py").write_text("def make(): raise AssertionError('built')\n")
    monkeypatch.chdir(tmp_path)
    assert plan(tmp_path, env=["my_robot_of_a_study:make"]).jobs
    for name, said in (("my_robot_of_a_study:mak", "has no function 'mak'"), ("nowhere_at_all:make", "no module")):
        with pytest.raises(ValueError, match=said):
            plan(tmp_path, env=[name])


@pytest.mark.parametrize("field", ["results", "policy"])
@pytest.mark.parametrize("path", ["theirs{seed:03}", "theirs{seed}{", "{arm}/{seed}", "theirs{}", "{seed.real}}}"])
def test_other_braces_in_a_path_are_refused(tmp_path: Path, field: str, path: str):
    """`{arm}` ended in `KeyError: 'arm'`, and `{seed}{` in `expected '}'`, without the name of the arm."""
    with pytest.raises(
        ValueError, match=rf"{field}='.*': only {{seed}}, which stands for the training seed, may stand"
    ):
        plan(tmp_path, arms={**STUDY["arms"], "alone": {field: path}})


def test_a_study_of_results_alone_names_no_data(tmp_path: Path):
    """A comparison of evaluations that were all made elsewhere asked for datasets."""
    arms = {name: {"results": f"{name}{{seed}}.json"} for name in ("good", "bad", "alone")}
    nothing = {"datasets": {}, "data": [], "video_models": {}, "video_model": "", "slices": {}}
    made = plan(tmp_path, arms=arms, **nothing)
    assert not made.jobs
    assert len(made.results) == 6
    with pytest.raises(ValueError, match=r"arm alone is trained here, and no data are named; name datasets \(data\)"):
        plan(tmp_path, arms={**arms, "alone": {}}, **nothing)


def test_a_dataset_that_was_recorded_on_the_scenes_is_refused_before_any_work(tmp_path: Path):
    """A folder's seeds were compared with the scenes by the first evaluation, after hours of training."""
    names = {"cameras": ("front",), "image_size": 16, "state_names": ("x",), "action_names": ("x",)}
    frames, column = np.zeros((3, 16, 16, 3), np.uint8), np.zeros((3, 1), np.float32)
    with DatasetWriter.create(tmp_path / "recorded", fps=10.0, robot="ball", **names) as writer:
        for seed in (7, 3009):
            writer.add_episode(Episode({"front": frames}, column, column, "go", seed, "moving:intercept"))
    told = r"dataset demos: its seeds 7\.\.3009 and the scenes 3000\.\.3009 overlap"
    with pytest.raises(ValueError, match=told):
        plan(tmp_path, datasets={"demos": {"folder": "recorded"}})
    assert plan(tmp_path, datasets={"demos": {"folder": "recorded"}}, scenes={"seed": 3010, "episodes": 5}).jobs


def test_demonstrations_with_scenes_of_their_own_may_have_the_seeds_of_the_scenes(tmp_path: Path):
    """LIBERO's demonstrations draw placements, its evaluations have official states: equal seeds are other scenes, and
    were refused."""
    demos = {"collect": {"env": "libero:libero_object", "episodes": 10}}
    assert plan(
        tmp_path, env=["libero:libero_object"], datasets={"demos": demos}, scenes={"seed": 0, "episodes": 50}
    ).jobs


def test_a_slice_is_a_smaller_study(tmp_path: Path):
    path = write_study(tmp_path)
    smoke = load_study(path, "smoke")
    assert (smoke.seeds, smoke.scenes.episodes, smoke.scenes.seed) == ((0,), 5, 3000)
    with pytest.raises(ValueError, match=r"no slice in .*small\.yaml 'smok'; did you mean 'smoke'\?"):
        load_study(path, "smok")
    with pytest.raises(FileNotFoundError, match="a study is a yaml file"):
        load_study(tmp_path / "other.yaml", None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"datasets.demo.collect.episodes": 2},
            r"small\.yaml, slice smoke: datasets\.demo\.collect\.episodes\) 'demo'; did you mean 'demos'",
        ),
        ({"scenes.episode": 5}, r"small\.yaml, slice smoke.*episode of Scenes; did you mean 'episodes'"),
        ({"arms.good.chnges": {}}, r"small\.yaml, slice smoke.*chnges of ArmPlan; did you mean 'changes'"),
    ],
)
@pytest.mark.parametrize("part", ["smoke", None, "other"])
def test_a_mistake_in_a_slice_is_named_when_the_file_is_read(
    tmp_path: Path, part: str | None, changes: dict[str, Any], said: str
):
    """A slice was read when it was run: until then a wrong name in it was in nobody's way."""
    wrong = write_study(tmp_path, slices={"smoke": {"changes": changes}, "other": {}})
    with pytest.raises(ValueError, match=said):
        load_study(wrong, part)


def test_an_arm_may_start_from_a_config_whose_path_is_seen_from_the_file(tmp_path: Path):
    """A preset was always given beside it, and `init` was looked for in the study's folder, when its turn came."""
    (tmp_path / "mine.json").write_text((REPOSITORY / "weights/push/config.json").read_text())
    (tmp_path / "start").mkdir()
    arm = {"options": {"config": "mine.json", "init": "start"}}
    made = plan(tmp_path, arms={**STUDY["arms"], "alone": {"preset": "tiny_system1"}, "own": arm})
    words = made.jobs["train_own_seed0"].words
    assert words[words.index("--config") + 1] == str(tmp_path / "mine.json")
    assert words[words.index("--init") + 1] == str(tmp_path / "start")
    assert "--preset" not in words
    for preset in "tiny", "tiny_blind":
        with pytest.raises(ValueError, match=f"own: options: a policy starts from --preset {preset} or from --config"):
            plan(tmp_path, arms={**STUDY["arms"], "own": {"preset": preset, **arm}})
    with pytest.raises(ValueError, match=r"arm own: init=.*/nowhere does not exist; paths are seen from the yaml file"):
        plan(tmp_path, arms={**STUDY["arms"], "own": {"options": {"init": "nowhere"}}})
