"""`video2act VERB`: the verbs are functions of this file; each calls one program. Programs are imported when they are needed."""

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from video2act.config import BackboneConfig, ScratchConfig, System1Sources, TrainConfig, TuningConfig, VideoTrainConfig


def collect(
    env: str,
    out: Path,
    episodes: int = 50,
    seed: int = 0,
    cameras: tuple[str, ...] | None = None,
    image_size: int = 128,
    noise: float = 0.0,
    workers: int | None = None,
    videos_only: bool = False,
    max_steps: int | None = None,
) -> None:
    """Record a scripted expert into a LeRobotDataset v3.0 folder. Run again to go on after an interruption.

    Args:
        env: metaworld:push-v3, aloha:transfer_cube, ...
        out: dataset folder.
        episodes: how many the dataset shall hold.
        seed: of the first episode; the others count up.
        cameras: the environment's usual ones, if left out.
        image_size: pixels.
        noise: standard deviation of the disturbance on executed actions; recorded actions stay clean.
        workers: processes; one per core, if left out.
        videos_only: leave the actions out, for train-video.
        max_steps: control steps after which an episode counts as failed.
    """
    from video2act import collect as program

    done = program.collect(env, out, episodes, seed, cameras, image_size, noise, workers, videos_only, max_steps)
    print(
        f"{done.dataset}: {done.num_episodes} episodes, {done.num_recorded} recorded now in {done.duration_s:.0f} s; "
        f"the expert failed on {len(done.failed_seeds)} seeds, which were left out"
    )


def info(what: Positional[Path]) -> None:
    """Describe a dataset, or the video model of a preset: parameters, memory, tokens.

    Args:
        what: a LeRobotDataset v3.0 folder, or the name of a preset.
    """
    from video2act.describe import describe_dataset, describe_preset
    from video2act.presets import PRESETS

    is_preset = str(what) in PRESETS and not what.exists()
    print(describe_preset(str(what)) if is_preset else describe_dataset(what), end="")


def train_video(
    data: tuple[Path, ...],
    out: Path,
    training: Annotated[VideoTrainConfig, OmitArgPrefixes],
    backbone: BackboneConfig,
    scratch: ScratchConfig,
    tuning: TuningConfig = TuningConfig("full"),  # noqa: B008
    preset: str = "tiny",
    video_model: Path | None = None,
    camera: str | None = None,
    resume: bool = False,
) -> None:
    """Train a video model on the frames of datasets; actions are not needed.

    Args:
        data: dataset folders, of any robots.
        out: folder to write.
        backbone: the model of the preset tiny.
        scratch: the model of the preset small.
        tuning: what of a published model is trained.
        preset: whose video model: tiny and small are trained from nothing, the others (wan22_5b, ...) are finetuned.
        video_model: where the published model lies, if not at the preset's source; it may be finetuned already.
        camera: the camera to learn; the first of each dataset, if left out.
        resume: go on from the newest checkpoint in `out`.
    """
    from video2act import train_video as program

    program.train_video(data, out, training, program.chosen(preset, video_model, backbone, scratch), camera, resume, tuning)


def train(
    data: tuple[Path, ...],
    out: Path,
    training: Annotated[TrainConfig, OmitArgPrefixes],
    system1: System1Sources,
    tuning: TuningConfig,
    preset: str = "tiny",
    video_model: Path | None = None,
    cameras: tuple[str, ...] | None = None,
    resume: bool = False,
) -> None:
    """Train a policy on demonstrations. For several processes: accelerate launch -m video2act.cli train ...

    Args:
        data: dataset folders, all of one robot.
        out: run folder to write.
        preset: tiny, tiny_latents, tiny_system1, tiny_blind, small, small_system1, rdt_1b, official, or one named after a
            published video model: wan21_1b, wan21_14b, wan22_5b, hunyuan, cogvideox, ltx, cosmos, wan22_5b_rdt_1b.
        tuning: what of the video model is trained with the policy; frozen, if left out.
        video_model: a folder written by train-video, or of the published video model that the preset names.
        cameras: what the policy looks through, System 2's first; all of the dataset's, if left out.
        resume: go on from the newest checkpoint in `out`.
    """
    from video2act import train as program

    program.train(data, out, training, preset, video_model, cameras, resume, system1, tuning)


def evaluate(
    run: Positional[Path],
    env: tuple[str, ...],
    episodes: int = 50,
    seed: int = 1000,
    refresh_every: int | None = None,
    system2: Literal["inline", "thread"] = "inline",
    blind: bool = False,
    instruction: str | None = None,
    workers: int = 2,
    num_videos: int = 2,
    out: Path | None = None,
    device: str = "cpu",
) -> None:
    """Let a policy act in simulators; success with its interval, the expert's on the same seeds, latency, staleness, films.

    Args:
        run: the policy's run folder.
        env: metaworld:push-v3, ...; several may be given.
        episodes: per environment.
        seed: of the first episode; keep clear of the training seeds.
        refresh_every: control steps between refreshes of System 2; as trained, if left out.
        system2: inline is reproducible, thread runs System 2 beside System 1.
        blind: the control that is shown no image and no video.
        instruction: the control that is told something else.
        workers: processes.
        num_videos: films per environment.
        out: folder to write; one inside the run folder, if left out.
        device: where the policy runs.
    """
    from video2act import evaluate as program

    program.evaluate(
        run, list(env), episodes, seed, refresh_every, system2, blind, instruction, workers, num_videos, out, device=device
    )


def view(run: Positional[Path], dataset: Path, out: Path, episode: int = 0) -> None:
    """Film what System 2 sees in an episode of a dataset: the camera, boundaries and motion.

    Args:
        run: the policy's run folder.
        dataset: dataset folder.
        out: the mp4 to write.
        episode: its number.
    """
    from video2act import view as program

    print(program.view(run, dataset, episode, out))


def bench(
    what: Positional[Literal["stages", "loader"]] = "stages",
    run: Path | None = None,
    data: tuple[Path, ...] = (),
    preset: str = "tiny",
    device: str = "cpu",
) -> None:
    """Time each stage and the reuse of keys and values; or (loader) whether data keeps up with training.

    Args:
        what: stages or loader.
        run: a policy's run folder; without it, the preset with random weights.
        data: dataset folders, for the loader.
        preset: of the policy.
        device: cpu, cuda, ...
    """
    from video2act import bench as program

    if what == "loader":
        if not data:
            raise ValueError("bench loader reads a dataset; name it with --data")
        program.bench_loader(data, preset)
    else:
        program.bench_stages(run, preset, device)
        program.bench_kv_reuse(device=device)


def convert(
    what: Positional[Literal["official"]],
    checkpoint: Positional[Path],
    out: Path,
    settings: Path,
    video_model: Path,
    ema: bool = False,
    norm: Literal["variance", "rms"] = "variance",
    rgb_latents: bool = False,
    feature_layer: int = 20,
    text_encoder: str = "google/t5-v1_1-xxl",
    text_cache: str = "",
    image_encoder: str = "google/siglip-so400m-patch14-384",
    cameras: tuple[str, ...] = ("cam_high", "cam_right_wrist", "cam_left_wrist"),
    fps: float = 25.0,
) -> None:
    """Turn a checkpoint of the released Video2Act code into a run folder of ours.

    Args:
        what: official, the released code.
        checkpoint: its file or folder: pytorch_model.bin, DeepSpeed's mp_rank_00_model_states.pt, or a folder with one of them.
        out: run folder to write.
        settings: the yaml it was trained with.
        video_model: folder of the video model it was trained on; the checkpoint does not hold it.
        ema: the moving average instead of the weights.
        norm: variance, as timm 1.0.3 computes it; rms, if it was trained where NVIDIA's APEX was installed.
        rgb_latents: its latents were made of frames in the right colour order, not, as by its scripts, with red and blue swapped.
        feature_layer: blocks of the video model that run.
        text_encoder: folder or repo id of its T5.
        text_cache: folder of text embeddings.
        image_encoder: folder or repo id of its SigLIP.
        cameras: head, right, left, as the robot calls them.
        fps: control steps per second.
    """
    from video2act.interop import official as program
    from video2act.interop.released_config import Sources

    config = program.convert_official(
        checkpoint,
        out,
        settings,
        video_model,
        ema=ema,
        norm=norm,
        bgr_latents=not rgb_latents,
        feature_layer=feature_layer,
        sources=Sources(text_encoder, text_cache, image_encoder),
        robot=program.Robot(fps, cameras),
    )
    assert config.system2 is not None
    described = ", ".join(f"{stream.name} ({stream.former.kind})" for stream in config.system2.streams)
    print(f"policy: {out}   streams: {described}   horizon: {config.horizon}")


def demo(out: Path, name: str = "push", seed: int = 0) -> None:
    """The whole path: collect, train-video, train, eval. Run again to go on after an interruption.

    Args:
        out: folder for data, models, film and summary.
        name: push, or three_tasks for one policy with three instructions.
        seed: of both trainings.
    """
    from video2act import demo as program

    program.demo(name, out, seed)


VERBS = {
    "collect": collect,
    "info": info,
    "train-video": train_video,
    "train": train,
    "eval": evaluate,
    "view": view,
    "bench": bench,
    "convert": convert,
    "demo": demo,
}


def main() -> None:
    """Run a verb. What a user can mend is told in one line; with VIDEO2ACT_DEBUG set, with its traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="video2act", description=__import__("video2act").__doc__)
    except (ValueError, OSError, KeyError, FloatingPointError, ImportError) as error:
        if os.environ.get("VIDEO2ACT_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"video2act: {type(error).__name__}: {message}")
    except RuntimeError as error:
        # torch's are faults in the code, and their traceback is needed; ours tell what happened
        if os.environ.get("VIDEO2ACT_DEBUG") or not type(error).__module__.startswith("video2act"):
            raise
        sys.exit(f"video2act: {error}")
    except KeyboardInterrupt:
        sys.exit(
            "video2act: interrupted; what was complete is kept, and the same command goes on from there (training: --resume)"
        )


if __name__ == "__main__":
    main()
