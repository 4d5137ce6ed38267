"""A person before a running robot: what each key does to the policy, to the robot and to what is recorded."""

import numpy as np
import pytest
from runtime_fakes import FPS, FakeEnvironment, FakeSystem

from video2act.interfaces import EnvironmentSpec
from video2act.runtime.keys import QueuedKeys
from video2act.runtime.live import Live, LiveEpisode, Status
from video2act.runtime.runner import Runner
from video2act.types import Observation, Tokens, Video


class Listening(FakeSystem):
    """Remembers what System 2 was told, and at which frame."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        self.told += instruction
        return super().perceive(clips, instruction)


class Robot(FakeEnvironment):
    """Its first action is a change, its second a target."""

    def __init__(self, num_steps: int = 12):
        super().__init__(num_steps)
        self.spec = EnvironmentSpec(
            "fake:robot", "fake", "push", ("top",), 8, ("x", "y"), ("dx", "grip"), FPS, num_steps, ("dx",)
        )


def play(*per_step: list[str], num_steps: int = 12) -> tuple[LiveEpisode, Robot, Listening, list[Status]]:
    robot, system, shown = Robot(num_steps), Listening(), list[Status]()
    with Runner(system, system2="inline", refresh_every=100, execute_steps=2) as runner:
        keys, jog = QueuedKeys(per_step), np.array([0.5, 0.1])
        live = Live(robot, runner, keys=keys, show=shown.append, jog=jog, rate_hz=None)
        return live.episode(0), robot, system, shown


def test_without_keys_the_policy_acts_to_the_end():
    episode, robot, _, shown = play()
    assert len(episode.actions) == len(robot.actions) == 12
    assert not any(episode.is_by_hand)
    assert (episode.success, episode.is_kept) == (True, True)
    assert (shown[-1].mode, shown[-1].episode) == ("policy", 0)


def test_another_instruction_reaches_system_2_at_once():
    episode, _, system, _ = play([], [], [":"], [*"pull"], ["enter"])
    assert system.told == ["push", "pull"]  # refresh_every is 100: the second refresh is for the sentence
    assert system.newest_frames == [0, 4]
    assert [each.instruction for each in episode.observations] == ["push"] * 4 + ["pull"] * 8


def test_escape_keeps_the_old_instruction_and_backspace_mends_a_letter():
    dropped = [":", "p", "space", "x", "escape"]
    _, _, system, _ = play(dropped, [], [":", "g", "a", "backspace", "space", "o", "enter"])
    assert system.told == ["push", "g o"]


def test_a_pause_holds_the_target_records_nothing_and_then_plans_anew():
    episode, robot, system, _ = play([], [], ["space"], [], [], ["space"])
    sent = np.array(robot.actions)
    assert len(episode.actions) == 12 - 3
    assert sent[2:5, 0].tolist() == [0, 0, 0], "a change is not repeated"
    assert sent[2:5, 1].tolist() == [sent[1, 1]] * 3, "a target is"
    assert sent[5, 0] == 5, "a plan made on what is seen now"
    assert len(system.clips[0]) == 1


def test_by_hand_keys_move_the_robot_and_are_marked():
    episode, robot, _, shown = play([], ["tab"], ["d"], ["d", "d", "w"], [], ["tab"])
    sent = np.array(robot.actions)
    assert episode.is_by_hand == [False] + [True] * 4 + [False] * 7
    assert sent[1:5, 0].tolist() == [0, 0.5, 0.5, 0], "a change lasts as long as the key"
    assert np.diff(sent[1:5, 1]).tolist() == pytest.approx([0, 0.1, 0]), "a target stays where it was moved to"
    assert episode.corrections == [slice(1, 5)]
    assert shown[-1].num_corrected == 4


@pytest.mark.parametrize("typed", ["fly", "p\ud800ll"])
def test_an_instruction_that_the_policy_cannot_read_is_not_taken_over(typed: str):
    """It ended the run, and the episode that was being recorded was lost."""

    class Strict(Listening):
        def check_instruction(self, instruction: str) -> None:
            if instruction.encode() not in (b"push", b"pull"):
                raise FileNotFoundError(f"{instruction!r} has no embedding")

    system, shown = Strict(), list[Status]()

    def keep(status: Status) -> None:
        shown.append(status)

    with Runner(system, refresh_every=100) as runner:
        keys = QueuedKeys([[], [":", *typed, "enter"]])
        live = Live(Robot(), runner, keys=keys, show=keep, jog=np.ones(2))
        episode = live.episode(0)
        assert len(episode.actions) == 12
        assert shown[-1].refused
        assert system.told == ["push"]
        keys = QueuedKeys([[], [":", *typed, "enter"], [":", *"pull", "enter"]])
        Live(Robot(), runner, keys=keys, show=keep, jog=np.ones(2)).episode(0)
        assert not shown[-1].refused
        assert system.told[-1] == "pull"
        with pytest.raises((ValueError, FileNotFoundError)):
            Live(Robot(), runner, keys=keys, show=keep, jog=np.ones(2), instruction=typed)


def test_letters_of_an_instruction_do_not_move_the_robot():
    _, robot, _, _ = play([], ["tab"], [":"], ["d"], ["w"], ["enter"])
    assert np.array(robot.actions)[1:6, 0].tolist() == [0] * 5


@pytest.mark.parametrize(
    ("key", "is_kept", "quits"), [("enter", True, False), ("backspace", False, False), ("escape", False, True)]
)
def test_an_episode_ends_when_the_person_says_so(key: str, is_kept: bool, quits: bool):
    episode, robot, _, _ = play([], [], [], [key])
    assert len(robot.actions) == 3
    assert (episode.is_kept, episode.quits) == (is_kept, quits)


def test_taking_over_before_the_first_action_begins_after_it():
    episode, *_ = play(["tab"])
    assert episode.is_by_hand == [False] + [True] * 11


def test_a_plan_in_the_making_is_dropped_when_a_person_takes_over():
    class Watching:
        def __init__(self) -> None:
            self.plans: list[tuple[float, float]] = []

        def on_reset(self, observation: Observation) -> None: ...

        def on_step(self, observation: Observation, decision) -> None:
            if decision.is_new_plan:
                self.plans.append((observation.time, decision.plan.chunk.observed_at))

    watching = Watching()
    with Runner(FakeSystem(), system1="thread", execute_steps=2, watch=watching) as runner:
        keys = QueuedKeys([[], [], ["tab"], [], [], ["tab"]])
        Live(Robot(100), runner, keys=keys, show=id, jog=np.ones(2)).episode(0)  # two seconds, for a busy machine
    after = [made for taken, made in watching.plans if taken > 4.5 / FPS]
    assert after
    assert min(after) > 4.5 / FPS, "no plan from before the correction"


def test_jog_of_another_size_is_an_error():
    with Runner(FakeSystem()) as runner, pytest.raises(ValueError, match="3 numbers, the robot 2 actions"):
        Live(Robot(), runner, keys=QueuedKeys(), show=id, jog=np.ones(3))
