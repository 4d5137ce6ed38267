"""A study as data: arms x training seeds x scenes, what they share, and the contrast that was named beforehand."""

import re
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from video2act.config.checks import Bound, CheckedConfig, CountingInt, PoolName, Processes, Seed, check
from video2act.config.nearby import meant

NAME = r"[A-Za-z0-9][A-Za-z0-9_]*"

Plain = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetPlan(CheckedConfig):
    """Where a dataset comes from: one of the three."""

    folder: str = ""
    """a dataset that exists, seen from the yaml file"""
    collect: Plain = field(default_factory=dict)
    """fields of `collect`: env, episodes, noise, ..."""
    label: Plain = field(default_factory=dict)
    """fields of `label`; data and videos are names of this study's datasets"""

    def _check(self) -> None:
        given = [name for name in ("folder", "collect", "label") if getattr(self, name)]
        check(len(given) == 1, f"a dataset has one of folder, collect and label, got {', '.join(given) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class VideoModelPlan(CheckedConfig):
    """How a video model is trained."""

    data: tuple[str, ...]
    """names of datasets; actions are not needed"""
    options: Plain = field(default_factory=dict)
    """other fields of `train-video`: preset, changes, episodes, camera, ..."""
    training: Plain = field(default_factory=dict)
    """its knobs: num_steps, batch_size, ...; num_steps 0 leaves random weights behind a fitted codec"""
    per_seed: bool = False
    """one for each training seed; else all seeds share one"""


OF_TRAINING = ("preset", "changes", "options", "data", "video_data", "video_model", "training")
"""fields of `ArmPlan` that a training reads"""


@dataclass(frozen=True, kw_only=True)
class ArmPlan(CheckedConfig):
    """One setting: what is trained, and how it is evaluated. What is left out is the study's."""

    title: str = ""
    """for tables; the arm's name, if left out"""
    preset: str = ""
    """tiny, if neither this nor a config (in `options`) is given"""
    changes: Plain = field(default_factory=dict)
    """fields of the policy by their paths, as `train --policy.PATH` takes them"""
    options: Plain = field(default_factory=dict)
    """other fields of `train`: cameras, episodes, ..."""
    data: tuple[str, ...] = ()
    """names of datasets"""
    video_data: tuple[str, ...] = ()
    """names of datasets, for training.video_loss_weight"""
    video_model: str = ""
    """name of a video model; the study's, if left out and the policy has a System 2"""
    training: Plain = field(default_factory=dict)
    """knobs of the training, over those of the study"""
    env: tuple[str, ...] = ()
    """where it is evaluated: the same scenes in another form, such as one whose state holds more"""
    evaluate: Plain = field(default_factory=dict)
    """fields of `eval`, over those of the study. Arms that differ in these alone share their trainings"""
    policy: str = ""
    """a run folder that was trained elsewhere, seen from the yaml file; {seed} stands for the training seed"""
    results: str = ""
    """an eval_info.json that was made elsewhere, or its folder, likewise; nothing is run"""

    def _check(self) -> None:
        check(not (self.policy and self.results), "give policy or results, not both")
        for name in ("policy", "results"):
            path = getattr(self, name)
            left = path.replace("{seed}", "")
            problem = f"{name}={path!r}: only {{seed}}, which stands for the training seed, may stand in braces"
            check("{" not in left and "}" not in left, f"{problem}; rename the file, or correct the path")
        made = "policy" if self.policy else "results"
        ignored = OF_TRAINING if self.policy else (*OF_TRAINING, "evaluate") if self.results else ()
        given = [name for name in ignored if getattr(self, name) != getattr(ArmPlan(), name)]
        what = "was trained elsewhere" if self.policy else "was evaluated elsewhere"
        check(not given, f"{', '.join(given)} would have no effect: {getattr(self, made)} {what}; leave it out")

    def policy_of(self, seed: int) -> str:
        return self.policy.replace("{seed}", str(seed))

    def results_of(self, seed: int) -> str:
        return self.results.replace("{seed}", str(seed))

    @property
    def start(self) -> str:
        """The preset that its policy starts from; empty: a config, or nothing is trained."""
        is_from_elsewhere = self.policy or self.results or "config" in self.options
        return self.preset or ("" if is_from_elsewhere else "tiny")


@dataclass(frozen=True, kw_only=True)
class Contrast(CheckedConfig):
    """A difference that the study is about."""

    arm: str
    """the arm whose success is asked for"""
    than: str
    """the arm whose success is taken from it"""
    goal_points: float | None = None
    """the difference that was hoped for, in percentage points; it is printed beside the result"""
    why: str = ""
    """what it would show"""

    def _check(self) -> None:
        goal = self.goal_points
        check(goal is None or -100 <= goal <= 100, f"goal_points must be from -100 to 100, got {goal}")

    def __str__(self) -> str:
        return f"{self.arm} - {self.than}"


@dataclass(frozen=True, kw_only=True)
class Scenes(CheckedConfig):
    """The evaluation seeds, which all arms share. They must not be those of demonstrations."""

    seed: Seed = 3000
    """the first one"""
    episodes: CountingInt = 50
    """per environment"""


@dataclass(frozen=True, kw_only=True)
class Slice(CheckedConfig):
    """A smaller form of the study, for a look or a test."""

    arms: tuple[str, ...] = ()
    """all, if left out"""
    seeds: tuple[Seed, ...] = ()
    """all, if left out"""
    changes: Plain = field(default_factory=dict)
    """fields of the study to change, by their paths: `datasets.demos.collect.episodes: 10`"""


@dataclass(frozen=True, kw_only=True)
class StudyConfig(CheckedConfig):
    """The content of a study's yaml file."""

    name: Annotated[str, Bound("must be letters, digits and _", lambda name: bool(re.fullmatch(NAME, name)))]
    """of the study"""
    question: str = ""
    """what the study asks; heads its report"""
    env: tuple[str, ...]
    """environments of the evaluations"""
    datasets: dict[str, DatasetPlan] = field(default_factory=dict)
    """name -> what is recorded, labelled or there"""
    data: tuple[str, ...] = ()
    """names of the datasets that arms are trained on"""
    video_models: dict[str, VideoModelPlan] = field(default_factory=dict)
    """name -> what is trained, or there"""
    video_model: str = ""
    """the name of the one that arms use"""
    training: Plain = field(default_factory=dict)
    """knobs of every training: num_steps, batch_size, ..."""
    evaluate: Plain = field(default_factory=dict)
    """fields of `eval` for every arm"""
    arms: dict[str, ArmPlan]
    """name -> its differences"""
    seeds: tuple[Seed, ...]
    """training seeds, which all arms share"""
    scenes: Scenes = field(default_factory=Scenes)
    """of every evaluation"""
    primary: Contrast
    """named before the run, printed first"""
    secondary: tuple[Contrast, ...] = ()
    """the others; their p are corrected together (Holm)"""
    slices: dict[str, Slice] = field(default_factory=dict)
    """name -> a smaller form, for `--slice`"""

    def _check(self) -> None:
        for what, names in (("a dataset", self.datasets), ("a video model", self.video_models), ("an arm", self.arms)):
            for name in names:
                check(bool(re.fullmatch(NAME, name)), f"the name of {what} is letters, digits and _, got {name!r}")
        check(bool(self.env), "env must name one environment or more, got none")
        check(len(self.arms) > 1, "a study compares arms; name two or more")
        check(0 < len(set(self.seeds)) == len(self.seeds), f"seeds must be given, each once, got {list(self.seeds)}")
        for name in (*self.data, *(name for plan in self.video_models.values() for name in plan.data)):
            known("dataset", name, self.datasets)
        for name, plan in self.datasets.items():
            for part in ("data", "videos"):
                given = plan.label.get(part, [])
                check(isinstance(given, list | tuple), f"dataset {name}: label.{part}: expected a list, got {given!r}")
            for other in (*plan.label.get("data", ()), *plan.label.get("videos", ())):
                known(f"dataset (of dataset {name})", other, [each for each in self.datasets if each != name])
        if self.video_model:
            known("video model", self.video_model, self.video_models)
        for name, arm in self.arms.items():
            for other in (*arm.data, *arm.video_data):
                known(f"dataset (of arm {name})", other, self.datasets)
            if arm.video_model:
                known(f"video model (of arm {name})", arm.video_model, self.video_models)
            is_made = arm.policy or arm.results or arm.data or self.data
            check(bool(is_made), f"arm {name} is trained here, and no data are named; name datasets (data)")
        for contrast in self.contrasts:
            for name in (contrast.arm, contrast.than):
                known(f"arm (of contrast {contrast})", name, self.arms)
            check(contrast.arm != contrast.than, f"contrast {contrast}: an arm does not differ from itself")
        pairs = [frozenset((contrast.arm, contrast.than)) for contrast in self.contrasts]
        twice = next((str(each) for each, pair in zip(self.contrasts, pairs, strict=True) if pairs.count(pair) > 1), "")
        check(not twice, f"the contrast {twice} is named twice, in this order or the other; name it once")
        titles = [self.title(arm) for arm in self.arms]
        same = next((title for title in titles if titles.count(title) > 1), "")
        check(not same, f"two arms have the title {same!r}; nobody could tell them apart")
        for name, part in self.slices.items():
            for arm in part.arms:
                known(f"arm (of slice {name})", arm, self.arms)

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The primary one first."""
        return (self.primary, *self.secondary)

    def title(self, arm: str) -> str:
        return self.arms[arm].title or arm


@dataclass(frozen=True, kw_only=True)
class StudyOptions(CheckedConfig):
    """Train and evaluate every arm of a yaml file with every seed, and compare them. Run again to go on."""

    study: Path
    """the yaml file; see docs/evaluating.md"""
    out: Path
    """folder for data, policies, evaluations, table.md, plots and study.html"""
    arms: tuple[str, ...] | None = None
    """a part of the arms"""
    seeds: tuple[Seed, ...] | None = None
    """a part of the training seeds"""
    slice: str | None = None
    """a smaller form that the file names, such as smoke"""
    workers: Processes | None = None
    """jobs at once; default: 2, on Ray one per core (or GPU) of the cluster"""
    pool: PoolName = "local"
    """where the jobs run: local, or on a Ray cluster: ray (this machine's), ray://HOST:PORT. See docs/scaling.md"""
    dry_run: bool = False
    """list the jobs with an estimate of their time, and run nothing"""
    report_only: bool = False
    """write the report of what is done, and run nothing"""
    results: tuple[Path, ...] = ()
    """results.json of this study from other machines; the arms and seeds that they hold are not run again"""


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CheckedConfig):
    """Compare evaluations on the same scenes: paired tests, intervals, and what cannot be told apart."""

    evaluations: tuple[Path, ...]
    """folders of `eval`, their eval_info.json, or runs with one evaluation. Several that differ in the training seed
    alone are one arm: join them by commas"""
    out: Path | None = None
    """json to write"""

    def _check(self) -> None:
        got = str(self.evaluations[0]) if self.evaluations else "none"
        meant = "; a comma joins the training seeds of one arm, a space parts two arms" * ("," in got)
        check(len(self.evaluations) > 1, f"compare needs two arms or more, got {got}{meant}")


def known(what: str, name: str, choices: Collection[str]) -> None:
    """Raises ValueError for a name that is not among the choices, with the nearest ones."""
    if name in choices:
        return
    hint = meant(name, choices, n=2, form=repr)
    raise ValueError(f"there is no {what} {name!r}; {hint}there are {', '.join(choices) or 'none'}")


def changed(plain: Plain, changes: Plain, *, where: str) -> Plain:
    """Plain data with values changed by their paths (`scenes.episodes`). Raises ValueError for an unknown path; the
    last name of a path may be new."""
    copied = deepcopy(plain)
    for path, value in changes.items():
        *above, last = path.split(".")
        place = copied
        for name in above:
            if name not in place and name in ("training", "scenes", "evaluate", "options", "changes"):
                place[name] = {}
            known(f"field of the study ({where}: {path})", name, place)
            place = place[name]
            check(isinstance(place, dict), f"{where}: {path}: {name} is a value; it has no {last}")
        place[last] = value
    return copied
