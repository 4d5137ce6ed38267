"""LeRobot's own MetaWorld evaluation runs the plugin: run by `make test-interop`.

    python tests/interop/lerobot_metaworld.py FOLDER

A policy with both systems and random weights; `lerobot-eval --env.type=metaworld` plays one short episode. LIBERO is
not run: LeRobot's `hf-libero` downloads its meshes from a hub.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import torch
from lerobot_exchange import write_ours
from lerobot_plugin import run

SIZES = {"observation.state": 4, "action": 4}


def make(folder: Path) -> Path:
    """A saved policy that sees what LeRobot's MetaWorld gives: one camera of 480 px, four numbers each."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.factory import make_pre_post_processors
    from lerobot_policy_video2act import Video2ActConfig
    from lerobot_policy_video2act.modeling_video2act import Video2ActPolicy

    write_ours(folder / "data", "video")
    video_model, saved = folder / "video", folder / "policy"
    run("video2act", "train-video", "--data", str(folder / "data"), "--out", str(video_model), "--num-steps", "2")
    config = Video2ActConfig(
        input_features={
            "observation.image": PolicyFeature(FeatureType.VISUAL, (3, 480, 480)),
            "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (4,))},
        video_model=str(video_model),
        fps=80.0,
        device="cpu",
        push_to_hub=False,
    )
    values = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0}
    stats = {key: {name: torch.full((size,), each) for name, each in values.items()} for key, size in SIZES.items()}
    Video2ActPolicy(config, stats).save_pretrained(saved)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(saved)
    return saved


def main(folder: Path) -> None:
    if importlib.util.find_spec("metaworld") is None:
        print("metaworld is not installed: skipped")
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    policy = make(folder)
    run(
        "lerobot-eval",
        f"--policy.path={policy}",
        "--policy.device=cpu",
        "--env.type=metaworld",
        "--env.task=push-v3",
        "--env.episode_length=20",
        "--eval.n_episodes=1",
        "--eval.batch_size=1",
        "--eval.use_async_envs=false",
        f"--output_dir={folder / 'eval'}",
    )
    overall = json.loads((folder / "eval" / "eval_info.json").read_text())["overall"]
    assert overall["n_episodes"] == 1, overall
    print(f"lerobot-eval of metaworld: {overall['n_episodes']} episode, {overall['pc_success']:.0f} % success")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
