"""What is named twice is refused, where one of the two would be wrong or lost."""

from pathlib import Path

import pytest

from video2act.config.study import StudyConfig
from video2act.data import open_datasets
from video2act.envs import expand_suites
from video2act.presets import DataSpec, make_preset
from video2act.study.jobs import load_study, plan_jobs

STUDIES = Path(__file__).parents[1] / "studies"


def test_a_dataset_that_is_given_twice_is_refused_by_any_of_its_names(recorded: Path, tmp_path: Path):
    """`--data d d` trained on the episodes that it held out."""
    link = tmp_path / "other_name"
    link.symlink_to(recorded)
    for again in (recorded, recorded / "." / "", link):
        with pytest.raises(ValueError, match=r"dataset .*push is given twice; name it once"):
            open_datasets([recorded, again])


@pytest.mark.parametrize("names", [["moving:intercept"] * 2, ["moving:push", "moving:intercept", "moving:push"]])
def test_an_environment_that_is_given_twice_is_refused(names: list[str]):
    with pytest.raises(ValueError, match=rf"environment {names[0]} is given twice; .* its scenes would be counted"):
        expand_suites(names)


def test_a_study_counts_no_scene_twice():
    study: StudyConfig = load_study(STUDIES / "moving_intercept.yaml", None)
    object.__setattr__(study, "env", study.env * 2)
    with pytest.raises(ValueError, match=r"arm \w+: environment moving:intercept is given twice"):
        plan_jobs(study, STUDIES)


def test_a_camera_that_is_given_twice_is_refused():
    with pytest.raises(ValueError, match="camera a is given twice"):
        make_preset("tiny_system1", DataSpec(4, 4, 80.0, ("a", "b")), ("a", "a"))
