"""`video2act evaluate`: how often a policy succeeds, how fast each system was, and how stale what it acted on.

- Every episode is a function of its seed: the environment is reset with it and the policy's noise starts from it. With System 2
  inline, the result does not depend on the number of worker processes: each has its own environment, policy and one torch thread.
- With a system beside it, the control loop runs at the environment's own rate: staleness then means what it means on a robot.
  With simulated latency it means the same on any machine (`runtime/virtual_clock.py`).
- The expert plays the same seeds, so that a scene nobody can solve is seen as one. `blind` and `instruction` turn the same run
  into a control: what a policy achieves without seeing, or when told something else.
- Rates come with counts and a Wilson interval; latencies are wall-clock of this machine, cold start included.
"""

import csv
import datetime
import io
import json
import time
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, fields
from multiprocessing.managers import SyncManager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from video2act.config import PolicyConfig, RuntimeConfig, SimulatedLatency
from video2act.evaluation.episodes import Settings, Share, Sources, load_limits, run_share
from video2act.evaluation.findings import EpisodeRecord, Measurements, SuccessRate, make_info, rates
from video2act.evaluation.report import EpisodeProgress, evaluation_tables, heading
from video2act.evaluation.suitability import check_fits, check_unseen, training_seeds
from video2act.files.atomic import write_text
from video2act.files.run_folder import load_config
from video2act.runtime.assembly import check_virtual, check_where, keeps_real_time
from video2act.runtime.control_loop import StepRecord
from video2act.runtime.workers import end_with_program, worker_context

INFO_FILE = "eval_info.json"
STEPS_FILE = "steps.csv"


@dataclass(frozen=True)
class EvaluationSummary:
    """The result of an evaluation; `info` is what `eval_info.json` holds."""

    success: SuccessRate
    expert: SuccessRate
    records: tuple[EpisodeRecord, ...]
    info: dict[str, Any]
    path: Path


def run_evaluation(settings: Settings, sources: Sources) -> EvaluationSummary:
    """Share the episodes out, run them, write `eval_info.json`."""
    for name, value in (
        ("episodes", settings.episodes),
        ("workers", settings.workers),
        ("environments", len(settings.env)),
        ("refresh_every", settings.refresh_every),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    config = sources.load_config(settings.run)
    check_runtime(settings, config)
    for env in settings.env:  # before any work is done
        check_unseen(settings.seeds, training_seeds(settings.run, env))
        try:
            environment = sources.make_environment(env, config.all_cameras)
        except ValueError as error:
            raise ValueError(
                f"this policy looks through {', '.join(config.all_cameras) or 'no camera'}, but: {error}"
            ) from error
        check_fits(config, environment.spec)
        environment.close()
    started = time.perf_counter()
    tasks = [(env, number) for env in settings.env for number in range(settings.episodes)]
    shares = [tasks[first :: settings.workers] for first in range(min(settings.workers, len(tasks)))]
    with EpisodeProgress(len(tasks)) as progress:
        results = _run_shares(settings, sources, shares=shares, progress=progress)
    records = sorted(
        (record for share in results for record in share.records), key=lambda r: (settings.env.index(r.env), r.seed)
    )
    steps = sorted(
        (step for share in results for step in share.steps), key=lambda s: (settings.env.index(s[0]), s[1], s[2].time)
    )
    measured = Measurements()
    for share in results:
        measured.extend(share.measured)
    info = make_info(
        settings.to_json(), config, records=records, measured=measured, eval_s=time.perf_counter() - started
    )
    settings.out.mkdir(parents=True, exist_ok=True)
    write_text(settings.out / STEPS_FILE, steps_csv(steps))
    write_text(settings.out / INFO_FILE, json.dumps(info, indent=2) + "\n")
    return EvaluationSummary(*rates(records), tuple(records), info, settings.out / INFO_FILE)


def check_runtime(settings: Settings, config: PolicyConfig) -> None:
    """Raises ValueError if the runtime cannot be what was asked for; before any work is done."""
    check_where(settings.system2)
    load_limits(settings)
    if settings.runtime.overlap == "rtc_trained" and config.system1.max_delay_steps == 0:
        raise ValueError(
            "this policy was not trained to continue a plan (max_delay_steps is 0); choose overlap rtc, which guides any policy, "
            "or train one with --max-delay-steps"
        )
    if settings.simulate_latency is not None:
        check_virtual(settings.system2, settings.runtime)
    if settings.system2 not in ("inline", "thread") and (config.system2 is None or settings.blind):
        why = "the blind control is shown no video" if settings.blind else "this policy has no System 2"
        raise ValueError(f"{why}, so there is nothing to run at system2={settings.system2!r}; choose inline")


def steps_csv(steps: list[tuple[str, int, StepRecord]]) -> str:
    """One line per control step: when it was, and what was acted on."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    names = [part.name for part in fields(StepRecord)]
    lines.writerow(["env", "seed", *names])
    for env, seed, step in steps:
        values = (getattr(step, name) for name in names)
        lines.writerow([env, seed, *(int(value) if isinstance(value, bool) else value for value in values)])
    return text.getvalue()


def _run_shares(
    settings: Settings, sources: Sources, *, shares: list[list[tuple[str, int]]], progress: EpisodeProgress
) -> list[Share]:
    """A single share in this process, several in one process each."""
    if len(shares) == 1:
        num_threads = torch.get_num_threads()
        try:
            return [run_share(settings, sources, share=shares[0], tell=progress.tell)]
        finally:
            torch.set_num_threads(num_threads)
    context = worker_context(run_share)
    manager = SyncManager(ctx=context)
    manager.start(end_with_program)
    with manager, ProcessPoolExecutor(len(shares), context, end_with_program) as pool:
        told = manager.Queue()
        futures = [pool.submit(run_share, settings, sources, share=share, tell=told.put) for share in shares]
        while wait(futures, timeout=0.5).not_done:
            while not told.empty():
                progress.tell(told.get())
        return [future.result() for future in futures]


def evaluate(
    run: Path,
    env: str | list[str],
    *,
    episodes: int = 50,
    seed: int = 1000,
    refresh_every: int | None = None,
    system2: str = "inline",
    blind: bool = False,
    instruction: str | None = None,
    workers: int | None = None,
    num_videos: int = 2,
    out: Path | None = None,
    device: str = "cpu",
    runtime: RuntimeConfig | None = None,
    simulate_latency: SimulatedLatency | None = None,
) -> EvaluationSummary:
    """Let a trained policy act, write down how it went, and print it.

    Args:
        run: folder with the policy.
        env: environment, or several, as `make_environment` knows them.
        episodes: per environment.
        seed: of the first episode; the others count up from it.
        refresh_every: control steps between refreshes of System 2; if None, as the policy was configured, or, with simulated
            latency, as often as that allows.
        system2: `inline` waits for System 2 and is reproducible; in a `thread`, in a `process` or at `ws://host:port` it lags
            behind, at the environment's own rate.
        blind: the control that is shown no image and no video.
        instruction: the control that is told something else.
        workers: processes that share the episodes; if None, 2, or 1 where the environment's own rate must be kept.
        num_videos: films per environment, of its first episodes.
        out: folder for `eval_info.json` and the films; a new one inside `run`, if None.
        device: where each worker puts its policy.
        runtime: staleness, overlap of plans, limits of actions; lockstep, if None.
        simulate_latency: both systems are delivered so late, on the simulator's clock: reproducible on any machine.

    Raises:
        ValueError: the environment does not fit the policy, a seed was trained on, or a number is out of range.
    """
    now, runtime = datetime.datetime.now(), runtime or RuntimeConfig()
    if refresh_every is None:
        refresh_every = load_config(run).refresh_every if simulate_latency is None else 1
    if workers is None:
        workers = 1 if keeps_real_time(system2, runtime) else 2
    settings = Settings(
        run=run,
        env=(env,) if isinstance(env, str) else tuple(env),
        episodes=episodes,
        seed=seed,
        refresh_every=refresh_every,
        system2=system2,
        blind=blind,
        instruction=instruction,
        workers=workers,
        num_videos=num_videos,
        out=out or run / "eval" / f"{now:%Y-%m-%d_%H-%M-%S}",
        device=device,
        runtime=runtime,
        simulate_latency=simulate_latency,
    )
    summary = run_evaluation(settings, Sources())
    Console().print(heading(summary.info), *evaluation_tables(summary.info), summary.path, sep="\n")
    return summary
