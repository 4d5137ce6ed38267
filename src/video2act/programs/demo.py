"""`video2act demo`: all steps in one command, from demonstrations to a policy that is evaluated, and its controls.

Budgets are training steps, so a slow machine learns the same, later. Each stage is skipped if it is already done and
continued if it was interrupted. The seconds of each stage are kept, and the total counts all of them.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table

from video2act.config import TrainConfig, VideoTrainConfig
from video2act.config.plain import damage_named, read_json
from video2act.data import LeRobotDataset, open_dataset, open_datasets
from video2act.data.lerobot_format import INFO_PATH, load_info
from video2act.envs import expand_suites
from video2act.files.atomic import write_text
from video2act.files.differences import differences
from video2act.files.evaluation_folder import INFO_FILE, env_of, read_evaluation
from video2act.files.run_folder import TRAINING_FILE
from video2act.presets import make_preset
from video2act.programs.collect import collect
from video2act.programs.evaluate import evaluate
from video2act.programs.report import report
from video2act.programs.train import train
from video2act.programs.train_video import train_video
from video2act.training.resuming import is_trained

SUMMARY_FILE, STAGES_FILE, FILM_FILE, PAGE_FILE = "summary.json", "stages.json", "rollout.mp4", "report.html"
EVALUATION_SEED = 1000
"""demonstrations take their seeds from 0 up"""


@dataclass(frozen=True)
class Demo:
    """How many demonstrations are recorded, training steps taken, episodes evaluated."""

    episodes: dict[str, int]
    """demonstrations of each environment, or of a suite's tasks together"""
    video_steps: int
    policy_steps: int
    eval_episodes: int
    """per environment"""
    wrong_episodes: int = 8
    """per environment and wrong instruction"""
    vision_dropout: float = 0.0
    """see `TrainConfig`"""
    noise: float = 0.1
    """see `CollectOptions`"""
    policy: dict[str, Any] = field(default_factory=dict)
    """changes of the preset `tiny`, by their paths"""
    minutes: int = 12
    """of the whole on two cores, about"""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What is evaluated."""
        return expand_suites(list(self.episodes))


DEMOS = {
    "push": Demo({"metaworld:push-v3": 100}, video_steps=500, policy_steps=1500, eval_episodes=25),
    "three_tasks": Demo(
        # a harder task needs more demonstrations: training draws from all of them alike
        {"metaworld:push-v3": 100, "metaworld:drawer-open-v3": 30, "metaworld:button-press-topdown-v3": 30},
        video_steps=600,
        policy_steps=3000,
        eval_episodes=25,
        vision_dropout=0.3,
        minutes=24,
    ),
    "libero": Demo(
        {"libero:libero_object": 200},
        video_steps=1500,
        policy_steps=8000,
        eval_episodes=10,
        wrong_episodes=10,
        vision_dropout=0.3,
        noise=0.05,  # an action is 5 cm
        # at 64 px an object is four pixels wide; a plan of 8 actions at 20 Hz is as long as one of 32 in MetaWorld
        policy={"image_px": 128, "horizon": 16, "execute_steps": 8},
        minutes=180,
    ),
}
FEW_TASKS = 3
"""up to so many tasks, each is told the instruction of every other; of more, one"""


def demo(name: str, out: Path | str, *, seed: int = 0) -> dict[str, Any]:
    """Collect, train both systems, evaluate; print the table, and write it, a film and a report into `out`.

    Args:
        name: of `DEMOS`.
        seed: of both trainings.
    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in DEMOS:
        raise ValueError(f"unknown demo {name!r}; choose from {', '.join(DEMOS)}")
    plan, out = DEMOS[name], Path(out)
    out.mkdir(parents=True, exist_ok=True)
    identity = {"demo": name, "seed": seed, **json.loads(json.dumps(asdict(plan)))}
    del identity["minutes"]
    stages = Stages(out / STAGES_FILE, identity)
    data = tuple(out / "data" / env.replace(":", "_") for env in plan.episodes)
    video_model, policy = out / "video_model", out / "policy"

    print(f"{name}: about {plan.minutes} minutes on two cores; interrupted, the same command goes on", flush=True)
    for (env, count), dataset in zip(plan.episodes.items(), data, strict=True):
        work = partial(collect, env, dataset, episodes=count, noise=plan.noise, workers=None)  # as the command
        stages.run(f"collect {env}", work, is_made=partial(_is_recorded, dataset, count))
    video_training = VideoTrainConfig(num_steps=plan.video_steps, seed=seed)

    def look(resume: bool) -> None:
        train_video([open_dataset(path) for path in data], out=video_model, training=video_training, resume=resume)

    stages.run("train-video", partial(_train, video_model, look), is_made=partial(is_trained, video_model))
    training = TrainConfig(num_steps=plan.policy_steps, seed=seed, vision_dropout=plan.vision_dropout)

    def act(resume: bool) -> None:
        opened = open_datasets(data)
        config = make_preset("tiny", opened).replace(plan.policy)
        train(config, opened, out=policy, training=training, video_model=video_model, resume=resume)

    stages.run("train", partial(_train, policy, act), is_made=partial(is_trained, policy))

    results = policy / "eval"  # the model card looks for them there
    common = {"seed": EVALUATION_SEED, "show": True}
    full = {"episodes": plan.eval_episodes, **common}
    control = {"num_videos": 0, "expert": False}  # it has played these seeds already
    evaluations: list[tuple[str, Sequence[str], dict[str, Any]]] = [
        ("full", plan.tasks, {"num_videos": 1, **full}),
        ("blind", plan.tasks, {"blind": True, **control, **full}),
    ]
    for other, envs, sentence in _wrong_instructions(plan, data):
        wrong = {"instruction": sentence, "episodes": plan.wrong_episodes, **control, **common}
        evaluations.append((f"told {other.partition(':')[2].replace('/', '_')}", envs, wrong))
    for label, envs, options in evaluations:
        work = partial(evaluate, policy, envs, out=results / label, workers=None, **options)
        stages.run(f"eval {label}", work, is_made=(results / label / INFO_FILE).is_file)

    stages.run("report", partial(report, policy, out=out / PAGE_FILE), is_made=(out / PAGE_FILE).is_file)
    summary = _summary(plan, results, stages=stages)
    write_text(out / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    film = next((results / "full").rglob("*.mp4"), None)
    if film is None:
        full = results / "full"
        raise FileNotFoundError(f"{full} holds no film (*.mp4); remove {full}, and the same command makes it again")
    shutil.copyfile(film, out / FILM_FILE)
    _print(name, summary, stages=stages)
    print(f"policy: {policy}   film: {out / FILM_FILE}   summary: {out / SUMMARY_FILE}")
    print(f"the report, for a browser: {(out / PAGE_FILE).resolve()}")
    return summary


class Stages:
    """The stages that are done, and their seconds, in a file.

    Raises:
        ValueError: the file belongs to another demo.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self._path = path
        self._identity = identity
        self.seconds: dict[str, float] = {}
        if path.is_file():
            with damage_named(path, "remove it, and all stages are looked at again"):
                before = read_json(path)
                self.seconds = {name: float(seconds) for name, seconds in before["seconds"].items()}
            before = {name: before.get(name) for name in identity}
            if changed := differences(before, identity, words=("then", "now")):
                raise ValueError(
                    f"{path.parent} holds another demo ({'; '.join(changed)}); choose another folder, or remove it"
                )

    def run(self, name: str, work: Callable[[], object], *, is_made: Callable[[], bool] | None = None) -> None:
        """Do the work, unless it is done already and what it made is there."""
        if name in self.seconds and (is_made is None or is_made()):
            print(f"{name}: already done in {self.seconds[name]:.0f} s")
            return
        print(f"== {name}", flush=True)
        started = monotonic()
        work()
        self.seconds[name] = monotonic() - started
        write_text(self._path, json.dumps({**self._identity, "seconds": self.seconds}, indent=2) + "\n")


def _train(folder: Path, program: Callable[[bool], object]) -> None:
    """Start a training or resume it; a finished one is left alone."""
    if not is_trained(folder):
        program((folder / TRAINING_FILE).is_file())


def _is_recorded(dataset: Path, episodes: int) -> bool:
    return (dataset / INFO_PATH).is_file() and load_info(dataset).total_episodes >= episodes


def _wrong_instructions(plan: Demo, data: tuple[Path, ...]) -> list[tuple[str, list[str], str]]:
    """(a task, the environments of other tasks, that task's instruction): of a few tasks, each instruction is told in
    all other scenes, of many in those of the task before."""
    sentences = {
        entry.environment or env: entry.tasks[0]
        for env, path in zip(plan.episodes, data, strict=True)
        for entry in LeRobotDataset(path).entries
    }
    found = []
    for number, task in enumerate(plan.tasks):
        others = [env for env in plan.tasks if env != task]
        others = others if len(plan.tasks) <= FEW_TASKS else [plan.tasks[number - 1]]
        found += [(task, others, sentences[task])] * bool(others)
    return found


def _summary(plan: Demo, results: Path, *, stages: Stages) -> dict[str, Any]:
    full, blind = read_evaluation(results / "full"), read_evaluation(results / "blind")
    success = full["overall"]["success"]
    summary = {
        "success_rate": _share(success),
        "successes": success["successes"],
        "episodes": success["n_episodes"],
        "wilson_low": success["wilson_95"][0],
        "wilson_high": success["wilson_95"][1],
        "expert_rate": _share(full["overall"]["expert"]),
        "blind_rate": _share(blind["overall"]["success"]),
        "system1_ms_p50": 1000 * full["latency_s"]["system1"]["p50"],
        "system2_ms_p50": 1000 * full["latency_s"]["system2"]["p50"],
        "staleness_p95_s": full["staleness"]["seconds"]["p95"],
        "total_seconds": sum(stages.seconds.values()),
    }
    if len(plan.tasks) > 1:
        wrong = {
            f"{env_of(task)}, {path.name}": task["success"]
            for path in sorted(results.glob("told *"))
            for task in read_evaluation(path)["per_task"]
        }
        summary["tasks"] = {env_of(task): task["success"] for task in full["per_task"]}
        summary["wrong_instruction"] = wrong
    return summary


def _share(rate: dict[str, Any]) -> float:
    return rate["successes"] / rate["n_episodes"]


def _print(name: str, summary: dict[str, Any], *, stages: Stages) -> None:
    table = Table(title=f"video2act demo: {name}", show_header=False)
    interval = f"{100 * summary['wilson_low']:.0f}-{100 * summary['wilson_high']:.0f} %"
    table.add_row("success", f"{summary['successes']} of {summary['episodes']} (95 % interval {interval})")
    for task, rate in summary.get("tasks", {}).items():
        table.add_row(f"  {task}", f"{rate['successes']} of {rate['n_episodes']}")
    wrong = summary.get("wrong_instruction", {})
    if wrong:
        won, of = (sum(rate[key] for rate in wrong.values()) for key in ("successes", "n_episodes"))
        table.add_row("told another task's instruction", f"{won} of {of}")
    for label, rate in wrong.items():
        table.add_row(f"  {label}", f"{rate['successes']} of {rate['n_episodes']}")
    table.add_row("scripted expert, same seeds", f"{100 * summary['expert_rate']:.0f} %")
    table.add_row("the policy, blind", f"{100 * summary['blind_rate']:.0f} %")
    table.add_row("System 1, one chunk", f"{summary['system1_ms_p50']:.1f} ms (median)")
    table.add_row("System 2, one refresh", f"{summary['system2_ms_p50']:.1f} ms (median)")
    table.add_row("staleness of the video condition", f"{1000 * summary['staleness_p95_s']:.0f} ms (95th percentile)")
    for stage, seconds in stages.seconds.items():
        table.add_row(f"  {stage}", f"{seconds:.0f} s")
    table.add_row("total", f"{summary['total_seconds'] / 60:.1f} minutes, installation not counted")
    Console().print(table)
