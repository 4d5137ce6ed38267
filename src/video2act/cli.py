"""`video2act VERB`: the verbs are functions of this file; each calls one program. Programs are imported when they are needed."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from video2act.cli_options import FillCache, RoboTwinData, VerifyCache, collect, info
from video2act.config import (
    BackboneConfig,
    EvaluateOptions,
    ScratchConfig,
    ServeOptions,
    SimulatedLatency,
    SweepOptions,
    System1Sources,
    System2Options,
    TrainConfig,
    TuningConfig,
    VideoTrainConfig,
)


def train_video(
    data: tuple[Path, ...],
    out: Path,
    *,
    training: Annotated[VideoTrainConfig, OmitArgPrefixes],
    backbone: BackboneConfig,
    scratch: ScratchConfig,
    system2: System2Options,
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
        system2: how a published model will be looked through.
        tuning: what of a published model is trained.
        preset: whose video model: tiny and small are trained from nothing, the others (wan22_5b, ...) are finetuned.
        video_model: where the published model lies, if not at the preset's source; it may be finetuned already.
        camera: the camera to learn; the first of each dataset, if left out.
        resume: go on from the newest checkpoint in `out`.
    """
    from video2act.programs import train_video as program

    chosen = program.chosen(preset, video_model, tiny=backbone, scratch=scratch, system2=system2)
    program.train_video(data, out, config=training, backbone=chosen, camera=camera, resume=resume, tuning=tuning)


def train(
    data: tuple[Path, ...],
    out: Path,
    *,
    training: Annotated[TrainConfig, OmitArgPrefixes],
    system1: System1Sources,
    system2: System2Options,
    tuning: TuningConfig,
    preset: str = "tiny",
    video_model: Path | None = None,
    cameras: tuple[str, ...] | None = None,
    resume: bool = False,
    cache: Path | None = None,
    live: bool = False,
    encoding: Literal["window", "stream"] = "window",
) -> None:
    """Train a policy on demonstrations. For several processes: accelerate launch -m video2act.cli train ...

    Args:
        data: dataset folders, all of one robot.
        out: run folder to write.
        preset: tiny, tiny_latents, tiny_system1, tiny_blind, small, small_system1, rdt_1b, official, or one named after a
            published video model: wan21_1b, wan21_14b, wan22_5b, hunyuan, cogvideox, cogvideox15, ltx, cosmos, wan22_5b_rdt_1b.
        tuning: what of the video model is trained with the policy; frozen, if left out.
        video_model: a folder written by train-video, or of the published video model that the preset names.
        cameras: what the policy looks through, System 2's first; all of the dataset's, if left out.
        resume: go on from the newest checkpoint in `out`.
        cache: folder of `video2act cache`; if left out, System 2 sees the demonstrations first.
        live: System 2 looks at every training step instead; slow.
        encoding: window encodes each clip for itself; stream lets the video VAE go on through an episode.
    """
    from video2act.programs import train as program

    program.train(
        data,
        out,
        config=training,
        preset=preset,
        video_model=video_model,
        cameras=cameras,
        resume=resume,
        system1=system1,
        tuning=tuning,
        cache=cache,
        live=live,
        encoding=encoding,
        system2=system2,
    )


def cache(
    what: Annotated[
        Annotated[FillCache, subcommand("fill")] | Annotated[VerifyCache, subcommand("verify")],
        arg(name=""),  # of groups within, prefixes stay
        OmitSubcommandPrefixes,
    ],
) -> None:
    """Fill or verify a cache of what System 2 sees."""
    from video2act.programs import cache as precompute

    program = precompute.fill_cache if isinstance(what, FillCache) else precompute.verify_cache
    print(program(**vars(what)))


def evaluate(
    run: Positional[Path], env: tuple[str, ...], *, options: Annotated[EvaluateOptions, arg(name=""), OmitArgPrefixes]
) -> None:
    """Let a policy act in simulators; success with its interval, the expert's on the same seeds, latency, staleness, films.

    Args:
        run: the policy's run folder.
        env: metaworld:push-v3, ...; several may be given.
    """
    from video2act.programs import evaluate as program

    program.evaluate(run, env, show=True, **vars(options))


def serve(run: Positional[Path], options: Annotated[ServeOptions, arg(name=""), OmitArgPrefixes]) -> None:
    """Let robots on the network use a policy, or its System 2 alone: websocket and msgpack, as openpi's client speaks them.

    Args:
        run: the policy's run folder.
    """
    from video2act.programs import serve as program

    program.serve(run, **vars(options))


def sweep(run: Positional[Path], env: str, *, options: Annotated[SweepOptions, arg(name=""), OmitArgPrefixes]) -> None:
    """Success against n, and against the latency of a system, on the virtual clock: sweep.csv and sweep.png. Run again to go on.

    Args:
        run: the policy's run folder.
        env: metaworld:push-v3, ...
    """
    from video2act.programs import sweep as program

    table = program.sweep(run, env, show=True, **vars(options))
    print(f"{table}   plot: {table.with_suffix('.png')}")


def view(run: Positional[Path], dataset: Path, *, out: Path, episode: int = 0) -> None:
    """Film what System 2 sees in an episode of a dataset: the camera, boundaries and motion.

    Args:
        run: the policy's run folder.
        dataset: dataset folder.
        out: the mp4 to write.
        episode: its number.
    """
    from video2act.programs import view as program

    print(program.view(run, dataset, episode=episode, out=out))


def bench(run: Path | None = None, preset: str = "tiny", *, device: str = "cpu") -> None:
    """Time each stage between a camera and an action.

    Args:
        run: a policy's run folder; without it, the preset with random weights.
        preset: of the policy.
        device: cpu, cuda, ...
    """
    from video2act.programs import bench as program

    program.bench_stages(run, preset, device=device)


def convert(what: Positional[Literal["robotwin"]], data: Annotated[RoboTwinData, OmitArgPrefixes]) -> None:
    """Turn recordings of another program into a dataset. (Checkpoints of the released code: video2act-convert-released.)

    Args:
        what: the other program: robotwin.
    """
    from video2act.programs.convert import convert_robotwin

    options = {name: value for name, value in vars(data).items() if name not in ("folder", "out")}
    print(f"{data.out}: {convert_robotwin(data.folder, data.out, **options)} episodes")


def demo(out: Path, name: str = "push", *, seed: int = 0) -> None:
    """The whole path: collect, train-video, train, eval. Run again to go on after an interruption.

    Args:
        out: folder for data, models, film and summary.
        name: push, or three_tasks for one policy with three instructions.
        seed: of both trainings.
    """
    from video2act.programs import demo as program

    program.demo(name, out, seed=seed)


VERBS = {
    "collect": collect,
    "info": info,
    "train-video": train_video,
    "cache": cache,
    "train": train,
    "eval": evaluate,
    "serve": serve,
    "sweep": sweep,
    "view": view,
    "bench": bench,
    "convert": convert,
    "demo": demo,
}


REGISTRY = tyro.constructors.ConstructorRegistry()


@REGISTRY.primitive_rule
def _latency(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """`system1=60ms,system2=400ms` as one word."""
    if info.type != SimulatedLatency | None:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="LATENCY",
        instance_from_str=lambda words: SimulatedLatency.parse(words[0]),
        is_instance=lambda value: value is None or isinstance(value, SimulatedLatency),
        str_from_instance=lambda value: [str(value)],
    )


def main() -> None:
    """Run a verb. What a user can mend is told in one line; with VIDEO2ACT_DEBUG set, with its traceback."""
    try:
        with REGISTRY:
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
