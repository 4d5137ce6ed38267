"""`video2act eval` and `video2act.evaluate`: how often a policy succeeds, how fast and how stale its systems are.

- With System 2 inline, or with simulated latency, results are the same on any machine with any number of workers.
- With System 2 in a thread, in a process or elsewhere, the control loop keeps the environment's real rate, so staleness
  means what it means on a robot.
- The expert plays the same seeds. This shows scenes that cannot be solved.
- `blind` and `instruction` are controls: the policy without images, or with another instruction.
- Rates come with counts and a Wilson interval. Latencies are wall-clock times of this machine, first calls included.
"""

import datetime
import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from video2act.config import EvaluateOptions
from video2act.config.calls import made
from video2act.engines.choice import check_engine
from video2act.engines.policy import EnginePolicy
from video2act.envs import expand_suites
from video2act.evaluation.episodes import Evaluation, run_episodes
from video2act.evaluation.findings import (
    EpisodeRecord,
    Measurements,
    SuccessRate,
    make_info,
    rates,
    steps_csv,
)
from video2act.evaluation.kept import FinishedEpisode, KeptEpisodes
from video2act.evaluation.report import evaluation_tables, heading
from video2act.evaluation.results import STEPS_FILE
from video2act.evaluation.sources import LoadedPolicy, PolicySource, RunFolder
from video2act.evaluation.suitability import check_runtime, check_scenes, make_fitting, note_instruction
from video2act.evaluation.traces import write_traces
from video2act.files.atomic import write_text
from video2act.files.evaluation_folder import EPISODES_FOLDER, INFO_FILE, VIDEOS_FOLDER
from video2act.files.fingerprint import tensors_fingerprint
from video2act.files.lock import FolderLock, InUseError
from video2act.files.run_folder import policy_fingerprint
from video2act.progress import Bar
from video2act.runtime.pool import alone_by_default
from video2act.serving.access import check_address
from video2act.training.resuming import check_kind
from video2act.viz.rerun_log import check_rerun

if TYPE_CHECKING:
    from video2act.policy import Video2Act
else:
    Video2Act = Any

WEB_ADDRESS = re.compile(r"https?://|[\w.-]+:\d+$")
"""of a page, or a host and port"""


@dataclass(frozen=True)
class EvaluationSummary:
    """The result of an evaluation."""

    success: SuccessRate
    expert: SuccessRate | None
    """None: no expert played"""
    records: tuple[EpisodeRecord, ...]
    info: dict[str, Any]
    """the content of `eval_info.json`"""
    path: Path | None
    """of `eval_info.json`; None if nothing was written"""


def evaluate(
    policy: Video2Act | EnginePolicy | Path | str, env: str | Sequence[str], *, show: bool = False, **options: Any
) -> EvaluationSummary:
    """Let a policy act in simulators: `evaluate(policy, "metaworld:push-v3", episodes=50).success`.

    Args:
        policy: a run folder, a loaded policy, or the address of a served one (`ws://host:port`). A loaded policy acts
            in this process with its own weights. For it and a served one, nothing is written unless `out` is given.
            Without a run folder the training seeds are unknown: choose a `seed` above them.
        env: names of one or several environments, as in `list_environments()`, or of suites (`libero:libero_object`).
        show: print progress and tables.
        options: the fields of `EvaluateOptions`. Without `workers` all episodes are played in this process; with more
            than one, the call stands under `if __name__ == "__main__":` in a script.
    Raises:
        TypeError: an option does not exist.
        ValueError: an environment does not fit the policy, a seed was trained on, or an option is out of range.
    """
    chosen = made(EvaluateOptions, "evaluate", alone_by_default(options))
    if chosen.out is not None:
        chosen = replace(chosen, out=Path(chosen.out))
    with ExitStack() as ending:
        evaluation = Evaluation(
            _source(policy, chosen, ending), expand_suites([env] if isinstance(env, str) else env), chosen
        )
        if evaluation.source.path is not None and chosen.out is None:
            evaluation = replace(evaluation, options=replace(chosen, out=_folder(evaluation)))
        return _run(evaluation, show=show)


def _source(policy: Video2Act | EnginePolicy | Path | str, options: EvaluateOptions, ending: ExitStack) -> PolicySource:
    """Where the policy comes from; `ending` ends what that has opened."""
    if isinstance(policy, str) and policy.startswith(("ws://", "wss://")):
        from video2act.evaluation.served import ServedSource

        if options.engine != "torch":
            raise ValueError(f"engine={options.engine!r} reads an exported folder, and {policy} computes elsewhere")
        served = ServedSource(policy)
        ending.callback(served.close)
        return served
    if isinstance(policy, str) and WEB_ADDRESS.match(policy) and not Path(policy).exists():
        check_address(policy)
    if isinstance(policy, str | Path):
        check_engine(policy, options.engine)
        return RunFolder(Path(policy), options.engine)
    if options.engine != "torch":
        raise ValueError(f"engine={options.engine!r} reads an exported folder, got a loaded policy; pass the folder")
    return LoadedPolicy(policy)


def _run(evaluation: Evaluation, *, show: bool) -> EvaluationSummary:
    if not show:
        return run_evaluation(evaluation)
    episodes = list[bool]()
    with Bar("evaluating", len(evaluation.env) * evaluation.options.episodes, unit="episode") as bar:

        def show_episode(success: bool) -> None:
            episodes.append(success)
            bar.update(len(episodes), f"{sum(episodes)} successes")

        summary = run_evaluation(evaluation, show_episode)
    Console().print(heading(summary.info), *evaluation_tables(summary.info), summary.path or "", sep="\n")
    return summary


def run_evaluation(evaluation: Evaluation, on_episode: Callable[[bool], object] = bool) -> EvaluationSummary:
    """Check the evaluation and run its episodes; write `eval_info.json`, `steps.csv` and `traces.safetensors` if there
    is a folder for them.

    Args:
        on_episode: called after each episode, with its success.
    """
    config, envs, out = evaluation.config, evaluation.env, evaluation.options.out
    if (rerun := evaluation.options.rerun) is not None:
        check_rerun()
        if rerun == "file" and out is None:
            raise ValueError("rerun=file writes beside the films; set out, or choose live")
    if not envs:
        raise ValueError("environments must be at least 1, got 0")
    check_runtime(evaluation)
    names, told = evaluation.source.names(), list[str]()
    for env in envs:
        check_scenes(env, evaluation.seeds, training_seeds=evaluation.source.training_seeds(env))
        make = partial(evaluation.open_environment, env, config.all_cameras)
        with closing(make_fitting(config, make, names=names)) as fitting:
            told.append(evaluation.options.instruction or fitting.spec.instruction)
    trained = evaluation.source.instructions()
    for instruction in dict.fromkeys(told):
        note_instruction(instruction, trained)
    if out is None:
        return _summary(evaluation, run_episodes(evaluation, on_episode))
    check_kind(out, "an evaluation", own=INFO_FILE)
    policy = _fingerprint(evaluation)
    kept = KeptEpisodes(out, evaluation.to_json(), policy=policy)
    try:
        with FolderLock(out, "an evaluation"):
            kept.begin()
            try:
                summary = _summary(evaluation, run_episodes(evaluation, on_episode, kept=kept), policy=policy)
            except BaseException:
                if kept.is_empty:
                    kept.remove()
                raise
            kept.remove()
    finally:
        _remove_empty(out)
    return summary


def _remove_empty(out: Path) -> None:
    """Where nothing was finished, no empty folder stays, nor those for its films."""
    for folder in (*(out / VIDEOS_FOLDER).glob("*"), out / VIDEOS_FOLDER, out):
        with suppress(OSError):  # it holds something
            folder.rmdir()


def _summary(evaluation: Evaluation, episodes: list[FinishedEpisode], *, policy: str = "") -> EvaluationSummary:
    out, records = evaluation.options.out, [episode.record for episode in episodes]
    measured = Measurements()
    for episode in episodes:
        measured.extend(episode.measured)
    eval_s = sum(episode.seconds for episode in episodes) / min(evaluation.workers, len(episodes))
    info = make_info(evaluation.to_json(), evaluation.config, records=records, measured=measured, eval_s=eval_s)
    run = evaluation.source.path
    if out is not None and run is not None:  # of a loaded policy no folder can be told by its fingerprint
        info |= {"policy_fingerprint": policy, "run_from_here": os.path.relpath(run.resolve(), out.resolve())}
    if out is not None:
        steps = [(episode.record.env, episode.record.seed, step) for episode in episodes for step in episode.steps]
        write_text(out / STEPS_FILE, steps_csv(steps))
        write_traces(out, [(episode.record.env, episode.record.seed, episode.trace) for episode in episodes])
        write_text(out / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return EvaluationSummary(*rates(records), tuple(records), info, out and out / INFO_FILE)


def _fingerprint(evaluation: Evaluation) -> str:
    """Fingerprint of the policy's files; of its weights, if it is loaded already."""
    path = evaluation.source.path
    if path is None:
        policy = evaluation.source.load(evaluation.device)
        weights = getattr(policy, "state_dict", None)  # an engine's policy, or a test's, has none
        return tensors_fingerprint(weights()) if weights else ""
    return policy_fingerprint(path)


def _folder(evaluation: Evaluation) -> Path:
    """The default of `out`: the folder of an unfinished evaluation with the same options, or a new one."""
    if (run := evaluation.source.path) is None:
        raise ValueError("a policy in memory has no folder; set out")
    folder = run / "eval"
    for unfinished in sorted(folder.glob(f"*/{EPISODES_FOLDER}"), reverse=True):
        kept = KeptEpisodes(unfinished.parent, evaluation.to_json(), policy=_fingerprint(evaluation))
        with suppress(ValueError, InUseError), FolderLock(unfinished.parent, "an evaluation"):
            if not kept.differences():
                print(f"{unfinished.parent} holds finished episodes of this evaluation; going on with it")
                return unfinished.parent
    stamp = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    names = (stamp, *(f"{stamp}_{number}" for number in range(2, 100)))
    return next(folder / name for name in names if not (folder / name).exists())
