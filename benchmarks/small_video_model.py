"""Is the training of a video model worth something to a policy? Preset `small`, from nothing, in pieces of ten minutes.

    python benchmarks/small_video_model.py --out runs/small          # again and again, until it says that all is done
    python benchmarks/small_video_model.py --out runs/small --shrunken    # in miniature, minutes on a CPU

1. Videos without actions of all 50 MetaWorld tasks and of ALOHA's two; demonstrations of push and pick-place.
2. The video model: VAE, then transformer (30 to 100 million parameters). A twin of random weights behind the same VAE.
3. Policies: System 1 alone; both systems; both over the random twin. Two seeds each, the same number of steps.
4. 50 episodes each, on scenes that no demonstration showed.

Nothing that is done is done again; a training goes on from its last checkpoint. `report.md` is written anew after each
piece: PSNR beside copying the last frame at each horizon, where the imagined clips are, and success with its 95 %
interval.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import monotonic

os.environ.setdefault("MUJOCO_GL", "egl")

import torch
import tyro

from video2act.config import PolicyConfig, ScratchConfig, TrainConfig, VideoTrainConfig
from video2act.data import open_dataset
from video2act.envs import list_environments
from video2act.evaluation.findings import SuccessRate
from video2act.files.run_folder import TRAINING_FILE
from video2act.presets import PRESETS, DataSpec, make_preset, small
from video2act.programs.collect import CollectionError, collect
from video2act.programs.evaluate import evaluate
from video2act.programs.train import train
from video2act.programs.train_video import train_video
from video2act.training.loop import TrainingPausedError
from video2act.training.resuming import FINISHED
from video2act.training.video_model_training import REPORT_FILE

TASKS = ("metaworld:push-v3", "metaworld:pick-place-v3")
CAMERAS = ("corner4", "gripperPOV")
VARIANTS = {"system1": "System 1 alone", "full": "both systems", "random": "both, video model of random weights"}


@dataclass(frozen=True)
class Settings:
    """What is run."""

    out: Path
    minutes: float = 10.0
    """of one piece; what has begun when they are over is finished, but for trainings, which stop with a checkpoint"""
    seeds: tuple[int, ...] = (0, 1)
    tasks: tuple[str, ...] = TASKS
    episodes: int = 50
    videos: int = 20
    """action-free episodes of each environment"""
    demonstrations: int = 100
    vae_steps: int = 20000
    video_steps: int = 40000
    policy_steps: int = 6000
    workers: int = 4
    """processes that evaluate"""
    shrunken: bool = False
    """three environments, a narrow model, a few steps, one seed, one episode: what it reports means nothing"""


@dataclass(frozen=True)
class Size:
    """What `shrunken` changes."""

    environments: tuple[str, ...]
    scratch: ScratchConfig
    video: VideoTrainConfig
    policy: TrainConfig
    preset: str


@dataclass(frozen=True)
class Piece:
    """Something to be done once."""

    name: str
    is_done: Callable[[], bool]
    run: Callable[[float], object]
    """with the minutes that are left"""


def size_of(settings: Settings) -> Size:
    environments = tuple(name for name in list_environments() if name.startswith(("metaworld:", "aloha:")))
    scratch = ScratchConfig(vae_steps=settings.vae_steps)
    video = VideoTrainConfig(
        num_steps=settings.video_steps,
        batch_size=16,
        learning_rate=3e-4,
        warmup_steps=500,
        save_every=1000,
        sizes_px=(128,),
    )
    policy = TrainConfig(num_steps=settings.policy_steps, learning_rate=5e-4, warmup_steps=200, save_every=500)
    if not settings.shrunken:
        return Size(environments, scratch, video, policy, "small")
    return Size(
        ("metaworld:push-v3", "metaworld:reach-v3", "aloha:transfer_cube"),
        ScratchConfig(hidden=24, depth=8, num_heads=2, vae_width=4, text_dim=16, vae_steps=3),
        VideoTrainConfig(num_steps=3, batch_size=2, learning_rate=3e-4, warmup_steps=1, num_frames=9, sizes_px=(32,)),
        TrainConfig(num_steps=2, batch_size=2, learning_rate=5e-4, warmup_steps=1),
        "shrunken",
    )


def shrunken_preset(data: DataSpec) -> PolicyConfig:
    """`small` with small pictures, short clips and a narrow System 1."""
    policy = small(data)
    assert policy.system2 is not None
    spatial, motion = policy.system2.streams
    former = replace(motion.former, num_tokens=4, depth=1)
    streams = (
        replace(spatial, size_px=32, former=former),
        replace(motion, size_px=32, num_frames=9, former=former),
    )
    system1 = replace(policy.system1, hidden=64, depth=2)
    return replace(policy, image_px=32, system1=system1, system2=replace(policy.system2, streams=streams))


def shrunken_system1(data: DataSpec) -> PolicyConfig:
    return replace(shrunken_preset(data), system2=None)


def is_trained(folder: Path) -> bool:
    settings = folder / TRAINING_FILE
    return settings.is_file() and bool(json.loads(settings.read_text()).get(FINISHED))


def pieces(settings: Settings, size: Size) -> Iterator[Piece]:
    """In the order in which they need each other."""
    out, device = settings.out, "cuda" if torch.cuda.is_available() else "cpu"
    videos = {env: out / "videos" / env.replace(":", "_") for env in size.environments}
    for env, folder in videos.items():
        yield Piece(f"videos of {env}", partial(_is_recorded, folder), partial(_record_videos, env, folder, settings))
    for env in settings.tasks:
        folder = out / "demonstrations" / env.replace(":", "_")
        yield Piece(
            f"demonstrations of {env}", partial(_is_recorded, folder), partial(_demonstrate, env, folder, settings)
        )
    model = out / "video_model"
    for name, steps in (("video_model", size.video.num_steps), ("random_model", 0)):
        scratch = size.scratch if steps else replace(size.scratch, vae=str(model))
        run = partial(_train_video, videos, out / name, replace(size.video, num_steps=steps), scratch)
        yield Piece(name.replace("_", " "), partial(is_trained, out / name), run)
    for seed in settings.seeds:
        for env in settings.tasks:
            for variant in VARIANTS:
                policy = out / "policies" / f"{variant}_{env.partition(':')[2]}_{seed}"
                yield Piece(
                    f"policy {policy.name}",
                    partial(is_trained, policy),
                    partial(_train_policy, env, variant, policy, replace(size.policy, seed=seed), size.preset, out),
                )
                result = out / "results" / policy.name
                run = partial(_evaluate, policy, env, settings, device, result)
                yield Piece(f"evaluation of {policy.name}", (result / "eval_info.json").is_file, run)


def _is_recorded(folder: Path) -> bool:
    return (folder / "recorded").is_file()


def _record_videos(env: str, folder: Path, settings: Settings, minutes: float) -> None:
    try:
        # joint targets of two arms bear no disturbance
        collect(
            env, folder, episodes=settings.videos, noise=0.1 if env.startswith("metaworld:") else 0.0, videos_only=True
        )
    except CollectionError as error:
        # one expert less is worth a line in the report, not the end of two hours
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "left_out").write_text(f"{error}\n")
    (folder / "recorded").touch()


def _demonstrate(env: str, folder: Path, settings: Settings, minutes: float) -> None:
    collect(env, folder, episodes=settings.demonstrations, cameras=CAMERAS, noise=0.1)
    (folder / "recorded").touch()


def _train_video(
    videos: dict[str, Path], out: Path, config: VideoTrainConfig, scratch: ScratchConfig, minutes: float
) -> None:
    data = [open_dataset(folder) for folder in videos.values() if not (folder / "left_out").is_file()]
    has_begun = (out / TRAINING_FILE).is_file() or (out / "vae_training" / TRAINING_FILE).is_file()
    limited = replace(config, max_minutes=minutes)
    train_video(data, out=out, training=limited, backbone=scratch, resume=has_begun)


def _train_policy(
    env: str, variant: str, out: Path, config: TrainConfig, preset: str, root: Path, minutes: float
) -> None:
    data = open_dataset(root / "demonstrations" / env.replace(":", "_"))
    video_model = {"full": root / "video_model", "random": root / "random_model"}.get(variant)
    name = preset if video_model else f"{preset}_system1"
    resume = (out / TRAINING_FILE).is_file()
    limited = replace(config, max_minutes=minutes)
    train(make_preset(name, data, CAMERAS), data, out=out, training=limited, video_model=video_model, resume=resume)


def _evaluate(policy: Path, env: str, settings: Settings, device: str, out: Path, minutes: float) -> None:
    evaluate(
        policy,
        env,
        episodes=settings.episodes,
        seed=1000,
        workers=settings.workers,
        num_videos=2,
        out=out,
        device=device,
    )


def report(settings: Settings, size: Size) -> str:
    """What is known so far, as markdown."""
    out, lines = settings.out, ["# A video model of the middle size", ""]
    path = out / "video_model" / REPORT_FILE
    if path.is_file():
        found = json.loads(path.read_text())
        lines += [f"{found['num_clips']} unseen clips; PSNR in dB; the codec alone {found['codec']:.1f}.", ""]
        lines += ["| latent frames given | ahead | model | copy the last frame | over copying | codec bound |"]
        lines += ["|---|---|---|---|---|---|"]
        for row in found["predictions"]:
            over = row["model"] - row["copy_last"]
            numbers = f"{row['model']:.1f} | {row['copy_last']:.1f} | {over:+.1f} | {row['codec']:.1f}"
            lines.append(f"| {row['num_clean']} | {row['horizon']} | {numbers} |")
        lines += ["", f"Imagined clips below the true ones: `{out / 'video_model' / 'prediction.mp4'}`.", ""]
    left_out = sorted(path.parent.name for path in (out / "videos").glob("*/left_out"))
    if left_out:
        lines += [f"Without videos, because the expert failed: {', '.join(left_out)}.", ""]
    for env in settings.tasks:
        lines += [
            f"| {env} | " + " | ".join(f"seed {seed}" for seed in settings.seeds) + " | together (95 % interval) |"
        ]
        lines += ["|" + "---|" * (len(settings.seeds) + 2)]
        for variant, title in VARIANTS.items():
            paths = [
                out / "results" / f"{variant}_{env.partition(':')[2]}_{seed}" / "eval_info.json"
                for seed in settings.seeds
            ]
            counts = [
                json.loads(p.read_text())["overall"]["success"]["successes"] if p.is_file() else None for p in paths
            ]
            known = [count for count in counts if count is not None]
            cells = " | ".join("-" if count is None else f"{count}/{settings.episodes}" for count in counts)
            together = str(SuccessRate(sum(known), len(known) * settings.episodes)) if known else "-"
            lines.append(f"| {title} | {cells} | {together} |")
        lines.append("")
    return "\n".join(lines)


def main(settings: Settings) -> bool:
    """Work for `minutes`; whether all is done."""
    if settings.shrunken:
        PRESETS.update(shrunken=shrunken_preset, shrunken_system1=shrunken_system1)
        settings = replace(settings, seeds=(0,), tasks=TASKS[:1], episodes=1, videos=2, demonstrations=2, workers=1)
    started, size = monotonic(), size_of(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    for piece in pieces(settings, size):
        if piece.is_done():
            continue
        left = settings.minutes - (monotonic() - started) / 60
        if left <= 0:
            print(f"{settings.minutes:g} minutes are over; next: {piece.name}. Run the same command again.")
            return False
        print(f"== {piece.name}", flush=True)
        try:
            piece.run(left)
        except TrainingPausedError as pause:
            print(f"{pause}. Run the same command again.")
            return False
        (settings.out / "report.md").write_text(report(settings, size))
    print(report(settings, size))
    print(f"all is done: {settings.out / 'report.md'}")
    return True


if __name__ == "__main__":
    main(tyro.cli(Settings))
