"""`video2act report`: one HTML page about a training and its evaluations, or about one evaluation.

The page needs no network. What cannot be shown, such as a film where the simulator is not installed, is named on it
with the reason.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.text import Text

from video2act.config import PolicyConfig
from video2act.config.data_options import ReportOptions
from video2act.config.nearby import nearby
from video2act.engines.folder import is_exported
from video2act.envs import is_own
from video2act.evaluation import pages
from video2act.evaluation.report import heading
from video2act.evaluation.results import EpisodeOutcome, Results, best_and_worst
from video2act.files.atomic import write_bytes
from video2act.files.evaluation_folder import INFO_FILE, read_evaluations_of, run_of
from video2act.files.run_folder import CONFIG_FILE, WEIGHTS_FILE, load_config
from video2act.viz.page import Page

FilmsWord = Literal["auto", "yes", "no"]
STUDY_PAGE = "study.html"
SYSTEM2_TEXT = (
    "Colour is what a stream keeps of the picture; beside it stands the same measured in the pixels, and r is the "
    "correlation of the two. Sobel finds boundaries, the band-pass motion. A stream that looks ahead shows its "
    "imagined frame beside the one that came. The lines below mark when each system ran."
)
ATTENTION_TEXT = (
    "Weights of the cross-attention, as means over the actions of a plan, the heads and the denoising steps. Every "
    "other block reads the text alone, the others read images and video. Weights say what is read, not what decides."
)


def report(what: Path | str, *, out: Path | str | None = None, films: FilmsWord = "auto", device: str = "cpu") -> Path:
    """Write the page.

    Args:
        what: a run folder, or the folder of an evaluation or of a study.
        out: the page; None: `report.html` in the folder.
        films: play the best and the worst episode again, and show what both systems saw in them. `auto`: not for an
            environment of your own, which may be a robot.
        device: of the policy, for the films.
    Raises:
        FileNotFoundError, ValueError: the folder is neither, or is damaged.
    """
    options = ReportOptions(Path(what), None if out is None else Path(out), films, device)
    what, out = options.what, options.out or options.what / "report.html"
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name the page, such as {out / 'report.html'}")
    if (what / INFO_FILE).is_file():
        main = Results(what)
        return _write(out, run_of(what, main.info), main=main, others=[], options=options)
    if (what / STUDY_PAGE).is_file():
        write_bytes(out, (what / STUDY_PAGE).read_bytes())  # `study` writes it, with its data
        return out
    if not what.is_dir():
        problem = "is a file" if what.exists() else "does not exist"
        raise FileNotFoundError(f"{what} {problem}{nearby(what)}; name a folder")
    if not (what / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"{what} holds neither a policy ({CONFIG_FILE}) nor an evaluation ({INFO_FILE}) nor a finished study "
            f"({STUDY_PAGE}); name a run folder, a folder in RUN/eval, or the out of a study"
        )
    load_config(what)
    found = [Results(folder) for folder in read_evaluations_of(what)]
    found.sort(key=lambda each: (not each.is_control, each.info["time"]), reverse=True)
    return _write(out, what, main=found[0] if found else None, others=found[1:], options=options)


def _write(
    out: Path, run: Path | None, *, main: Results | None, others: Sequence[Results], options: ReportOptions
) -> Path:
    name = (run or options.what).resolve().name
    title = f"video2act: {name}" if main is None or others or run == options.what else f"video2act: {name}, {main.name}"
    page = Page(title, f"{options.what}. Written on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.")
    whose = f" Of the evaluation {main.name}." if main and others else ""
    if main is not None:
        page.section("Success", "" if others else _how(main))
        pages.success(page, [main, *others])
    if main is None:
        place = options.what / "eval"
        page.section("Success", f"{place} holds no evaluation. Those of a study's policies lie in its evaluations.")
    if main is not None and others:
        page.table(("evaluation", "how it was run"), [(each.name, _how(each)) for each in (main, *others)])
        page.text(
            f"What follows is of {main.name}, the newest that is no control. `video2act report` of its folder or "
            "of another one shows that one alone."
        )
    chosen = list(zip(("Best episode", "Worst episode"), best_and_worst(main.episodes), strict=True)) if main else []
    if len({episode for _, episode in chosen}) == 1:
        chosen = chosen[:1]
    if main is not None and options.films != "no":
        _show(page, main, run=run, chosen=chosen, options=options, whose=whose)
    if main is not None:
        told = "Wall-clock times of the machine that evaluated, first calls included."
        page.section("Latency and staleness", told + whose)
        pages.timing(page, main, chosen=chosen)
        page.section("Incidents", f"Everything that went wrong during the episodes and was survived.{whose}")
        pages.incidents(page, main)
    if run is not None:
        page.section("Training")
        if not pages.losses(page, run, title="Policy"):
            page.text("The run folder has no metrics.jsonl, so there are no curves.")
        config = load_config(run)
        page.table(("setting", "value"), _settings(config), caption=f"the policy; all of it is in {CONFIG_FILE}")
    if main is not None:
        versions = [(name, version) for name, version in main.info["versions"].items() if version]
        page.section("Versions")
        page.table(("package", "version"), versions, caption=f"of the evaluation, {main.info['time']}")
    return page.write(out)


def _how(results: Results) -> str:
    return Text.from_markup(heading(results.info)).plain


def _show(
    page: Page,
    main: Results,
    *,
    run: Path | None,
    chosen: Sequence[tuple[str, EpisodeOutcome]],
    options: ReportOptions,
    whose: str,
) -> None:
    """The sections that need the episodes' traces, the simulator, and the policy."""
    told = "Best: the fastest success, or the shortest failure. Worst: the longest failure, or the slowest success."
    page.section("Best and worst episode", told + whose)
    traced = [
        (title, episode, main.traces[key])
        for title, episode in chosen
        if (key := (episode.env, episode.seed)) in main.traces
    ]
    config = None if run is None else load_config(run)
    seen, reason = [], ""
    if run is None or config is None:
        named = main.info["settings"]["run"]
        reason = f"{named} is not found with the policy that was evaluated, so its episodes cannot be played again."
    elif not traced:
        reason = (
            "This evaluation kept no traces (traces.safetensors); evaluate again to see its best and worst episodes."
        )
    elif options.films == "auto" and (own := [each.env for _, each, _ in traced if is_own(each.env)]):
        reason = (
            f"{own[0]} is an environment of your own, perhaps a robot: choose films=yes to play its episodes again."
        )
    elif not config.all_cameras:
        reason = "This policy has no camera."
    else:
        from video2act.evaluation import sight  # torch

        try:
            settings = main.info["settings"]
            seen = [
                sight.see(title, episode, trace=trace, config=config, settings=settings)
                for title, episode, trace in traced
            ]
            streams = config.system2.streams if config.system2 and not settings["blind"] else ()
            sight.show_episodes(page, seen, streams=streams)
        except (ImportError, ValueError) as error:
            reason = f"The episodes cannot be played again here: {error}"
    if reason:
        page.text(reason, is_warning=True)
        _films_of_evaluation(page, main)
    if seen and run is not None:
        _show_insides(page, seen, run=run, is_blind=main.info["settings"]["blind"], device=options.device)
    if traced:
        page.section(
            "Plan and execution", "Faint: each plan of System 1 as it was made. Strong: the actions that were sent."
        )
        names = seen[0].action_names if seen else ()
        pages.plan_errors(page, list(main.traces.values()))
        for title, _, trace in traced:
            pages.plans(page, trace, title=title, names=names, fps=main.info["policy"]["fps"])


def _show_insides(page: Page, seen: Sequence[Any], *, run: Path, is_blind: bool, device: str) -> None:
    from video2act.evaluation import sight
    from video2act.policy import Video2Act

    if is_exported(run) or not (run / WEIGHTS_FILE).is_file():
        page.text("What both systems see is shown for run folders with PyTorch's weights only.")
        return
    policy = Video2Act.load(run, device)
    if policy.system2 is not None and not is_blind:
        page.section("What System 2 sees", SYSTEM2_TEXT)
        sight.show_system2(page, seen, policy=policy)
    page.section("Where System 1 attends", ATTENTION_TEXT)
    sight.show_attention(page, seen, policy=policy.blinded() if is_blind else policy)


def _films_of_evaluation(page: Page, results: Results) -> None:
    from video2act.viz.video_writer import webm_of

    for task in results.info["per_task"]:
        for path in task["metrics"]["video_paths"][:2]:
            if (results.folder / path).is_file():
                page.film(webm_of(results.folder / path), f"Filmed by the evaluation: {path}", is_wide=True)


def _settings(config: PolicyConfig) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [
        ("cameras of System 1", ", ".join(config.cameras) or "none"),
        ("control steps per second", f"{config.fps:g}"),
        ("actions of a plan, executed of them", f"{config.horizon}, {config.execute_steps}"),
        ("System 1", f"{config.system1.depth} blocks of width {config.system1.hidden}"),
    ]
    if config.system2 is None:
        return [*rows, ("System 2", "none")]
    rows += [
        ("video model of System 2", config.system2.backbone.name),
        ("refreshed every", f"{config.refresh_every} control steps"),
    ]
    for stream in config.system2.streams:
        frames = f"{stream.num_frames} frames of {stream.camera}, every {stream.stride} control steps"
        ahead = f", {stream.imagine.num_frames} imagined" if stream.imagine.num_frames else ""
        rows.append(
            (
                f"stream {stream.name}",
                f"{frames}; filter {stream.filter.name}{ahead}; {stream.former.num_tokens} tokens",
            )
        )
    return rows
