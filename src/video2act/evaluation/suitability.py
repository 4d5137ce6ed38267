"""Checks before an evaluation: the environment fits the policy, its scenes are new, its options go together."""

from collections.abc import Callable, Collection, Mapping, Sequence

from video2act.config import PolicyConfig
from video2act.config.checks import order_problem
from video2act.engines.choice import load_policy
from video2act.envs import is_simulated, num_scenes
from video2act.evaluation.episodes import Evaluation
from video2act.files.run_folder import MAX_INSTRUCTIONS
from video2act.frames import frame_problems
from video2act.interfaces import Environment, EnvironmentSpec
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import check_trained_for
from video2act.runtime.freshness import check_staleness_limit
from video2act.runtime.places import check_used, check_virtual, check_where
from video2act.runtime.pool import LOCAL

Names = Mapping[str, tuple[str, ...]]
"""of the numbers of `state` and `action` in training; empty where they are not recorded"""
NO_NAMES: Names = {}


def make_fitting(config: PolicyConfig, make: Callable[[], Environment], *, names: Names) -> Environment:
    """An environment that fits a policy. Raises ValueError: it does not, or cannot be made; where it lacks a camera,
    those of the policy are named."""
    try:
        environment = make()
    except ValueError as error:
        if "camera" not in str(error):
            raise
        cameras = ", ".join(config.all_cameras) or "no camera"
        raise ValueError(f"{error} (the cameras of this policy: {cameras})") from error
    try:
        check_fits(config, environment.spec, names=names)
    except ValueError:
        environment.close()
        raise
    return environment


def check_fits(config: PolicyConfig, spec: EnvironmentSpec, *, names: Names = NO_NAMES) -> None:
    """Raises ValueError for an environment that is not the robot of the training data; the message names both sides."""
    problems = []
    if not set(config.all_cameras) <= set(spec.cameras):
        needed, offered = ", ".join(config.all_cameras), ", ".join(spec.cameras) or "none"
        problems.append(f"cameras: the policy needs {needed}, the environment has {offered}")
    for name, ours, theirs in (
        ("state size", config.state_dim, len(spec.state_names)),
        ("action size", config.action_dim, len(spec.action_names)),
        ("control steps per second", config.fps, spec.fps),
    ):
        if ours != theirs:
            problems.append(f"{name}: the policy was trained with {ours:g}, the environment has {theirs:g}")
    ours, theirs = config.relative_actions, spec.relative_actions
    if ours and theirs and set(ours) != set(theirs):
        told = f"{', '.join(ours)} in training, the environment says {', '.join(theirs)}"
        problems.append(f"actions that are changes or speeds: {told}")
    pairs = {"state": spec.state_names, "action": spec.action_names}
    problems += filter(None, (order_problem(what, names.get(what, ()), own) for what, own in pairs.items()))
    if config.all_cameras and config.orientation != spec.orientation:
        problems.append(
            f"orientation of the pictures: the policy was trained on {config.orientation}, the environment shows "
            f"{spec.orientation}"
        )
    problems += frame_problems(config, spec.frame_sizes)
    if problems:
        raise ValueError(
            f"this policy cannot drive {spec.name}; choose the environment of its data. " + "; ".join(problems)
        )


def note_instruction(instruction: str, trained: Sequence[str]) -> None:
    """Print a note for an instruction that the policy never had in training, where all of those are known."""
    if 0 < len(trained) < MAX_INSTRUCTIONS and instruction not in trained:
        first = ", ".join(map(repr, trained[:2])) + ", ..." * (len(trained) > 2)
        print(f"note: the instruction {instruction!r} is not among the {len(trained)} of training: {first}")


def check_scenes(env: str, seeds: range, *, training_seeds: Collection[int]) -> None:
    """Raises ValueError if a scene would count twice, or one of the training data would be evaluated on."""
    if (limit := num_scenes(env)) is None:
        check_unseen(seeds, training_seeds)
    elif len(seeds) > limit:
        repeated = f"seeds {seeds.start} and {seeds.start + limit} are one, and would count twice"
        raise ValueError(f"{env} has {limit} scenes: {repeated}. Evaluate at most {limit} episodes, got {len(seeds)}")


def check_unseen(seeds: range, training_seeds: Collection[int]) -> None:
    """Raises ValueError if a scene of the training data would be evaluated on."""
    seen = sorted(set(seeds) & set(training_seeds))
    if seen:
        raise ValueError(
            f"{len(seen)} of the seeds {seeds.start}..{seeds.stop - 1} are in the training data, {seen[0]} among them: "
            f"success there may be memory. Start at another seed, for example {max(training_seeds) + 1}"
        )


def check_image_size(image_size: int | None, envs: Sequence[str]) -> None:
    """Raises ValueError where an environment of your own would have to obey a chosen image size."""
    if image_size is not None and (own := [env for env in envs if not is_simulated(env)]):
        raise ValueError(f"{own[0]} has an image size of its own; leave image_size={image_size} out")


def check_visual_shift(evaluation: Evaluation) -> None:
    """Raises ValueError where a visual shift would have to reach pictures that no simulator draws, or nobody sees."""
    shift, options = evaluation.options.visual_shift, evaluation.options
    if shift is None:
        return
    if options.blind or not evaluation.config.all_cameras:
        why = "the blind control gets no image" if options.blind else "this policy has no camera"
        raise ValueError(f"{why}, so visual_shift={shift!r} changes nothing; leave it out")
    if own := [env for env in evaluation.env if not is_simulated(env)]:
        raise ValueError(f"{own[0]} draws its own pictures; leave visual_shift={shift!r} out")


def check_exported(evaluation: Evaluation) -> None:
    """Raises ImportError, FileNotFoundError or ValueError for a folder or options that the engine cannot run."""
    options = evaluation.options
    if options.blind:
        raise ValueError("the blind control changes what the networks read; evaluate it with engine torch")
    if options.system2 == "process":
        raise ValueError("an exported policy runs System 2 inline or in a thread; choose system2='thread'")
    if evaluation.source.path is not None:
        load_policy(evaluation.source.path, options.engine, device=evaluation.device)


def check_runtime(evaluation: Evaluation) -> None:
    """Raises ValueError or FileNotFoundError if the evaluation cannot be run with its options."""
    options, config = evaluation.options, evaluation.config
    check_where(options.system2)
    check_used(options.system2, options.runtime)
    check_image_size(options.image_size, evaluation.env)
    check_visual_shift(evaluation)
    if options.engine != "torch":
        check_exported(evaluation)
    evaluation.find_limits()
    streams = config.system2.streams if config.system2 and not options.blind else ()
    check_staleness_limit(options.runtime, RefreshSpec(streams, evaluation.refresh_every, config.fps))
    check_trained_for(config, options.runtime)
    if options.simulate_latency is not None:
        check_virtual(options.system2, options.runtime)
    if options.system2 not in ("inline", "thread") and (config.system2 is None or options.blind):
        why = "the blind control gets no video" if options.blind else "this policy has no System 2"
        raise ValueError(f"{why}, so there is nothing to run at system2={options.system2!r}; choose inline")
    if evaluation.source.path is None:
        for name, value in (
            ("workers", options.workers not in (None, 1)),
            (f"pool={options.pool!r}", options.pool != LOCAL),
            ("device", options.device),
            ("system2='process'", options.system2 == "process"),
        ):
            if value:
                raise ValueError(f"{name} needs a policy on disk, but a loaded one was given; pass its run folder")
        if options.out is None and options.num_videos:
            raise ValueError(f"num_videos={options.num_videos} films need a folder; set out")
