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
import subprocess
import sys
from pathlib import Path

import torch
from lerobot_exchange import write_ours
from lerobot_plugin import run

HERE = Path(__file__).parent


def make(folder: Path) -> tuple[Path, Path]:
    """A dataset and a new policy."""
    from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
    from lerobot.policies.factory import make_policy, make_pre_post_processors
    from lerobot_policy_video2act import Video2ActConfig

    data, video_model, saved = folder / "data", folder / "video", folder / "policy"
    write_ours(data, "video")
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
    """The actions that the robot got in five seconds."""
    log = folder / "actions.json"
    log.unlink(missing_ok=True)
    command = [
        str(Path(sys.executable).parent / "lerobot-rollout"),
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
    ]
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "STILL_ROBOT_LOG": str(log)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    said = done.stdout + done.stderr
    if done.returncode != 0 or "inference error" in said or not log.is_file():
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{said[-6000:]}")
    return json.loads(log.read_text())


def adapt(data: Path, policy: Path, folder: Path) -> Path:
    """Two steps of LoRA; the saved adapter."""
    out = folder / "adapted"
    shutil.rmtree(out, ignore_errors=True)
    run(
        "lerobot-train",
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
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data, policy = make(folder)
    rtc = ("--inference.type=rtc", "--inference.rtc.execution_horizon=8", "--inference.queue_threshold=8")
    for name, words in (("sync", ()), ("rtc", rtc), ("rtc_trained", (*rtc, "--policy.overlap=rtc_trained"))):
        actions = roll_out(policy, folder, *words)
        sizes = {len(action) for action in actions}
        assert sizes == {3}, sizes
        assert len(actions) > 10, f"{len(actions)} actions"
        assert torch.isfinite(torch.tensor(actions)).all()
        print(f"lerobot-rollout, {name}: {len(actions)} actions in 8 s at 20 Hz")
    if importlib.util.find_spec("peft") is None:
        print("peft is not installed: LoRA is skipped")
        return
    adapted = adapt(data, policy, folder)
    print(f"lerobot-rollout of the adapter: {len(roll_out(adapted, folder))} actions in 8 s")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
