"""The whole runtime in one object: one observation in, one action out, at the robot's pace.

with Runner(policy, system2="thread", max_staleness_s=0.5) as runner:
    runner.reset()
    for observation in robot:
        robot.send(runner.step(observation))
"""

import importlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from video2act.config import RuntimeConfig, SimulatedLatency
from video2act.config.checks import check, order_problem
from video2act.incidents import Incidents
from video2act.interfaces import (
    ChecksInstruction,
    ConfiguredSystem,
    Decision,
    EnvironmentSpec,
    Perceiver,
    Policy,
    Watcher,
)
from video2act.limits import Limits
from video2act.observations import own_copy
from video2act.refresh_rule import RefreshSpec
from video2act.runtime.dual_policy import DualPolicy, Times, check_finished, check_overlap
from video2act.runtime.executor import Executor, check_execute_steps
from video2act.runtime.freshness import check_staleness_limit
from video2act.runtime.guard import Guard
from video2act.runtime.places import System2Source, check_given_loop
from video2act.runtime.planner import InlinePlanner, Planner, ThreadPlanner
from video2act.runtime.slow_loop import SlowLoop
from video2act.runtime.virtual_clock import Durations, VirtualPlanner
from video2act.training_record import RATE_STEPS, TrainingRecord
from video2act.types import Observation, VideoCondition

RUNTIME_OPTIONS = tuple(part.name for part in fields(RuntimeConfig))


@dataclass(frozen=True)
class Rates:
    """What was reached in the running episode, per second of the observations' clock."""

    control_hz: float
    system1_hz: float
    """plans"""
    system2_hz: float | None
    """refreshes; None for a finished `Policy`, such as a `RemotePolicy`, which does not report them"""
    missed_deadlines: int
    """calls of `step` that took longer than a control period"""
    held_steps: int = 0
    """control steps at which the robot was told to keep its last target"""


class Runner:
    """Drives a robot with a policy. Ready when it is constructed; `close`, or the end of the `with`, ends what it
    started.

    Args:
        policy: a `Video2Act`, or another system with `config`, `perceive` and `act`; or the folder of one. A finished
            `Policy` brings its own System 2, and options of System 2 are refused; then `execute_steps` must be given,
            but for a `RemotePolicy`, which knows it from its server.
        engine: what computes the policy of a folder: `torch`, or `onnxruntime` or `openvino` for a folder that
            `video2act export` has written.
        system2: `inline`, `thread`, `process`, `ws://host:port` (see `places.py`), or a slow loop that is there
            already, with which other options of System 2 are refused.
        refresh_every: control steps between refreshes of System 2; as configured, if None.
        execute_steps: control steps between plans; as configured, if None.
        limits: of actions, as an object or in the words of `RuntimeConfig.limits`.
        action_names: for messages; those of the training data, if empty.
        relative_actions: those of `action_names` that are changes or speeds. To hold is zero of them, and the last
            value of the others. None: those that the environment names (`reset`), else those that the policy recorded
            of its training data.
        instruction: for the run that warms up a process; empty: one that the policy was trained on.
        load_system2: makes System 2 in a process: a function of a module, or a `functools.partial` of one. None: from
            the folder that the policy was loaded from.
        simulate_latency: deliver both systems late, on the observations' clock.
        watch: sees every step: a `Watcher`, or several, such as `viz.rerun_log.RerunLog`.
        runtime: the fields of `RuntimeConfig`.
    Raises:
        TypeError: an option does not exist, or `limits` is of another kind.
        ValueError: options exclude each other, or do not fit the policy. Nothing has been started then.
        System2Error, TimeoutError: System 2 could not be started.
    """

    def __init__(
        self,
        policy: ConfiguredSystem | Policy | Path | str,
        *,
        engine: str = "",
        system2: str | SlowLoop = "inline",
        refresh_every: int | None = None,
        execute_steps: int | None = None,
        limits: Limits | str = "",
        action_names: tuple[str, ...] = (),
        relative_actions: tuple[str, ...] | None = None,
        instruction: str = "",
        load_system2: Callable[[], Perceiver] | None = None,
        simulate_latency: SimulatedLatency | None = None,
        watch: Watcher | Sequence[Watcher] = (),
        **runtime: Any,
    ):
        self._config = config = _runtime_config(limits, runtime)
        self._loaded = loaded = _load(policy, engine)
        self._limits = limits if isinstance(limits, Limits) else _find_limits(loaded, limits)
        if config.outside_limits != "clamp" and self._limits is None:
            raise ValueError(f"outside_limits={config.outside_limits!r} needs limits; set limits, or leave it out")
        self._durations = None if simulate_latency is None else Durations(simulate_latency)
        self._watchers = tuple(watch) if isinstance(watch, Sequence) else (watch,)
        self._incidents_seen: dict[str, int] = {}
        self._ending = ExitStack()
        self._recorded = recorded = TrainingRecord.of(loaded)
        about = getattr(loaded, "config", None) or getattr(loaded, "contract", None)
        self._action_dim: int | None = getattr(about, "action_dim", None)
        """None: a finished policy did not say it"""
        self._check_order(action_names)
        names = action_names or recorded.action_names
        self._told = None if relative_actions is None else TrainingRecord(names, relative_actions)
        guard = self._make_guard(names, recorded.relative_actions if relative_actions is None else relative_actions)
        if isinstance(loaded, Policy):
            ours = {"system2": system2 != "inline", "refresh_every": refresh_every, "load_system2": load_system2}
            check_finished(loaded, config, ours)
            contract = getattr(loaded, "contract", None)
            if execute_steps is None:
                execute_steps = getattr(contract, "execute_steps", None)
            if execute_steps is None:
                raise ValueError(f"{type(loaded).__name__} does not say how often it plans: give execute_steps")
            check_execute_steps(execute_steps, getattr(contract, "horizon", None))
            self.policy: Policy = loaded
        else:
            own, is_blind = loaded.config, getattr(loaded, "is_blind", False)  # a control of an evaluation
            execute_steps = own.execute_steps if execute_steps is None else execute_steps
            check_execute_steps(execute_steps, own.horizon)
            check_overlap(loaded, config)
            if isinstance(system2, str):
                streams = own.system2.streams if own.system2 and not is_blind else ()
                spec = RefreshSpec(streams, own.refresh_every if refresh_every is None else refresh_every, own.fps)
                check_staleness_limit(config, spec)
                source = System2Source(spec, config, instruction, load_system2)
                system2 = source.start(system2, loaded, durations=self._durations)
                self._ending.callback(system2.close)
            else:
                ours = {"refresh_every": refresh_every, "instruction": instruction, "load_system2": load_system2}
                ours |= {"simulate_latency": simulate_latency}
                check_given_loop(config, ours)
            self.policy = DualPolicy(loaded, system2, cameras=() if is_blind else own.cameras, runtime=config)
        planner = self._make_planner()
        self._ending.callback(planner.close)
        longest = self.policy.longest_delay if isinstance(self.policy, DualPolicy) else None
        self._executor = Executor(planner, guard, execute_steps=execute_steps, config=config, longest_delay=longest)
        self._begin()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End System 1's thread and what was started for System 2. A slow loop or `Policy` that was passed in stays."""
        self._ending.close()

    def reset(self, spec: EnvironmentSpec | None = None, *, seed: int = 0) -> None:
        """A new episode begins.

        Args:
            spec: of the environment that it takes place in, for the names of its actions and which are relative.
            seed: of simulated latencies alone. The noise of the policy's plans goes on; `policy.seed` begins it anew.
        Raises:
            ValueError: its actions are not as many as the policy's, stand in another order than in the training data,
                or lack one that is relative.
        """
        if spec is not None:
            names, told = spec.action_names, self._told
            self._check_order(names)
            relative = self._recorded.relative_actions_of(spec) if told is None else told.relative_among(names)
            self._executor.guard = self._make_guard(names, relative, spec.name)
        if self._durations is not None:
            self._durations.seed(seed)
        self._executor.reset()  # first: a plan of the last episode may still be made by the policy
        self.policy.reset()
        self._begin()

    def _begin(self) -> None:
        self.decision: Decision | None = None
        """what the last step decided, and why"""
        self._newest: Observation | None = None
        self._intervals: deque[float] = deque(maxlen=RATE_STEPS)
        self._began_at = 0.0
        self._num_steps = self._num_decided = self._num_plans = self._missed_deadlines = self._held_steps = 0

    def step(self, observation: Observation) -> Float[np.ndarray, "a"]:
        """The action for the moment of this observation. Call it once per control step, with rising `Observation.time`.
        Raises as `decide`."""
        return self.decide(observation).action

    def decide(self, observation: Observation) -> Decision:
        """As `step`; the action, the caller's own, with its reasons.

        Raises:
            ValueError: the clock did not advance, a camera of the policy has no image, or the first plan is unsound.
            HoldError: there is nothing to plan on, and no action has been sent in this episode that could be held.
            StaleConditionError: the condition is too old, and `when_stale` is error.
            System2Error, TimeoutError: System 2 gave no first condition of this episode.
        """
        started, observation = time.perf_counter(), own_copy(observation)
        self._executor.check_clock(observation.time)  # before the policy takes the frame in
        self.policy.observe(observation)
        other_rate = self._recorded.other_rate(self._intervals)
        self._executor.note("rate", "control_rate" if other_rate else "", text=other_rate)
        gap = "" if self._newest is None else self._recorded.gap(observation.time - self._newest.time)
        self._executor.note("gap", "time_gap" if gap else "", text=gap)
        for camera, problem in self._recorded.other_sizes(observation):
            self._executor.note(f"camera {camera}", "image_size" if problem else "", text=problem)
        decision = self._executor.decide(observation)
        if self._num_incidents() > sum(self._incidents_seen.values()):
            incidents = self.incidents
            decision = replace(decision, incidents=tuple(incidents.since(self._incidents_seen)))
            self._incidents_seen = incidents.counts
        self.decision = decision
        if self._num_steps == 0:
            self._began_at = observation.time
        if self._num_decided == 0:
            for watcher in self._watchers:
                watcher.on_reset(observation)
        if self._newest is not None:
            self._intervals.append(observation.time - self._newest.time)
        self._newest = observation
        self._num_steps += 1
        self._num_decided += 1
        self._num_plans += decision.is_new_plan
        self._held_steps += decision.is_held
        self._missed_deadlines += time.perf_counter() - started > decision.plan.chunk.period
        for watcher in self._watchers:
            watcher.on_step(observation, decision)
        return replace(decision, action=decision.action.copy())

    def let(self, action: Float[np.ndarray, "_a"], observation: Observation) -> Float[np.ndarray, "_a"]:
        """A person, or a pause, decides this control step. System 2 sees it, plans are dropped, and the next `step`
        begins a new one; with `system1="thread"` it holds this action until that plan is there. Never waits for a plan.

        Returns: the action that may be sent: inside the limits, or the last target again if they forbid it. What
            `hold_action` gives is sent as it is.
        Raises:
            ValueError: it is not finite, or of another size; the observation is refused, as by `step`.
        """
        executor, observation = self._executor, own_copy(observation)
        self._check_size(action)
        checked, last = executor.guard.check(action), executor.last_action
        if checked.kind == "action_not_finite" or (checked.action is None and last is None):
            raise ValueError(f"an action that was given by hand is {checked.problem}")
        executor.check_clock(observation.time)
        self.policy.observe(observation)
        executor.note("action", checked.kind, text=checked.problem)
        sent = (self.hold_action(last) if checked.action is None else checked.action).copy()
        executor.interrupt(observation, sent)
        is_held = checked.action is None
        self._held_steps += is_held
        if self.decision is not None:
            flags = {"is_new_plan": False, "is_held": is_held, "is_clamped": bool(checked.kind) and not is_held}
            self.decision = replace(self.decision, action=sent, incidents=(), **flags)
            for watcher in self._watchers:
                watcher.on_step(observation, self.decision)
        if self._num_steps == 0:
            self._began_at = observation.time
        self._newest = observation
        self._num_steps += 1
        return sent.copy()

    def hold_action(self, last: Float[np.ndarray, "a"] | None) -> Float[np.ndarray, "a"]:
        """The action that keeps the robot where the last one sent it. Raises ValueError: there is no last one yet."""
        if last is None:
            raise ValueError("there is no action to hold yet; wait until the first `step` has given one")
        return self._executor.guard.hold(last)

    @property
    def is_relative(self) -> Bool[np.ndarray, "_a"]:
        """Which actions are changes or speeds, in this episode; empty where the actions have no names."""
        return self._executor.guard.is_relative

    def check_instruction(self, instruction: str) -> None:
        """Raises ValueError or FileNotFoundError for an instruction that the policy cannot read, as far as it says."""
        if isinstance(self._loaded, ChecksInstruction):
            self._loaded.check_instruction(instruction)

    def replan(self) -> None:
        """Begin a plan at the next control step, whatever is left of the running one."""
        self._executor.replan()

    @property
    def incidents(self) -> Incidents:
        """What went wrong and was survived, over all episodes."""
        return self._executor.incidents + self._incidents_of_policy()

    def _incidents_of_policy(self) -> Incidents:
        of_policy = getattr(self.policy, "incidents", None)
        return of_policy if isinstance(of_policy, Incidents) else Incidents()

    def _num_incidents(self) -> int:
        """Without the sorting that joins both: it is asked at every control step."""
        return self._executor.incidents.total + self._incidents_of_policy().total

    @property
    def condition(self) -> VideoCondition | None:
        """What the running plan was made on; None before the first plan, or for a policy that does not report it."""
        return None if self.decision is None else self.decision.plan.condition

    @property
    def staleness_s(self) -> float | None:
        """What System 1 would get as the age of that condition at the last observation; None where there is none.
        `max_staleness_s` limits the age of the frames that System 2 looked at: `condition.lag_s` more."""
        if self.condition is None or self._newest is None:
            return None
        return self._newest.time - self.condition.observed_at

    @property
    def rates(self) -> Rates:
        if self.decision is None or self._newest is None:
            return Rates(0.0, 0.0, 0.0 if isinstance(self.policy, DualPolicy) else None, 0)
        elapsed_s = self._newest.time - self._began_at + self.decision.plan.chunk.period
        refreshes = self.policy.num_refreshes() / elapsed_s if isinstance(self.policy, DualPolicy) else None
        return Rates(
            self._num_steps / elapsed_s,
            self._num_plans / elapsed_s,
            refreshes,
            self._missed_deadlines,
            self._held_steps,
        )

    def take_times(self) -> Times:
        """What the two systems took since the last call. Raises TypeError for a finished `Policy`, which does not
        report it."""
        if not isinstance(self.policy, DualPolicy):
            raise TypeError(f"{type(self.policy).__name__} does not report what its systems take")
        return self.policy.take_times()

    def _check_size(self, action: np.ndarray) -> None:
        last = self._executor.last_action
        size = self._action_dim or (action.size if last is None else len(last))
        problem = f"an action that was given by hand has shape {list(action.shape)}, those of this policy have [{size}]"
        check(action.shape == (size,), f"{problem}; give a number for each of the robot's actions")

    def _make_guard(self, names: tuple[str, ...], relative: tuple[str, ...], robot: str = "the robot") -> Guard:
        guard = Guard(names, relative, limits=self._limits, outside=self._config.outside_limits, robot=robot)
        if self._action_dim is not None:
            guard.check_size(self._action_dim, "this policy")
        return guard

    def _check_order(self, action_names: tuple[str, ...]) -> None:
        check(not (problem := order_problem("action", self._recorded.action_names, action_names)), problem)

    def _make_planner(self) -> Planner:
        if self._durations is not None:
            return VirtualPlanner(self.policy, self._durations)
        return ThreadPlanner(self.policy) if self._config.system1 == "thread" else InlinePlanner(self.policy)


def _load(policy: Any, engine: str) -> ConfiguredSystem | Policy:
    """The policy of a folder; any other is one already. Raises ValueError for an engine beside a loaded policy."""
    if isinstance(policy, str | Path):
        # by name: it stands above the runtime, which knows interfaces only
        return importlib.import_module("video2act.engines.choice").load_policy(policy, engine or "torch")
    if engine:
        raise ValueError(f"engine={engine!r} is for a folder, but {type(policy).__name__} is loaded; leave it out")
    return policy


def _runtime_config(limits: Limits | str, options: dict[str, Any]) -> RuntimeConfig:
    unknown = sorted(set(options) - set(RUNTIME_OPTIONS))
    if unknown:
        raise TypeError(
            f"Runner has no option {', '.join(unknown)}; those of the runtime are {', '.join(RUNTIME_OPTIONS)}"
        )
    if not isinstance(limits, Limits | str):
        raise TypeError(
            f"limits is an object, Limits(low, high), or a text: data, data+10%, or a json file; got {limits!r}"
        )
    return RuntimeConfig(limits=limits if isinstance(limits, str) else "", **options)


def _find_limits(policy: ConfiguredSystem | Policy, limits: str) -> Limits | None:
    """Raises FileNotFoundError or ValueError as `Limits.find`."""
    statistics: Any = getattr(policy, "statistics", None)
    if limits.startswith("data") and statistics is None:
        raise ValueError(
            f"limits={limits!r} needs the statistics of the demonstrations, which {type(policy).__name__} does not "
            f"have; give a json file, or Limits, or for a served policy `video2act serve --limits {limits}`"
        )
    return Limits.find(limits, lambda: statistics["action"])
