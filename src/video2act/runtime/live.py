"""A robot or simulator that runs before a person: pause, another instruction, taking over by hand, recording.

    space      pause, and go on; the robot holds its last target meanwhile
    :          type another instruction; enter sends it, escape keeps the old one, and so does one that the policy
               cannot read
    tab        take over by hand, and hand back; then pairs of letters move one action each (`JOG`)
    enter      end the episode and keep it
    backspace  end the episode and drop it
    escape     end the episode, drop it, and quit

System 2 refreshes at once on a new instruction. After a pause or a correction the policy plans anew on what it sees.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from video2act.incidents import Incident
from video2act.interfaces import Environment
from video2act.observations import own_copy
from video2act.runtime.control_loop import act, pace_of
from video2act.runtime.keys import Keys
from video2act.runtime.runner import Rates, Runner
from video2act.types import Observation

Mode = Literal["policy", "paused", "by hand"]
JOG = ("da", "ws", "rf", "eq", "yh", "uj", "ik", "ol")
"""for each action: the letter that raises it, and the one that lowers it"""
SHOWN_EVERY_S = 0.25
NEWEST = 5


@dataclass(frozen=True)
class Status:
    """What a dashboard shows."""

    mode: Mode
    instruction: str
    typed: str | None
    """an instruction that is being typed"""
    refused: str
    """why the policy cannot read the last one that was typed, which was not taken over; empty if it can"""
    episode: int
    control_step: int
    rates: Rates
    staleness_s: float | None
    late_steps: int
    """control steps that took longer than their period"""
    num_incidents: int
    incidents: tuple[Incident, ...]
    """the newest"""
    num_corrected: int
    """control steps by hand"""


@dataclass
class LiveEpisode:
    """What happened, as a dataset stores it: row k is what the robot saw, and the action that it then took."""

    observations: list[Observation] = field(default_factory=list)
    actions: list[Float[np.ndarray, "a"]] = field(default_factory=list)
    is_by_hand: list[bool] = field(default_factory=list)
    late_steps: int = 0
    """control steps that took longer than their period"""
    success: bool = False
    is_kept: bool = True
    quits: bool = False

    @property
    def corrections(self) -> list[slice]:
        """The stretches by hand."""
        marks: Bool[np.ndarray, "t"] = np.array([False, *self.is_by_hand, False])
        edges = np.flatnonzero(marks[1:] != marks[:-1])
        return [slice(int(begin), int(end)) for begin, end in zip(edges[::2], edges[1::2], strict=True)]


class Live:
    """Runs episodes.

    Args:
        keys: where the person's keys come from.
        show: gets the status a few times per second, and at the end of an episode.
        jog: how far one key press moves each action: of a relative action its value, of a target its change.
        rate_hz: control steps per second; None: a robot's own rate, a simulator as fast as possible.
        instruction: instead of the environment's.
    Raises:
        ValueError: `jog` has another size than the environment's actions.
        ValueError, FileNotFoundError: the policy cannot read the instruction.
    """

    def __init__(
        self,
        environment: Environment,
        runner: Runner,
        *,
        keys: Keys,
        show: Callable[[Status], object],
        jog: Float[np.ndarray, "a"],
        rate_hz: float | None = None,
        instruction: str | None = None,
    ):
        if len(jog) != len(environment.spec.action_names):
            raise ValueError(f"jog has {len(jog)} numbers, the robot {len(environment.spec.action_names)} actions")
        self._environment, self._runner, self._keys, self._show = environment, runner, keys, show
        self._jog, self._rate_hz = jog, rate_hz
        self._said = instruction
        if instruction is not None:
            runner.check_instruction(instruction)
        self._number = -1

    def episode(self, seed: int) -> LiveEpisode:
        """Run one episode, until the environment or the person ends it. Raises as `Runner.step`."""
        observation, done = self._environment.reset(seed), LiveEpisode()
        self._runner.reset(self._environment.spec, seed=seed)
        self._number += 1
        self._mode: Mode = "policy"
        self._typed: str | None = None
        self._refused = ""
        self._last: Float[np.ndarray, "a"] | None = None
        pace, shown_at, step = pace_of(self._environment, self._rate_hz), -1.0, 0
        while True:
            pressed = self._keys.poll()
            if self._obey(pressed, done):
                break
            if self._said is not None:
                observation = replace(observation, instruction=self._said)
            # the first action is the policy's: before it there is no target to hold or to move
            mode = "policy" if self._last is None else self._mode
            action = self._act(observation, pressed, mode=mode)
            if mode != "paused":
                done.observations.append(own_copy(observation))
                done.actions.append(action)
                done.is_by_hand.append(mode == "by hand")
            self._last = action
            if time.monotonic() - shown_at > SHOWN_EVERY_S:
                shown_at = time.monotonic()
                self._show(self._status(observation, step, late_steps=pace.missed_deadlines, episode=done))
            answer = act(self._environment, action, pace=pace).step
            done.success, step = done.success or answer.success, step + 1
            observation = answer.observation
            if answer.done:
                break
        done.late_steps = pace.missed_deadlines
        self._show(self._status(observation, step, late_steps=pace.missed_deadlines, episode=done))
        return done

    def _obey(self, pressed: list[str], episode: LiveEpisode) -> bool:
        """Follow the keys; whether they end the episode."""
        for key in pressed:
            if self._typed is not None:
                self._type(key)
            elif key == "space":
                self._mode = "policy" if self._mode == "paused" else "paused"
            elif key == "tab":
                self._mode = "policy" if self._mode == "by hand" else "by hand"
            elif key == ":":
                self._typed = ""
            elif key in ("enter", "backspace", "escape"):
                episode.is_kept, episode.quits = key == "enter", key == "escape"
                return True
        return False

    def _type(self, key: str) -> None:
        assert self._typed is not None
        if key == "enter":
            typed, self._typed, self._refused = self._typed.strip(), None, ""
            if not typed:
                return
            try:
                self._runner.check_instruction(typed)
            except (ValueError, FileNotFoundError) as problem:
                self._refused = str(problem)
            else:
                self._said = typed
        elif key == "escape":
            self._typed = None
        elif key == "backspace":
            self._typed = self._typed[:-1]
        else:
            self._typed += " " if key == "space" else key if len(key) == 1 else ""

    def _act(self, observation: Observation, pressed: list[str], *, mode: Mode) -> Float[np.ndarray, "a"]:
        if mode == "policy" or self._last is None:
            return self._runner.step(observation)
        held = self._runner.hold_action(self._last)
        return self._runner.let(held if mode == "paused" else self._jogged(held, pressed), observation)

    def _jogged(self, held: Float[np.ndarray, "a"], pressed: list[str]) -> Float[np.ndarray, "a"]:
        """The held action, moved by the keys. Text that is being typed moves nothing."""
        action = held.astype(np.float64)
        for number, (up, down) in enumerate(JOG[: len(action)]):
            sign = (pressed.count(up) - pressed.count(down)) if self._typed is None else 0
            change = np.sign(sign) if self._runner.is_relative[number] else sign
            action[number] += change * self._jog[number]
        return action

    def _status(self, observation: Observation, step: int, *, late_steps: int, episode: LiveEpisode) -> Status:
        incidents = self._runner.incidents
        return Status(
            mode=self._mode,
            instruction=observation.instruction,
            typed=self._typed,
            refused=self._refused,
            episode=self._number,
            control_step=step,
            rates=self._runner.rates,
            staleness_s=self._runner.staleness_s,
            late_steps=late_steps,
            num_incidents=incidents.total,
            incidents=tuple(incidents)[-NEWEST:],
            num_corrected=sum(episode.is_by_hand),
        )
