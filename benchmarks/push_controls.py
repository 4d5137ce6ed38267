"""What each part is worth on push: the full policy and its controls, several training seeds each, the same scenes.

    python benchmarks/push_controls.py --out runs/push_controls

Controls: System 1 alone; the full policy on a video model with random weights; on the codec's latents instead of the
video model's features; a policy trained blind; and the full policy shown nothing. All are trained for the same number
of steps. Two of one thread each run side by side, which on two cores gets more done than one job of two threads. Jobs
that are done are not repeated, so an interrupted run goes on; the table is written anew after each job.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import tyro

from video2act.config import TrainConfig
from video2act.data import open_dataset
from video2act.evaluation.findings import SuccessRate
from video2act.presets import make_preset
from video2act.programs.evaluate import evaluate
from video2act.programs.train import train
from video2act.programs.train_video import train_video

ENV = "metaworld:push-v3"


@dataclass(frozen=True)
class Variant:
    """A row of the table."""

    title: str
    preset: str
    video_model: str | None
    is_shown_nothing: bool = False


VARIANTS = {
    "full": Variant("both systems", "tiny", "trained"),
    "system1": Variant("System 1 alone", "tiny_system1", None),
    "random": Variant("both, random-weight video model", "tiny", "random"),
    "latents": Variant("both, codec latents for features", "tiny_latents", "random"),
    "blind": Variant("trained blind (text and state)", "tiny_blind", None),
    "full_blinded": Variant("both systems, shown nothing", "tiny", "trained", is_shown_nothing=True),
}


@dataclass(frozen=True)
class Settings:
    """What is run."""

    out: Path
    data: Path | None = None
    """demonstrations; recorded into `out` if left out"""
    seeds: tuple[int, ...] = (0, 1, 2)
    demonstrations: int = 100
    video_steps: int = 500
    policy_steps: int = 1500
    episodes: int = 50
    variants: tuple[str, ...] = tuple(VARIANTS)


def run_job(settings: Settings, data: Path, name: str, seed: int) -> tuple[str, int]:
    """Train one variant with one seed, unless that is done, and evaluate it."""
    variant = VARIANTS[name]
    policy = settings.out / f"{variant.preset}_{variant.video_model}_{seed}"
    result = settings.out / f"result_{name}_{seed}"
    video_model = settings.out / f"video_{variant.video_model}" if variant.video_model else None
    if not (policy / "model.safetensors").is_file():
        config = TrainConfig(num_steps=settings.policy_steps, seed=seed)
        opened = open_dataset(data)
        train(
            make_preset(variant.preset, opened),
            opened,
            out=policy,
            training=config,
            video_model=video_model,
            resume=(policy / "training.json").is_file(),
        )
    if not (result / "eval_info.json").is_file():
        evaluate(
            policy,
            ENV,
            episodes=settings.episodes,
            seed=1000,
            blind=variant.is_shown_nothing,
            workers=1,
            num_videos=0,
            out=result,
        )
    return name, seed


def table(settings: Settings) -> str:
    """Successes per seed, pooled with their Wilson interval, as markdown."""
    lines = ["| policy | " + " | ".join(f"seed {seed}" for seed in settings.seeds) + " | pooled (95 % interval) |"]
    lines.append("|" + "---|" * (len(settings.seeds) + 2))
    for name in settings.variants:
        counts = []
        for seed in settings.seeds:
            path = settings.out / f"result_{name}_{seed}" / "eval_info.json"
            counts.append(json.loads(path.read_text())["overall"]["success"]["successes"] if path.is_file() else None)
        known = [count for count in counts if count is not None]
        if not known:
            continue
        cells = " | ".join("-" if count is None else f"{count}/{settings.episodes}" for count in counts)
        pooled = SuccessRate(sum(known), len(known) * settings.episodes)
        lines.append(f"| {VARIANTS[name].title} | {cells} | {pooled} |")
    return "\n".join(lines) + "\n"


def main(settings: Settings) -> None:
    from video2act.programs.collect import collect

    settings.out.mkdir(parents=True, exist_ok=True)
    data = settings.data or settings.out / "data"
    if settings.data is None:
        collect(ENV, data, episodes=settings.demonstrations, noise=0.1)
    for label, steps in (("trained", settings.video_steps), ("random", 0)):
        folder = settings.out / f"video_{label}"
        if not (folder / "model.safetensors").is_file():
            train_video(open_dataset(data), out=folder, num_steps=steps)
    # the first seed of every variant first: it also fills the caches that the others read
    jobs = [
        (name, seed) for seed in settings.seeds for name in settings.variants if not VARIANTS[name].is_shown_nothing
    ]
    jobs += [(name, seed) for seed in settings.seeds for name in settings.variants if VARIANTS[name].is_shown_nothing]
    with ProcessPoolExecutor(2, get_context("spawn"), max_tasks_per_child=1) as pool:
        futures = [pool.submit(run_job, settings, data, name, seed) for name, seed in jobs]
        for future in as_completed(futures):
            name, seed = future.result()
            (settings.out / "table.md").write_text(table(settings))
            print(f"done: {VARIANTS[name].title}, seed {seed}\n{table(settings)}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings))
