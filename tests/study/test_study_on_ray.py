"""A study on a Ray cluster: the real commands, with the results that local workers give."""

import json
from pathlib import Path

import pytest

from video2act.config.study import StudyOptions
from video2act.programs.study import study

WEIGHTS = Path(__file__).parents[2] / "weights/moving_intercept"
SCENES = 2


@pytest.mark.slow
def test_ray_gives_what_local_workers_give(tmp_path: Path):
    pytest.importorskip("ray")
    arms = {"seeing": {"policy": str(WEIGHTS)}, "blind": {"policy": str(WEIGHTS), "evaluate": {"blind": True}}}
    content = {
        "name": "small",
        "env": ["moving:intercept"],
        "arms": arms,
        "seeds": [0],
        "scenes": {"seed": 5000, "episodes": SCENES},
        "primary": {"arm": "seeing", "than": "blind"},
    }
    (tmp_path / "study.yaml").write_text(json.dumps(content))  # json is yaml
    found = {}
    for pool in "local", "ray":
        out = tmp_path / pool
        study(StudyOptions(study=tmp_path / "study.yaml", out=out, workers=2, pool=pool))
        result = json.loads((out / "results.json").read_text())
        assert {arm: len(scenes["0"]) for arm, scenes in result["scenes"].items()} == dict.fromkeys(arms, SCENES)
        found[pool] = {
            arm: json.loads((out / f"evaluations/{arm}_seed0/eval_info.json").read_text())["per_task"][0]["metrics"]
            for arm in arms
        }
        record = json.loads((out / "jobs/eval_blind_seed0.json").read_text())
        assert record["finished"]
    assert found["ray"] == found["local"]
