"""`lerobot-rollout` and PEFT drive the plugin: run by `make test-interop`; LeRobot 0.4 has no rollout, and is skipped.

    python tests/interop/lerobot_rollout.py FOLDER

A policy with both systems and random weights acts on a robot that stands still: called at every control step, and with
real-time chunking in LeRobot's thread. Then `lerobot-train --peft.method_type=lora` adapts it, and the adapted policy
acts. Prints a line per check and ends with an error at the first that fails.
"""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from lerobot_exchange import write_ours
from lerobot_plugin import run


def call(main: Callable[[], object], *words: str) -> None:
    """A command of LeRobot in this process: importing it anew each time takes much longer."""
    print("$", main.__module__.rpartition(".")[2], *words, flush=True)
    with patch.object(sys, "argv", [main.__module__, *words]):
        main()


def make(folder: Path) -> tuple[Path, Path]:
    """A dataset and a new policy; what is there already is kept."""
    from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot_policy_video2act import Video2ActConfig

    data, video_model, saved = folder / "data", folder / "video", folder / "policy"
    if not (data / "meta" / "info.json").is_file():
        write_ours(data, "video")
    if not (video_model / "model.safetensors").is_file():
        run("video2act", "train-video", "--data", str(data), "--out", str(video_model), "--num-steps", "2")
    meta = LeRobotDatasetMetadata("local/rollout", root=data)
    config = Video2ActConfig(
        video_model=str(video_model), device="cpu", push_to_hub=False, rtc_training_max_delay=6, refresh_every=4
    )
    policy = make_policy(config, ds_meta=meta)
    policy.save_pretrained(saved)
    for processor in make_pre_post_processors(policy.config, dataset_stats=meta.stats):
        processor.save_pretrained(saved)
    return data, saved


def roll_out(policy: Path, folder: Path, *words: str) -> list[list[float]]:
    """The actions that the robot got in eight seconds."""
    from lerobot.scripts.lerobot_rollout import main as rollout_main

    log = folder / "actions.json"
    log.unlink(missing_ok=True)
    with patch.dict(os.environ, STILL_ROBOT_LOG=str(log)):
        call(
            rollout_main,
            "--strategy.type=base",
            f"--policy.path={policy}",
            "--policy.device=cpu",
            "--robot.discover_packages_path=still_robot",
            "--robot.type=still",
            "--task=push the block",
            "--fps=20",
            "--duration=8",
            "--play_sounds=false",
            "--return_to_initial_position=false",
            *words,
        )
    return json.loads(log.read_text())


def adapt(data: Path, policy: Path, folder: Path) -> Path:
    """Two steps of LoRA; the saved adapter."""
    from lerobot.scripts.lerobot_train import main as train_main

    out = folder / "adapted"
    shutil.rmtree(out, ignore_errors=True)
    call(
        train_main,
        f"--policy.path={policy}",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--peft.method_type=LORA",
        "--peft.r=4",
        "--dataset.repo_id=local/rollout",
        f"--dataset.root={data}",
        f"--output_dir={out}",
        "--steps=2",
        "--save_freq=2",
        "--batch_size=2",
        "--num_workers=0",
        "--wandb.enable=false",
    )
    saved = out / "checkpoints" / "last" / "pretrained_model"
    assert (saved / "adapter_model.safetensors").is_file(), sorted(path.name for path in saved.iterdir())
    return saved


def main(folder: Path) -> None:
    if importlib.util.find_spec("lerobot.rollout") is None:
        print("this LeRobot has no lerobot-rollout: skipped")
        return
    folder.mkdir(parents=True, exist_ok=True)
    data, policy = make(folder)
    rtc = ("--inference.type=rtc", "--inference.rtc.execution_horizon=8", "--inference.queue_threshold=8")
    for name, words in (("sync", ()), ("rtc", rtc), ("rtc_trained", (*rtc, "--policy.overlap=rtc_trained"))):
        actions = roll_out(policy, folder, *words)
        sizes = {len(action) for action in actions}
        assert sizes == {3}, sizes
        assert len(actions) > 10, f"{len(actions)} actions"
        assert torch.isfinite(torch.tensor(actions)).all()
        print(f"lerobot-rollout, {name}: {len(actions)} actions in 8 s at 20 Hz", flush=True)
    if importlib.util.find_spec("peft") is None:
        print("peft is not installed: LoRA is skipped")
        return
    adapted = adapt(data, policy, folder)
    print(f"lerobot-rollout of the adapter: {len(roll_out(adapted, folder))} actions in 8 s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
