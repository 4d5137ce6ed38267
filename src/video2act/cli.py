"""`video2act VERB`: each verb is an options dataclass and a program, which is imported when it runs."""

import os
import select
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from video2act.config import data_options as data
from video2act.config import probe, serving
from video2act.config import programs as running
from video2act.config import study as studies
from video2act.config import training_options as training
from video2act.config.nearby import nearby
from video2act.extras import distribution
from video2act.training.pause import SAVED_FOR_LATER, TrainingPausedError, command_begins, signals_interrupt


@dataclass(frozen=True, kw_only=True)
class EvaluateCommand(running.EvaluateOptions):
    """Let a policy act in simulators: success with its interval, the expert's on the same seeds, latency, films."""

    run: str
    """the policy's run folder, or the address of a served policy: ws://host:port"""
    env: tuple[str, ...]
    """one or more: metaworld:push-v3, ...; a Gymnasium id; or module:function of your own, which returns an
    Environment"""


@dataclass(frozen=True, kw_only=True)
class ServeCommand(serving.ServeOptions):
    """Let robots on the network use a policy, or its System 2 alone, by openpi's protocol: websocket and msgpack."""

    run: Path
    """the policy's run folder"""


@dataclass(frozen=True, kw_only=True)
class SweepCommand(running.SweepOptions):
    """Success against n and a system's latency, in simulated time: sweep.csv and sweep.png. Run again to go on."""

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
    computes: bool = True
    """it has `--threads`"""


def program(module: str, run: Callable[[Any, Any], object]) -> Callable[[Any], None]:
    """A program, imported when it runs: `run` calls its module with the options, and its answer is printed."""

    def call(options: Any) -> None:
        answer = run(import_module(f"video2act.programs.{module}"), options)
        if isinstance(answer, str | Path):
            print(str(answer).removesuffix("\n"))

    return call


def _without(options: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in names}


def _collected(done: Any) -> str:
    return (
        f"{done.dataset}: {done.num_episodes} episodes, {done.num_recorded} recorded now in {done.duration_s:.0f} s; "
        f"seeds on which the expert failed, left out: {len(done.failed_seeds)}"
    )


def _info(info: Any, options: data.InfoOptions) -> str:
    show = info.check if options.check else info.describe
    return show(options.what, state=options.state, action=options.action)


def _evaluate(evaluation: Any, options: EvaluateCommand) -> None:
    evaluation.evaluate(options.run, show=True, **_without(options, "run"))


def _sweep(sweeping: Any, options: SweepCommand) -> str:
    table = sweeping.sweep(show=True, **vars(options))
    return f"{table}   plot: {table.with_suffix('.png')}"


def _convert(convert: Any, options: data.RoboTwinOptions) -> str:
    count = convert.convert_robotwin(options.folder, options.out, **_without(options, "folder", "out"))
    return f"{options.out}: {count} episodes"


VERBS = {
    "collect": Verb(
        data.CollectOptions, program("collect", lambda p, o: _collected(p.collect(**vars(o)))), computes=False
    ),
    "info": Verb(data.InfoOptions, program("info", _info), ("what",), computes=False),
    "train-video": Verb(training.TrainVideoOptions, program("train_video", lambda p, o: p.main(o))),
    "cache fill": Verb(training.FillCacheOptions, program("cache", lambda p, o: str(p.fill_cache(o)))),
    "cache verify": Verb(training.VerifyCacheOptions, program("cache", lambda p, o: p.verify_cache(o)), ("folder",)),
    "label": Verb(training.LabelOptions, program("label", lambda p, o: p.main(o))),
    "train": Verb(training.TrainOptions, program("train", lambda p, o: p.main(o))),
    "eval": Verb(EvaluateCommand, program("evaluate", _evaluate), ("run",)),
    "run": Verb(running.RunOptions, program("run", lambda p, o: str(p.run(o))), ("run",)),
    "serve": Verb(ServeCommand, program("serve", lambda p, o: p.serve(**vars(o))), ("run",)),
    "sweep": Verb(SweepCommand, program("sweep", _sweep), ("run",)),
    "study": Verb(studies.StudyOptions, program("study", lambda p, o: p.study(o)), ("study",), computes=False),
    "compare": Verb(
        studies.CompareOptions, program("compare", lambda p, o: p.compare(**vars(o))), ("evaluations",), computes=False
    ),
    "probe": Verb(probe.ProbeOptions, program("probe", lambda p, o: p.probe(o))),
    "view": Verb(data.ViewOptions, program("view", lambda p, o: p.view(**vars(o))), ("run",)),
    "report": Verb(
        data.ReportOptions, program("report", lambda p, o: p.report(o.what, **_without(o, "what"))), ("what",)
    ),
    "bench": Verb(data.BenchOptions, program("bench", lambda p, o: p.bench(o) and None)),
    "export": Verb(running.ExportOptions, program("export", lambda p, o: p.export(**vars(o))), ("run",)),
    "convert robotwin": Verb(data.RoboTwinOptions, program("convert", _convert), ("folder",), computes=False),
    "demo": Verb(data.DemoOptions, program("demo", lambda p, o: p.demo(**vars(o)))),
}


FOLDERS_OR_REPOS = ("what", "data", "video_data", "videos", "video_model")
"""options that also take a Hugging Face repo"""
TRAININGS = ("train", "train-video")
GOING_ON = ("collect", "cache fill", "label", "eval", "sweep", "study", "probe", "convert robotwin", "demo")
"""verbs whose command, given again, goes on where it was interrupted"""


def verb_of(words: list[str]) -> str | None:
    """The verb that a command line begins with."""
    return next((" ".join(words[:size]) for size in (2, 1) if " ".join(words[:size]) in VERBS), None)


def run(words: list[str]) -> None:
    """Parse a command line and run its verb."""
    name = verb_of(words)
    if name is not None:
        from video2act.cli_flags import parse  # tyro takes a third of a second

        verb, program = VERBS[name], f"video2act {name}"
        try:
            rest, kept = words[len(name.split()) :], {"positional": verb.positional, "has_threads": verb.computes}
            options = parse(verb.options, rest, program=program, **kept)
        except ValueError as error:
            raise ValueError(f"{error} (options: {program} --help)") from error
        check_written_as_paths(options, words)
        with command_begins(), signals_interrupt() if name in (*TRAININGS, *GOING_ON) else nullcontext():
            verb.program(options)
        return
    if words[:1] == ["--version"]:
        print(f"video2act {version(distribution())}")
        return
    below = [known for known in VERBS if words and known.startswith(f"{words[0]} ")]
    page = sys.stdout if {"-h", "--help"} & set(words) else sys.stderr
    print(overview(below or list(VERBS)), file=page, flush=True)
    if not {"-h", "--help"} & set(words):
        asked = " ".join(words[: 2 if below else 1])
        close = get_close_matches(asked, VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        sys.exit(f"video2act: {f'no verb {asked!r}.' if asked else 'which verb?'}{hint}")
    sys.exit(0)


def check_written_as_paths(options: Any, words: list[str]) -> None:
    """Raise FileNotFoundError for data or a model that is missing, and was written with `./`: a `Path` leaves that out,
    and would be looked for on the Hugging Face Hub."""
    values = (word.partition("=")[2] if word.startswith("--") else word for word in words)
    written = [Path(value) for value in values if value.startswith("./")]
    for name in FOLDERS_OR_REPOS:
        value = getattr(options, name, None)
        for path in value if isinstance(value, tuple) else (value,):
            if path in written and not path.exists():
                raise FileNotFoundError(f"./{path} does not exist{nearby(path)}; name a folder that is there")


def overview(names: list[str]) -> str:
    """One line for each verb."""
    lines = (f"  {name:<18}{(VERBS[name].options.__doc__ or '').splitlines()[0]}" for name in names)
    return "\n".join(["usage: video2act VERB ... (video2act VERB --help explains a verb; --version)", "", *lines])


def main() -> None:
    """Run a verb. A user's mistake is reported in one line; with VIDEO2ACT_DEBUG set, with its traceback."""
    try:
        run(sys.argv[1:])
        sys.stdout.flush()
    except (ValueError, OSError, KeyError, FloatingPointError, ImportError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(128 + signal.SIGPIPE)
        if os.environ.get("VIDEO2ACT_DEBUG"):
            raise
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"video2act: {type(error).__name__}: {message}")
    except TrainingPausedError as error:
        _say(f"{error.message}; go on with\n  {again(sys.argv)}")
        sys.exit(128 + error.number if error.number else SAVED_FOR_LATER)
    except RuntimeError as error:
        # torch's are faults in the code, and their traceback is needed; ours say what happened
        if os.environ.get("VIDEO2ACT_DEBUG") or not type(error).__module__.startswith("video2act"):
            raise
        sys.exit(f"video2act: {error}")
    except KeyboardInterrupt as error:
        number = getattr(signal, str(error), signal.SIGINT)
        _say(f"{number.name}; {after_an_interrupt(sys.argv)}")
        sys.exit(128 + number)


def _nobody_reads() -> bool:
    """Whether who read the output has gone, as `| head` does; what is left of it is then dropped."""
    output = select.poll()
    output.register(sys.stdout, 0)  # a pipe's error is told unasked
    is_gone = any(what & select.POLLERR for _, what in output.poll(0))
    if is_gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_gone


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
