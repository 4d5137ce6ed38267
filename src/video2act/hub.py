"""Policies on the Hugging Face Hub: the run folder as a repo, with a card: what the policy is, its data, its success.

This file knows the config and plain values, not the policy. The card's tables come from files of the run folder:
`config.json`, `data.json` and `eval/*/eval_info.json`. What was not measured is marked so.
"""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from video2act.config import BackboneConfig, PolicyConfig
from video2act.files.atomic import write_text
from video2act.files.evaluation_folder import by_age, control_of, env_of, read_evaluations_of
from video2act.files.fetched import fetched, named_repo
from video2act.files.run_folder import BESIDE, CARD_FILE, SHARED, load_trained_datasets
from video2act.viz.markdown import markdown_table


def complete(folder: Path, card: str, *, run: Path | None = None) -> None:
    """Add to a saved policy its card, and the files of its run that go to the Hub."""
    for name in BESIDE if run else ():
        if run and (run / name).is_file() and run.resolve() != folder.resolve():
            shutil.copyfile(run / name, folder / name)
    write_text(folder / CARD_FILE, card)


def locate_policy(source: Path | str, revision: str | None = None) -> Path:
    """A run folder as it is, or the folder into which a repo `owner/name` is fetched.

    Raises:
        FileNotFoundError: there is neither such a folder nor a repo that can be reached.
    """
    repo = named_repo(source)
    return fetched(repo, SHARED, revision=revision) if repo else Path(source).expanduser()


def upload(repo_id: str, folder: Path, *, private: bool = False) -> str:
    """Upload a policy's folder as a repo; returns the address."""
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(repo_id, private=private, exist_ok=True)
    message = f"{repo_id}: a Video2Act policy"
    return str(
        api.upload_folder(repo_id=repo_id, folder_path=str(folder), commit_message=message, allow_patterns=list(SHARED))
    )


def model_card(config: PolicyConfig, title: str, *, num_parameters: int, source: str, run: Path | None = None) -> str:
    """README.md of a policy: how to use it, its config, its data, its success.

    Args:
        source: the argument of `from_pretrained`: a folder or a repo.
        run: the run folder, for data and success; without it the card has none.
    Raises:
        FileNotFoundError: `run` is not a folder.
        ValueError: a file of the run folder is damaged; the message names it.
    """
    if run is not None and not run.is_dir():
        raise FileNotFoundError(f"{run} is not a run folder; leave it out, or name the folder that train wrote")
    evaluations = list(read_evaluations_of(run).values()) if run else []
    parts = [
        "---\nlibrary_name: video2act\npipeline_tag: robotics\ntags: [robotics, video2act, imitation-learning]\n---",
        f"# {title}",
        "A [Video2Act](https://arxiv.org/abs/2512.03044) policy: a slow system that reads video through a diffusion "
        "model, and a fast one that acts.",
        f'```python\nfrom video2act import Video2Act\n\npolicy = Video2Act.from_pretrained("{source}")\n```',
        _command(source, evaluations) if evaluations else "",
        "## Policy",
        markdown_table(("", ""), _config_rows(config, num_parameters / 1e6)),
        "## Data",
        _data(run),
        "## Success",
        _success(evaluations),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _config_rows(config: PolicyConfig, millions: float) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("parameters", f"{millions:.1f} M, frozen ones included"),
        ("cameras", ", ".join(config.cameras) or "none"),
        ("state, action", f"{config.state_dim} and {config.action_dim} numbers"),
        ("control rate", f"{config.fps:g} Hz"),
        ("chunk", f"{config.horizon} actions, of which {config.execute_steps} are executed"),
    ]
    if config.system2 is None:
        return [*rows, ("System 2", "none")]
    backbone = config.system2.backbone
    own = isinstance(backbone, BackboneConfig)
    missing = "whose VAE and text encoder are" if config.system2.tuning.method == "full" else "which is"
    source = "trained by train-video" if own else f"`{backbone.source}`, {missing} not in this repo"
    rows.append(("video model", f"{backbone.name}, {source}"))
    for stream in config.system2.streams:
        how = f"{stream.num_frames} frames of {stream.camera}, {stream.filter.name}, encoded as a {stream.encoding}"
        how += ", features scaled clip by clip (former.norm=clip)" * (stream.former.norm == "clip")
        rows.append((f"stream {stream.name}", how))
    return [*rows, ("System 2 refreshes", f"every {config.refresh_every} control steps")]


def _named(tasks: Collection[str]) -> list[str]:
    """Environments for a command: of a suite with many tasks, such as libero:libero_object/0 to /9, the suite."""
    suites = [task.partition("/")[0] for task in tasks]
    named = (suite if suites.count(suite) > 3 else task for suite, task in zip(suites, tasks, strict=True))
    return list(dict.fromkeys(named))


def _command(source: str, evaluations: list[dict[str, Any]]) -> str:
    """What evaluates in all their environments, on the scenes of the newest one; of a control only if all are."""
    environments = _named(dict.fromkeys(env_of(task) for info in evaluations for task in info["per_task"]))
    seeds = max(evaluations, key=by_age)["per_task"][0]["metrics"]["seeds"]
    scenes = f"--episodes {len(seeds)} --seed {seeds[0]}"
    return f"```sh\nvideo2act eval {source} --env {' '.join(environments)} {scenes}\n```"


def _some(tasks: Sequence[str], number: int = 5) -> str:
    more = len(tasks) - number
    return "; ".join(tasks[:number]) + f"; and {more} more" * (more > 0)


def _data(run: Path | None) -> str:
    sets = load_trained_datasets(run) if run else ()
    rows = [(data.name, data.robot, data.episodes, data.frames, _some(data.tasks)) for data in sets]
    notes = [f"{data.name}: {data.labels}." for data in sets if data.labels]
    notes += [f"{data.name}: recorded with --visual-shift {data.visual_shift}." for data in sets if data.visual_shift]
    if not rows:
        return "Not recorded."
    return "\n\n".join([markdown_table(("dataset", "robot", "episodes", "frames", "tasks"), rows), *notes])


def _success(evaluations: list[dict[str, Any]]) -> str:
    """Every evaluation of the run folder; a rate with its interval, never alone."""
    rows = []
    for info in evaluations:
        control = control_of(info)
        for task in info["per_task"]:
            success, expert = task["success"], task["expert"]
            low, high = success["wilson_95"]
            counted, shown = (f"{of['successes']}/{of['n_episodes']}" if of else "not run" for of in (success, expert))
            interval = f"{100 * low:.0f}-{100 * high:.0f} %"
            seeds = task["metrics"]["seeds"]
            rows.append((env_of(task), control, counted, interval, shown, f"{seeds[0]} to {seeds[-1]}", info["time"]))
    if not rows:
        return "Not evaluated."
    return markdown_table(
        ("environment", "control", "success", "95 % interval", "expert on the same scenes", "seeds", "when"), rows
    )
