"""The plugin under the real `lerobot`: run by `make test-interop` in a virtual environment that holds lerobot,
video2act and lerobot_policy_video2act.

    python tests/interop/lerobot_plugin.py FOLDER

Records demonstrations of ALOHA, trains a video model, then 20 steps of `lerobot-train` and 2 episodes of
`lerobot-eval`, all through the commands that a user would type; then looks closer: what the plugin makes of a batch is
what our own loader makes of it, what is loaded acts as what was saved, and damaged weights are refused. Prints one line
per check and ends with an error at the first that fails.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

ENV = "aloha:transfer_cube"


def run(*words: str) -> str:
    """A command of this virtual environment; its output, or an error that shows it."""
    command = [str(Path(sys.executable).parent / words[0]), *words[1:]]
    environment = {**os.environ, "MUJOCO_GL": "egl", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
        )
    return done.stdout + done.stderr


def train_and_evaluate(folder: Path) -> tuple[Path, Path]:
    """Through the commands; the dataset and the saved policy."""
    data, video_model, out = folder / "data", folder / "video", folder / "train"
    if not (data / "meta" / "info.json").is_file():
        run(
            "video2act",
            "collect",
            "--env",
            ENV,
            "--cameras",
            "top",
            "--out",
            str(data),
            "--episodes",
            "2",
            "--workers",
            "1",
        )
    if not (video_model / "model.safetensors").is_file():
        run("video2act", "train-video", "--data", str(data), "--out", str(video_model), "--num-steps", "5")
    shutil.rmtree(out, ignore_errors=True)
    log = run(
        "lerobot-train",
        "--policy.type=video2act",
        "--policy.fps=50",
        f"--policy.video_model={video_model}",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--dataset.repo_id=local/aloha",
        f"--dataset.root={data}",
        f"--output_dir={out}",
        "--steps=20",
        "--save_freq=20",
        "--log_freq=5",
        "--batch_size=4",
        "--num_workers=0",
        "--wandb.enable=false",
    )
    losses = [line.split("loss:")[1].split()[0] for line in log.splitlines() if "loss:" in line]
    saved = out / "checkpoints" / "last" / "pretrained_model"
    print(
        f"lerobot-train: 20 steps, losses {', '.join(losses)}; files "
        f"{', '.join(sorted(file.name for file in saved.iterdir()))}"
    )
    assert len(losses) == 4, log[-3000:]
    shutil.rmtree(folder / "eval", ignore_errors=True)
    run(
        "lerobot-eval",
        f"--policy.path={saved}",
        "--policy.device=cpu",
        "--policy.instruction=transfer the cube",
        "--env.type=aloha",
        "--env.episode_length=60",
        "--eval.n_episodes=2",
        "--eval.batch_size=2",
        "--eval.use_async_envs=false",
        f"--output_dir={folder / 'eval'}",
    )
    overall = json.loads((folder / "eval" / "eval_info.json").read_text())["overall"]
    assert overall["n_episodes"] == 2, overall
    print(
        f"lerobot-eval: {overall['n_episodes']} episodes, {overall['pc_success']:.0f} % success (20 steps teach "
        "nothing)"
    )
    return data, saved


def same_batches(data: Path, saved: Path) -> None:
    """LeRobot's loader and the plugin against our own loader, at the same frames."""
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.datasets.lerobot_dataset import LeRobotDataset as Theirs
    from lerobot_policy_video2act.batches import training_batch

    from video2act.data import FrameStore, LeRobotDataset
    from video2act.data.batches import BatchLoader

    config: Any = PreTrainedConfig.from_pretrained(saved)
    policy = replace(config.plan(), max_staleness_steps=0)
    own = LeRobotDataset(data)
    loader = BatchLoader(own, FrameStore(own), config=policy, batch_size=6, seed=0)
    expected, places = loader[0], loader.places(0)
    deltas = {f"observation.images.{camera}": config.observation_delta_indices for camera in policy.all_cameras}
    deltas |= {"observation.state": config.observation_delta_indices, "action": config.action_delta_indices}
    theirs = Theirs("local/aloha", root=data, delta_timestamps={k: [i / own.fps for i in v] for k, v in deltas.items()})
    offset = np.concatenate([[0], np.cumsum(own.lengths)])
    items = [theirs[int(offset[episode]) + frame] for episode, frame in places]
    collated = torch.utils.data.default_collate(items)
    found = training_batch(collated, policy, generator=torch.Generator().manual_seed(0))
    largest = 0.0
    for name, video in expected.videos.items():
        assert found.videos[name].fps == video.fps
        largest = max(largest, float((found.videos[name].grid - video.grid).abs().max()))
    for camera, image in expected.images.items():
        largest = max(largest, float((found.images[camera] - image).abs().max()))
    # one level of 255, should their decoder round differently
    assert largest <= 2 / 255 + 1e-6, largest
    assert torch.allclose(found.state, expected.state)
    real = ~expected.action_is_pad
    assert torch.equal(found.action_is_pad, expected.action_is_pad)
    assert torch.allclose(found.actions[real], expected.actions[real])
    assert found.instruction == expected.instruction
    print(
        f"training batch: {len(places)} samples equal our own loader's; pixels differ by {largest * 127.5:.2f} of 255 "
        "at most"
    )


def saved_and_loaded(saved: Path, folder: Path) -> None:
    """What is loaded acts as what was saved, as a policy of LeRobot and as a Video2Act; damage is refused."""
    from lerobot_policy_video2act.modeling_video2act import Video2ActPolicy

    policy = Video2ActPolicy.from_pretrained(saved)
    size = policy.model.config
    highest = json.loads((saved.parents[3] / "data" / "meta" / "stats.json").read_text())["action"]["max"]
    assert np.allclose(policy.model.statistics["action"].max, highest), "the statistics must come with a checkpoint"
    generator = torch.Generator().manual_seed(0)
    batch = {
        f"observation.images.{camera}": torch.rand(2, 3, 480, 640, generator=generator) for camera in size.all_cameras
    }
    batch |= {
        "observation.state": torch.rand(2, size.state_dim, generator=generator),
        "task": ["transfer the cube"] * 2,
    }

    def chunk(of: Video2ActPolicy) -> torch.Tensor:
        of.reset()
        of.model.seed(0)
        return of.predict_action_chunk(batch)

    first = chunk(policy)
    assert first.shape == (2, size.horizon, size.action_dim)
    assert torch.equal(first, chunk(policy)), "the same episode twice must give the same plan"
    policy.save_pretrained(folder / "again")
    assert torch.equal(first, chunk(Video2ActPolicy.from_pretrained(folder / "again")))
    refreshes = []
    policy.reset()
    for _ in range(2 * size.refresh_every + 1):
        action = policy.select_action(batch)
        refreshes.append(len(policy._runners[0].policy.times.perceive_s))
    assert action.shape == (2, size.action_dim)
    assert refreshes[-1] == 3, "System 2 must look at control steps 0, n and 2n"
    print(f"saved and loaded: equal plans; System 2 looked {refreshes[-1]} times in {len(refreshes)} control steps")

    weights = load_file(folder / "again" / "model.safetensors")
    removed = sorted(weights)[0]
    save_file(
        {name: tensor for name, tensor in weights.items() if name != removed}, folder / "again" / "model.safetensors"
    )
    complaint = ""
    try:
        Video2ActPolicy.from_pretrained(folder / "again")
    except ValueError as error:
        complaint = str(error)
    assert removed in complaint, (
        f"a checkpoint without {removed} was loaded, or refused without naming it: {complaint!r}"
    )
    print(f"a checkpoint without {removed} is refused")


def main(folder: Path) -> None:
    import lerobot

    folder.mkdir(parents=True, exist_ok=True)
    print(f"lerobot {lerobot.__version__}, torch {torch.__version__}, python {sys.version.split()[0]}")
    data, saved = train_and_evaluate(folder)
    # the command did this for itself
    import lerobot_policy_video2act  # noqa: F401

    same_batches(data, saved)
    saved_and_loaded(saved, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
