"""`video2act study`: every arm with every seed on the same scenes, as jobs of a pool; then the comparison.

The yaml file is the study: data, video models, arms, seeds, scenes, and the primary contrast, which is named before
anything is run. All of it is checked before the first job. Every job is skipped if it is done and goes on if it was
interrupted; one that fails stops those that need it, not the others. The report is written after each evaluation, and
says what is missing.
"""

import os
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from video2act.config import to_json
from video2act.config.nearby import nearby
from video2act.config.study import StudyConfig, StudyOptions, known
from video2act.files.atomic import write_text
from video2act.files.lock import FolderLock
from video2act.runtime.pool import num_workers, open_pool
from video2act.study.elsewhere import joined, named_first, read_elsewhere
from video2act.study.jobs import StudyJob, load_study, plan_jobs
from video2act.study.made_from import check_made_from
from video2act.study.named import STUDY_FILE, check_same, name_primary
from video2act.study.records import check_recorded, is_finished
from video2act.study.results import origin_notes, read_evaluations, results_of
from video2act.study.times import time_table
from video2act.study.worker import JobWorker, Outcome
from video2act.training.resuming import check_kind

FEWEST_SEEDS = 6
"""whose sign-flip test can reach p < .05"""


class StudyFailedError(RuntimeError):
    """Some jobs failed; what the others did is kept."""


def study(options: StudyOptions) -> Path | str:
    """Run what is missing of a study and write its report.

    Returns:
        The path of `table.md`; of a dry run, the list of jobs.
    Raises:
        FileNotFoundError, ValueError: something in the file is wrong, or a result that is there is of other scenes.
        StudyFailedError: some jobs failed; the message says which, and why.
    """
    config = load_study(options.study, options.slice)
    arms, seeds = _part(config, options)
    plan, out = plan_jobs(config, options.study.absolute().parent), options.out.absolute()
    elsewhere = read_elsewhere(options.results, plan, part=options.slice)
    there = {(arm, seed) for other in elsewhere for arm, found in other.outcomes.items() for seed in found}
    jobs = plan.needed({(arm, seed) for arm in arms for seed in seeds} - there)
    if len(config.seeds) < FEWEST_SEEDS and options.slice is None:
        number, smallest = len(config.seeds), 2 / 2 ** len(config.seeds)
        print(f"note: with {number} training seeds p is {smallest:g} at least; {FEWEST_SEEDS} can show a difference")
    for arm in arms:
        missing = [seed for seed in seeds if not Path(plan.results[arm, seed]).is_file()]
        if config.arms[arm].results and missing:
            listed = f"seed{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
            first = plan.results[arm, missing[0]]
            print(f"note: the results of arm {arm}, {listed}, are not there yet, and count as missing: {first}")
    if options.report_only and not out.is_dir() and not elsewhere:
        raise FileNotFoundError(f"{out} does not exist{nearby(out)}; report_only takes the folder of a study")
    check_kind(out, "a study", own=STUDY_FILE)
    check_same(out, config)
    evaluations = read_evaluations(plan, out)
    results = joined(results_of(plan, evaluations), elsewhere)  # checked before anything runs
    for note in origin_notes(plan, evaluations):
        print(f"note: {note}")
    done = {name for name, job in plan.jobs.items() if is_finished(out, job)}
    if not options.report_only:
        check_recorded(out, jobs)
        check_made_from(out, plan.jobs, done)  # of all that the report will have, not of this part alone
    done &= jobs.keys()
    if options.dry_run:
        return time_table(jobs, out, done=done)
    from video2act.study.report import write_report  # scipy: after the input was checked, before any job

    report, failed = partial(write_report, plan, out, part=options.slice, elsewhere=elsewhere), list[Outcome]()
    if not options.report_only:
        out.mkdir(parents=True, exist_ok=True)
        with FolderLock(out, "a study"):
            # what is refused, or reports alone, names no contrast
            done_of = {arm: tuple(found) for arm, found in results.items()}
            name_primary(out, config.primary, done=done_of, elsewhere=named_first(elsewhere))
            write_text(out / STUDY_FILE, to_json(config))
            failed = _run(jobs, done, options=options, report=report)
    table = report()
    if failed:
        listed = "\n".join(f"  {outcome.job.name}: {outcome.error}" for outcome in failed)
        raise StudyFailedError(
            f"{len(failed)} jobs failed, which are tried again by the same command; {table} has the others\n{listed}"
        )
    return table


def _part(config: StudyConfig, options: StudyOptions) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The arms and seeds that were asked for."""
    arms = options.arms or (config.slices[options.slice].arms if options.slice else ()) or tuple(config.arms)
    for arm in arms:
        known("arm", arm, config.arms)
    seeds = config.seeds if options.seeds is None else options.seeds
    for seed in seeds:
        known("training seed", str(seed), [str(each) for each in config.seeds])
    return arms, seeds


def _run(
    jobs: dict[str, StudyJob], done: Collection[str], *, options: StudyOptions, report: Callable[..., object]
) -> list[Outcome]:
    """Run the jobs that are not done, each after those that it needs; returns those that failed."""
    finished, failed = set(done), list[Outcome]()
    waiting = {name: job for name, job in jobs.items() if name not in finished}
    if not waiting:
        return []
    out, total = options.out.absolute(), len(jobs)
    places = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), os.getcwd()]  # for environments of your own
    path = os.pathsep.join(dict.fromkeys(os.path.abspath(place) for place in places if place))
    workers = num_workers(options.workers, pool=options.pool, local=2)
    with open_pool(partial(JobWorker, out, path), min(workers, len(waiting)), pool=options.pool, folders=[out]) as pool:
        while True:
            while pool.has_free and (job := _next(waiting, finished)) is not None:
                del waiting[job.name]
                print(f"[{len(finished)}/{total}] begins: {job.name}", flush=True)
                pool.submit(job)
            if not pool.num_running:
                return failed
            job, outcome = pool.take()
            if outcome.error:
                failed.append(outcome)
                print(f"failed: {job.name}: {outcome.error}", file=sys.stderr, flush=True)
                continue
            finished.add(job.name)
            seconds, success = outcome.record["seconds"], outcome.record["result"]
            found = f": {success['successes']} of {success['n_episodes']}" if success else ""
            print(f"[{len(finished)}/{total}] done: {job.name} ({seconds:.0f} s){found}", flush=True)
            if success:
                report(is_last=False)


def _next(waiting: dict[str, StudyJob], finished: set[str]) -> StudyJob | None:
    """The first job that has all it needs."""
    return next((job for job in waiting.values() if finished.issuperset(job.needs)), None)
