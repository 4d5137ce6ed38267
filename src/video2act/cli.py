"""`video2act VERB`: each verb is an options dataclass and the program that it calls. Programs are imported when they
are needed."""

import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

from video2act.config import data_options as data
from video2act.config import programs as running
from video2act.config import serving
from video2act.config import training_options as training
from video2act.training.pause import TrainingPausedError, signals_interrupt


def collect(options: data.CollectOptions) -> None:
    from video2act.programs import collect as program

    done = program.collect(**vars(options))
    print(
        f"{done.dataset}: {done.num_episodes} episodes, {done.num_recorded} recorded now in {done.duration_s:.0f} s; "
        f"the expert failed on {len(done.failed_seeds)} seeds, which were left out"
    )


def info(options: data.InfoOptions) -> None:
    from video2act.programs import info as program

    show = program.check if options.check else program.describe
    print(show(options.what, state=options.state, action=options.action), end="")


def train_video(options: training.TrainVideoOptions) -> None:
    from video2act.programs import train_video as program

    program.main(options)


def train(options: training.TrainOptions) -> None:
    from video2act.programs import train as program

    program.main(options)


def fill_cache(options: training.FillCacheOptions) -> None:
    from video2act.programs import cache as program

    print(program.fill_cache(options))


def verify_cache(options: training.VerifyCacheOptions) -> None:
    from video2act.programs import cache as program

    print(program.verify_cache(options))


def evaluate(options: "EvaluateCommand") -> None:
    from video2act.programs import evaluate as program

    values = {name: value for name, value in vars(options).items() if name != "run"}
    program.evaluate(options.run, show=True, **values)


def serve(options: "ServeCommand") -> None:
    from video2act.programs import serve as program

    program.serve(**vars(options))


def sweep(options: "SweepCommand") -> None:
    from video2act.programs import sweep as program

    table = program.sweep(show=True, **vars(options))
    print(f"{table}   plot: {table.with_suffix('.png')}")


def view(options: data.ViewOptions) -> None:
    from video2act.programs import view as program

    print(program.view(options.run, options.dataset, episode=options.episode, out=options.out))


def bench(options: data.BenchOptions) -> None:
    from video2act.programs import bench as program

    program.bench_stages(options.run, options.preset, device=options.device)


def convert_robotwin(options: data.RoboTwinOptions) -> None:
    from video2act.programs.convert import convert_robotwin as program

    values = {name: value for name, value in vars(options).items() if name not in ("folder", "out")}
    print(f"{options.out}: {program(options.folder, options.out, **values)} episodes")


def demo(options: data.DemoOptions) -> None:
    from video2act.programs import demo as program

    program.demo(options.name, options.out, seed=options.seed)


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(running.EvaluateOptions):
    """Let a policy act in simulators: success with its interval, the expert's on the same seeds, latency, staleness,
    films."""

    run: Path
    """the policy's run folder"""
    env: tuple[str, ...]
    """metaworld:push-v3, ...; a Gymnasium id; or module:function of your own, which returns an Environment. Several may
    be given"""


@dataclass(frozen=True, kw_only=True)
class ServeCommand(serving.ServeOptions):
    """Let robots on the network use a policy, or its System 2 alone: websocket and msgpack, as openpi's client speaks
    them."""

    run: Path
    """the policy's run folder"""


@dataclass(frozen=True, kw_only=True)
class SweepCommand(running.SweepOptions):
    """Success against n, and against the latency of a system, on the virtual clock: sweep.csv and sweep.png. Run again
    to go on."""

    run: Path
    """the policy's run folder"""
    env: str
    """metaworld:push-v3, ..."""


@dataclass(frozen=True)
class Verb:
    """A verb of the command line."""

    options: type
    program: Callable[[Any], None]
    positional: tuple[str, ...] = ()
    """options that are given by their place, without a flag"""


VERBS = {
    "collect": Verb(data.CollectOptions, collect),
    "info": Verb(data.InfoOptions, info, ("what",)),
    "train-video": Verb(training.TrainVideoOptions, train_video),
    "cache fill": Verb(training.FillCacheOptions, fill_cache),
    "cache verify": Verb(training.VerifyCacheOptions, verify_cache, ("folder",)),
    "train": Verb(training.TrainOptions, train),
    "eval": Verb(EvaluateCommand, evaluate, ("run",)),
    "serve": Verb(ServeCommand, serve, ("run",)),
    "sweep": Verb(SweepCommand, sweep, ("run",)),
    "view": Verb(data.ViewOptions, view, ("run",)),
    "bench": Verb(data.BenchOptions, bench),
    "convert robotwin": Verb(data.RoboTwinOptions, convert_robotwin, ("folder",)),
    "demo": Verb(data.DemoOptions, demo),
}


TRAININGS = ("train", "train-video")
GOING_ON = ("collect", "cache fill", "eval", "sweep", "convert robotwin", "demo")
"""verbs whose command, given again, goes on where it was interrupted"""


def verb_of(words: list[str]) -> str | None:
    """The verb that a command line begins with."""
    return next((" ".join(words[:size]) for size in (2, 1) if " ".join(words[:size]) in VERBS), None)


def run(words: list[str]) -> None:
    """Parse a command line and run its verb."""
    name = verb_of(words)
    if name is not None:
        from video2act.cli_options import parse  # tyro takes a third of a second

        verb, program = VERBS[name], f"video2act {name}"
        try:
            options = parse(verb.options, words[len(name.split()) :], program=program, positional=verb.positional)
        except ValueError as error:
            raise ValueError(f"{error} (options: {program} --help)") from error
        with signals_interrupt() if name in TRAININGS else nullcontext():
            verb.program(options)
        return
    if words[:1] == ["--version"]:
        print(f"video2act {version('video2act')}")
        return
    below = [known for known in VERBS if words and known.startswith(f"{words[0]} ")]
    print(overview(below or list(VERBS)), file=sys.stdout if {"-h", "--help"} & set(words) else sys.stderr)
    if not {"-h", "--help"} & set(words):
        asked = " ".join(words[: 2 if below else 1])
        close = get_close_matches(asked, VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        sys.exit(f"video2act: {f'no verb {asked!r}.' if asked else 'which verb?'}{hint}")
    sys.exit(0)


def overview(names: list[str]) -> str:
    """One line for each verb."""
    lines = (f"  {name:<18}{(VERBS[name].options.__doc__ or '').splitlines()[0]}" for name in names)
    return "\n".join(["usage: video2act VERB ... (video2act VERB --help explains a verb; --version)", "", *lines])


def main() -> None:
    """Run a verb. A user's mistake is reported in one line; with VIDEO2ACT_DEBUG set, with its traceback."""
    try:
        run(sys.argv[1:])
    except (ValueError, OSError, KeyError, FloatingPointError, ImportError) as error:
        if os.environ.get("VIDEO2ACT_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"video2act: {type(error).__name__}: {message}")
    except TrainingPausedError as error:
        _say(f"{error.message}; go on with\n  {again(sys.argv)}")
        sys.exit(128 + error.number if error.number else 1)
    except RuntimeError as error:
        # torch's are faults in the code, and their traceback is needed; ours say what happened
        if os.environ.get("VIDEO2ACT_DEBUG") or not type(error).__module__.startswith("video2act"):
            raise
        sys.exit(f"video2act: {error}")
    except KeyboardInterrupt as error:
        number = getattr(signal, str(error), signal.SIGINT)
        _say(f"{number.name}; {after_an_interrupt(sys.argv)}")
        sys.exit(128 + number)


def after_an_interrupt(argv: list[str]) -> str:
    """What an interrupted program has kept, and the command that goes on."""
    verb = verb_of(argv[1:])
    if verb in TRAININGS:
        kept = "the newest checkpoint is kept, if there is one; this goes on from it, or from the first step"
    elif verb in GOING_ON:
        kept = "what was complete is kept; this goes on from there"
    else:
        return "nothing was written that is not complete"
    return f"{kept}:\n  {again(argv)}"


def again(argv: list[str]) -> str:
    """The command that goes on, for a shell."""
    words = [word for word in argv[1:] if word != "--no-resume"]
    if verb_of(words) in TRAININGS and "--resume" not in words:
        words.append("--resume")
    start = ["video2act"] if Path(argv[0]).name == "video2act" else ["python", "-m", "video2act.cli"]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # the launcher's own options do not reach us
        start = ["accelerate", "launch", "--num_processes", os.environ["WORLD_SIZE"], "-m", "video2act.cli"]
    return shlex.join([*start, *words])


def _say(message: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        print(f"video2act: {message}", file=sys.stderr)


if __name__ == "__main__":
    main()
