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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from video2act.config import EvaluateOptions
from video2act.evaluation.episodes import Evaluation, run_episodes
from video2act.evaluation.findings import EpisodeRecord, Measurements, SuccessRate, make_info, rates, steps_csv
from video2act.evaluation.report import evaluation_tables, heading
from video2act.evaluation.sources import LoadedPolicy, RunFolder
from video2act.evaluation.suitability import check_fits, check_runtime, check_unseen
from video2act.files.atomic import write_text
from video2act.policy import Video2Act

INFO_FILE = "eval_info.json"
STEPS_FILE = "steps.csv"


@dataclass(frozen=True)
class EvaluationSummary:
    """The result of an evaluation."""

    success: SuccessRate
    expert: SuccessRate
    records: tuple[EpisodeRecord, ...]
    info: dict[str, Any]
    """the content of `eval_info.json`"""
    path: Path | None
    """of `eval_info.json`; None if nothing was written"""


def evaluate(
    policy: Video2Act | Path | str, env: str | Sequence[str], *, show: bool = False, **options: Any
) -> EvaluationSummary:
    """Let a policy act in simulators: `evaluate(policy, "metaworld:push-v3", episodes=50).success`.

    Args:
        policy: a run folder, or a loaded policy. A loaded policy acts in this process with its own weights, and nothing
            is written unless `out` is given. If it has no run folder, its training seeds are unknown: choose a `seed`
            above them.
        env: names of one or several environments, as in `list_environments()`.
        show: print progress and tables.
        options: the fields of `EvaluateOptions`.
    Raises:
        TypeError: an option does not exist.
        ValueError: an environment does not fit the policy, a seed was trained on, or an option is out of range.
    """
    chosen = EvaluateOptions(**options)
    if chosen.out is not None:
        chosen = replace(chosen, out=Path(chosen.out))
    if isinstance(policy, str | Path):
        source = RunFolder(Path(policy))
        out = chosen.out or source.path / "eval" / f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
        chosen = replace(chosen, out=out)
    else:
        source = LoadedPolicy(policy)
    evaluation = Evaluation(source, (env,) if isinstance(env, str) else tuple(env), chosen)
    if not show:
        return run_evaluation(evaluation)
    bar = _EpisodeBar(len(evaluation.env) * chosen.episodes)
    with bar.progress:
        summary = run_evaluation(evaluation, bar.advance)
    Console().print(heading(summary.info), *evaluation_tables(summary.info), summary.path or "", sep="\n")
    return summary


def run_evaluation(evaluation: Evaluation, on_episode: Callable[[bool], object] = bool) -> EvaluationSummary:
    """Check the evaluation, run its episodes, and write `eval_info.json` and `steps.csv` if there is a folder for them.

    Args:
        on_episode: called after each episode, with its success.
    """
    config, envs, out = evaluation.config, evaluation.env, evaluation.options.out
    if not envs:
        raise ValueError("environments must be at least 1, got 0")
    check_runtime(evaluation)
    for env in envs:
        check_unseen(evaluation.seeds, evaluation.source.training_seeds(env))
        try:
            environment = evaluation.make_environment(env, config.all_cameras)
        except ValueError as error:
            cameras = ", ".join(config.all_cameras) or "no camera"
            raise ValueError(f"{error} (this policy looks through {cameras})") from error
        check_fits(config, environment.spec)
        environment.close()
    started = time.perf_counter()
    shares = run_episodes(evaluation, on_episode)
    records = sorted(
        (record for share in shares for record in share.records), key=lambda r: (envs.index(r.env), r.seed)
    )
    steps = sorted(
        (step for share in shares for step in share.steps), key=lambda s: (envs.index(s[0]), s[1], s[2].time)
    )
    measured = Measurements()
    for share in shares:
        measured.extend(share.measured)
    seconds = time.perf_counter() - started
    info = make_info(evaluation.to_json(), config, records=records, measured=measured, eval_s=seconds)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / STEPS_FILE, steps_csv(steps))
        write_text(out / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return EvaluationSummary(*rates(records), tuple(records), info, out and out / INFO_FILE)


class _EpisodeBar:
    """A line with the number of episodes done, and how many of them succeeded."""

    def __init__(self, total: int):
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        successes = TextColumn("{task.fields[successes]} successes")
        self.progress = Progress(*columns, successes, TimeRemainingColumn(), transient=True)
        self._task = self.progress.add_task("episodes", total=total, successes=0)
        self._successes = 0

    def advance(self, success: bool) -> None:
        self._successes += success
        self.progress.update(self._task, advance=1, successes=self._successes)
