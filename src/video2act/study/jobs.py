"""The jobs of a study: commands of this package, each with the folder that it writes and the jobs that it waits for.

A job is a command line that anybody can type, run in the study's folder. Arms that ask for the same training share it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from video2act.config import EvaluateOptions, SimulatedLatency, TrainConfig
from video2act.config.checks import check, located
from video2act.config.data_options import CollectOptions
from video2act.config.files import build, read_plain
from video2act.config.nearby import nearby
from video2act.config.study import ArmPlan, Plain, Slice, StudyConfig, changed, known
from video2act.config.training_options import LabelOptions, TrainOptions, TrainVideoOptions
from video2act.data import LeRobotDataset
from video2act.data.seeds import recorded_seeds
from video2act.envs import expand_suites, list_environments, num_scenes
from video2act.envs.choices import check_choice
from video2act.envs.registry import check_own, is_simulated
from video2act.files.evaluation_folder import INFO_FILE, evaluations_below
from video2act.files.run_folder import policy_fingerprint
from video2act.presets import ANY_DATA
from video2act.training.choice import check_beside, choose_policy
from video2act.training.effects import check_effects

PATHS = ("init", "config", "cache", "video_model")
"""options of trainings that name files or folders"""
MANAGED = ("seed", "out", "data", "resume", "video_model", "workers", "pool", "episodes")
"""options that the study sets itself"""


@dataclass(frozen=True)
class StudyJob:
    """A command, and what it needs."""

    name: str
    words: tuple[str, ...]
    """after `video2act`; folders are seen from the study's, or absolute"""
    out: str
    """folder that it writes"""
    needs: tuple[str, ...] = ()
    """names of jobs before it"""
    amount: int = 1
    """training steps, or episodes"""
    reads: tuple[str, ...] = ()
    """folders of datasets, video models and policies, and files, that it is made from"""

    @property
    def kind(self) -> str:
        """The verb."""
        return self.words[0]

    def __str__(self) -> str:
        return f"job {self.name}"


@dataclass
class StudyPlan:
    """The jobs of a study by name, in the order in which they are begun."""

    config: StudyConfig
    folder: Path
    """of the yaml file"""
    jobs: dict[str, StudyJob] = field(default_factory=dict)
    results: dict[tuple[str, int], str] = field(default_factory=dict)
    """the eval_info.json of each arm and training seed, seen from the study's folder"""

    def add(self, job: StudyJob) -> str:
        """Take in a job, unless there is one with the same command; returns its name."""
        for other in self.jobs.values():
            if _without_out(other) == _without_out(job):
                return other.name
        self.jobs[job.name] = job
        return job.name

    def needed(self, evaluated: Iterable[tuple[str, int]]) -> dict[str, StudyJob]:
        """The jobs that the evaluations of these arms and seeds need."""
        chosen = {f"eval_{arm}_seed{seed}" for arm, seed in evaluated}
        found, left = set[str](), [name for name in self.jobs if name in chosen]
        while left:
            name = left.pop()
            found.add(name)
            left += self.jobs[name].needs
        return {name: job for name, job in self.jobs.items() if name in found}


def _without_out(job: StudyJob) -> tuple[str, ...]:
    return tuple(word for word in job.words if word != job.out)


def load_study(path: Path, part: str | None) -> StudyConfig:
    """A study's yaml file, in the smaller form `part` if one is named.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown field, arm, dataset or slice, with the nearest ones; values that contradict each other,
            in the whole study or in any of its slices.
    """
    if not path.is_file():
        is_what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {is_what}{nearby(path)}; a study is a yaml file, such as those in studies/")
    plain = read_plain(path)
    study: StudyConfig = build(StudyConfig, plain, where=str(path))
    # also those that are not run now: a mistake there would show when one is
    parts = {name: _slice(plain, smaller, where=f"{path}, slice {name}") for name, smaller in study.slices.items()}
    if part is None:
        return study
    known(f"slice in {path}", part, parts)
    return parts[part]


def _slice(plain: Plain, smaller: Slice, *, where: str) -> StudyConfig:
    made = changed(plain, smaller.changes, where=where)
    made |= {"seeds": list(smaller.seeds)} if smaller.seeds else {}
    return build(StudyConfig, made, where=where)


def plan_jobs(config: StudyConfig, folder: Path) -> StudyPlan:
    """Every job of a study, after all of it was checked.

    Args:
        folder: of the yaml file; relative folders in it are seen from there.
    Raises:
        FileNotFoundError, ValueError: something that a job would refuse.
    """
    plan = StudyPlan(config, folder)
    made = _Made(plan)
    for env in (*config.env, *(env for arm in config.arms.values() for env in arm.env)):
        _check_environment(env)
        limit, wanted = num_scenes(env), config.scenes.episodes
        problem = f"{env} has {limit} scenes of a task, and others would count twice; lower scenes.episodes={wanted}"
        check(limit is None or wanted <= limit, problem)
    _check_paired(config)
    build(TrainConfig, config.training, where="training")
    for name in config.datasets:
        made.dataset(name)
    for seed in config.seeds:
        for name, arm in config.arms.items():
            with located(f"arm {name}"):
                made.arm(name, arm, seed=seed)
    _check_differ(plan)
    return plan


def _check_paired(config: StudyConfig) -> None:
    """Raise ValueError for two arms whose scenes would be compared with scenes of another environment: those of each
    are paired one by one, in the order of the environments."""
    envs = dict[str, tuple[str, ...]]()
    for name, arm in config.arms.items():
        with located(f"arm {name}"):
            envs[name] = expand_suites(arm.env or config.env)
    (first, ours), *others = envs.items()
    for name, theirs in others:
        told = f"arms {first} and {name} are evaluated in {_listed(ours)}, and in {_listed(theirs)}"
        remedy = "their scenes are compared one by one, so name as many for each arm, in the same order (env)"
        is_shifted = any(env in ours and ours.index(env) != place for place, env in enumerate(theirs))
        check(len(ours) == len(theirs) and not is_shifted, f"{told}; {remedy}")


def _listed(envs: Sequence[str]) -> str:
    shown = ", ".join(envs[:3])
    return f"{len(envs)} environments ({shown}{', ...' * (len(envs) > 3)})" if len(envs) > 1 else shown


def _check_differ(plan: StudyPlan) -> None:
    """Raise ValueError for two arms with the same trainings, evaluated in the same way, or one training as several."""
    arms: dict[Any, str] = {}
    for (name, seed), place in plan.results.items():
        job = plan.jobs.get(f"eval_{name}_seed{seed}")
        twin = arms.setdefault((seed, place if job is None else _without_out(job)), name)
        check(twin == name, f"arms {twin} and {name} are the same; leave one out")
    for name, arm in plan.config.arms.items():
        found = [plan.jobs[f"eval_{name}_seed{seed}"].reads[0] for seed in plan.config.seeds] if arm.policy else []
        policies = {policy_fingerprint(Path(place)): place for place in found}
        told = f"arm {name}: {', '.join(found)} hold the same policy, which would count as several training seeds"
        check(len(policies) == len(found), f"{told}; name policies of several trainings")


@dataclass
class _Made:
    """Adds jobs to a plan. Each method returns a folder, and the job that makes it, if one does."""

    plan: StudyPlan
    begun: list[str] = field(default_factory=list)
    """datasets whose makings are planned now, each made from the next"""

    def dataset(self, name: str) -> tuple[str, tuple[str, ...]]:
        entry, config = self.plan.config.datasets[name], self.plan.config
        out = f"data/{name}"
        with located(f"dataset {name}"):
            check(name not in self.begun, f"it is made from itself: {' from '.join([*self.begun, name])}")
            if entry.folder:
                found = self._placed_at(entry.folder)
                check((found / "meta/info.json").is_file(), f"{found} holds no dataset; collect one, or name another")
                dataset = LeRobotDataset(found)
                for env, seeds in recorded_seeds([(dataset, tuple(range(len(dataset))))]).items():
                    _check_scenes(config, env, seeds)
                return str(found), ()
            if entry.collect:
                _refuse(entry.collect, ("out", "workers", "pool"), "datasets")
                options = build(CollectOptions, {**entry.collect, "out": out}, where="collect")
                _check_environment(options.env)
                _check_scenes(config, options.env, range(options.seed, options.seed + options.episodes))
                words = ("collect", "--out", out, *flags(entry.collect), "--workers", "1")
                job = StudyJob(f"collect_{name}", words, out, amount=options.episodes)
            else:
                _refuse(entry.label, ("out",), "datasets")
                self.begun.append(name)
                data, needs = self.folders(entry.label.get("data", ()))
                videos, more = self.folders(entry.label.get("videos", ()))
                self.begun.pop()
                given = {**entry.label, "data": data, "videos": videos}
                label: LabelOptions = build(LabelOptions, {**given, "out": out}, where="label")
                training = given.pop("training", {})
                words = ("label", "--out", out, *flags(given), *flags(training))
                steps, reads = label.training.num_steps, (*data, *videos)
                job = StudyJob(f"label_{name}", words, out, (*needs, *more), steps, reads)
        return out, (self.plan.add(job),)

    def folders(self, names: Any) -> tuple[list[str], tuple[str, ...]]:
        found = [self.dataset(name) for name in names]
        return [folder for folder, _ in found], tuple(dict.fromkeys(need for _, needs in found for need in needs))

    def _placed_at(self, path: Any) -> Path:
        return (self.plan.folder / Path(str(path)).expanduser()).resolve()

    def _placed(self, options: Plain) -> tuple[Plain, list[str]]:
        """Options with their files and folders as absolute paths, and these paths."""
        placed = {name: self._placed_at(options[name]) for name in PATHS if options.get(name)}
        for name, path in placed.items():
            check(path.exists(), f"{name}={path} does not exist{nearby(path)}; paths are seen from the yaml file")
        words = {name: str(path) for name, path in placed.items()}
        return {**options, **words}, list(words.values())

    def video_model(self, name: str, seed: int) -> tuple[str, tuple[str, ...]]:
        entry = self.plan.config.video_models[name]
        title = f"{name}_seed{seed}" if entry.per_seed else name
        out = f"video_models/{title}"
        with located(f"video model {name}"):
            _refuse(entry.options, MANAGED[:5], "video_models")
            _refuse(entry.training, ("seed",), "video_models")
            data, needs = self.folders(entry.data)
            own, found = self._placed(entry.options)
            given = {**own, "data": data, "out": out, "training": entry.training}
            options: TrainVideoOptions = build(TrainVideoOptions, given, where="options")
            choose_policy(options, ANY_DATA)
        chosen = {"seed": seed} if entry.per_seed else {}
        words = ("train-video", "--out", out, "--data", *data, *flags(own), *flags(entry.training | chosen))
        steps, reads = max(1, options.training.num_steps), (*data, *found)
        job = StudyJob(f"train_video_{title}", words, out, needs, steps, reads)
        return out, (self.plan.add(job),)

    def policy(self, name: str, arm: ArmPlan, *, seed: int) -> tuple[str, tuple[str, ...]]:
        config, out = self.plan.config, f"policies/{name}_seed{seed}"
        _refuse(arm.options, (*MANAGED[:5], "video_data", "preset", "changes", "training"), "arms")
        training = {**config.training, **arm.training}
        _refuse(training, ("seed",), "training")
        data, needs = self.folders(arm.data or config.data)
        videos, more = self.folders(arm.video_data)
        own, found = self._placed(arm.options)
        start = {"preset": arm.start} if arm.start else {}
        given: Plain = {**start, "changes": arm.changes, **own}
        whole = {**given, "data": data, "video_data": videos, "training": training, "out": out}
        options: TrainOptions = build(TrainOptions, whole, where="options")
        policy = choose_policy(options, ANY_DATA, options.cameras)
        check_beside(policy, options.training, video_data=())
        named = {name: getattr(options, name) for name in ("init", "init_parts", "cache", "live")}
        check_effects(policy, options.training, **named)
        words, reads = ["train", "--out", out, "--data", *data], [*data, *videos, *found]
        name_of_policy = arm.start or own["config"]
        check(bool(policy.system2) or not arm.video_model, f"{name_of_policy} has no System 2; leave video_model out")
        if policy.system2 is not None:
            model = arm.video_model or config.video_model
            check(bool(model), "this policy has a System 2, which needs a video model; name one (video_model)")
            folder, last = self.video_model(model, seed)
            words += ["--video-model", folder]
            reads += [folder]
            more = (*more, *last)
        words += [*flags({"video_data": videos} if videos else {}), *flags(given), *flags({**training, "seed": seed})]
        steps = max(1, options.training.num_steps)
        job = StudyJob(f"train_{name}_seed{seed}", tuple(words), out, (*needs, *more), steps, tuple(reads))
        made = self.plan.add(job)
        return self.plan.jobs[made].out, (made,)

    def arm(self, name: str, arm: ArmPlan, *, seed: int) -> None:
        config, out = self.plan.config, f"evaluations/{name}_seed{seed}"
        for path in filter(None, (arm.results, arm.policy)):
            check(
                "{seed}" in path or len(config.seeds) == 1,
                f"{path} is one training, which would count as {len(config.seeds)} training seeds; write {{seed}} "
                "where the path differs",
            )
        if arm.results:
            place = self._placed_at(arm.results_of(seed))
            below = evaluations_below(place) if place.is_dir() else []
            check(len(below) < 2, f"{place} holds {len(below)} evaluations; name one: {', '.join(map(str, below))}")
            place = below[0] if len(below) == 1 else place
            self.plan.results[name, seed] = str(place / INFO_FILE if place.is_dir() else place)
            return
        if arm.policy:
            policy, needs = str(self._placed_at(arm.policy_of(seed))), ()
            remedy = "policy names run folders that are there already"
            check(Path(policy).is_dir(), f"{policy} does not exist{nearby(policy)}; {remedy}")
        else:
            policy, needs = self.policy(name, arm, seed=seed)
        evaluate = {"expert": False, **config.evaluate, **arm.evaluate}
        _refuse(evaluate, (*MANAGED[:2], *MANAGED[-3:], "num_videos", "engine"), "evaluate")
        latency = evaluate.get("simulate_latency")
        parsed = {"simulate_latency": SimulatedLatency.parse(str(latency))} if latency else {}
        options: EvaluateOptions = build(EvaluateOptions, {**evaluate, **parsed}, where="evaluate")
        check(options.system2 == "inline", f"a study evaluates inline, to be reproducible, not {options.system2!r}")
        envs, scenes = arm.env or config.env, config.scenes
        words = ("eval", policy, "--env", *envs, "--out", out, *flags({**vars(scenes), **evaluate}))
        words += ("--workers", "1", "--num-videos", "0")
        amount = scenes.episodes * len(expand_suites(envs))
        job = StudyJob(f"eval_{name}_seed{seed}", words, out, needs, amount, (policy,))
        self.plan.jobs[job.name] = job
        self.plan.results[name, seed] = f"{out}/{INFO_FILE}"


def flags(values: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Values as words of a command line; those below `changes` as `--policy.PATH`."""
    return tuple(word for name, value in values.items() for word in _flag(name, value, prefix))


def _flag(name: str, value: Any, prefix: str) -> Iterator[str]:
    if name == "changes" and not prefix:
        yield from flags(value, "policy.")
    elif isinstance(value, dict):
        yield from flags(value, f"{prefix}{name}.")
    elif isinstance(value, bool):
        above, dot, last = f"{prefix}{name}".replace("_", "-").rpartition(".")
        yield f"--{above}{dot}{'' if value else 'no-'}{last}"
    else:
        yield f"--{prefix}{name}".replace("_", "-")
        yield from (str(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _refuse(given: Plain, names: tuple[str, ...], where: str) -> None:
    taken = [name for name in names if name in given]
    check(not taken, f"{', '.join(taken)} cannot be set in {where}: the study sets it itself")


def _check_environment(name: str) -> None:
    check_own(name)
    if is_simulated(name) and expand_suites([name]) == (name,):
        check_choice("environment", name, choices=list_environments())


def _check_scenes(config: StudyConfig, env: str, seen: Sequence[int]) -> None:
    """Raise ValueError where demonstrations of an environment show scenes of the evaluation."""
    scenes = range(config.scenes.seed, config.scenes.seed + config.scenes.episodes)
    check(
        num_scenes(env) is not None or not set(seen) & set(scenes),
        f"its seeds {min(seen)}..{max(seen)} and the scenes {scenes.start}..{scenes.stop - 1} overlap: success there "
        "may be memory; choose another scenes.seed",
    )
