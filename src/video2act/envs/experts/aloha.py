"""Scripted bimanual experts: a timetable of hand poses, inverse kinematics, and a slow correction.

The timetable is ACT's idea (arXiv 2304.13705): poses at fixed times, straight lines between them. Joints sag under
gravity, so their error is integrated and added to the targets. The fingers move slowly, because their friction exceeds
their actuators' force, so a grip is commanded at once and gets time to close. A peg is never gripped as planned:
in `insertion` the right arm aligns it with the socket on the way in.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from video2act.envs.aloha import Aloha
from video2act.envs.experts.arm_ik import ArmIK, Position, Quaternion

OPEN, CLOSED = 1.0, 0.0

GRIP_STEPS = 6
"""control steps over which a change of grip is commanded"""

# heights of the finger tips above the table when they close; 5 mm lower they rest on it and stay open
CUBE_GRIP_M, PEG_GRIP_M, SOCKET_GRIP_M = 0.030, 0.028, 0.030

INTEGRAL_GAIN, MAX_CORRECTION = 0.05, 0.15  # per control step; radians
ALIGN_FROM_STEP, ALIGN_GAIN, MAX_ALIGN_M = 184, 0.08, 0.002  # metres per control step

# the right arm stands opposite the left one and faces it: half a turn about the vertical axis
FACING: dict[str, Quaternion] = {"left": np.array([1.0, 0.0, 0.0, 0.0]), "right": np.array([0.0, 0.0, 0.0, 1.0])}


@dataclass(frozen=True)
class Waypoint:
    """The pose of a hand at a control step."""

    step: int
    position: Position
    orientation: Quaternion
    gripper: float
    """0 closed, 1 open; commanded from the moment the waypoint before it is reached"""


Timetables = dict[str, list[Waypoint]]
"""of the left and the right hand"""


class AlohaExpert:
    """Follows a plan made from the objects' places at the reset. Call `act` once per control step."""

    def __init__(self, environment: Aloha) -> None:
        self._environment = environment
        self._arms = {"left": ArmIK(environment.model, "left"), "right": ArmIK(environment.model, "right")}
        self.reset()

    def reset(self) -> None:
        for arm in self._arms.values():
            arm.reset()
        make_plan = {"transfer_cube": _plan_transfer, "insertion": _plan_insertion}[self._environment.task]
        objects = self._environment.data.qpos[16:].copy()
        self._plan = make_plan(objects, self._arms["left"].home, self._arms["right"].home)
        self._step = 0
        self._correction = np.zeros(12)
        self._align = np.zeros(3)

    def act(self) -> Float[np.ndarray, "14"]:
        self._step += 1
        left, right = (_at(self._plan[side], self._step) for side in ("left", "right"))
        right = replace(right, position=right.position + self._align)
        hands = {"left": left, "right": right}
        wanted = np.concatenate(
            [self._arms[side].solve(hand.position, hand.orientation) for side, hand in hands.items()]
        )
        joints = self._environment.data.qpos
        missing = wanted - np.concatenate([joints[:6], joints[8:14]])
        self._correction = (self._correction + INTEGRAL_GAIN * missing).clip(-MAX_CORRECTION, MAX_CORRECTION)
        if self._environment.task == "insertion" and self._step >= ALIGN_FROM_STEP:
            peg, socket = joints[16:19], joints[23:26]
            # across the peg, which points along x
            self._align[1:] += (ALIGN_GAIN * (socket - peg)[1:]).clip(-MAX_ALIGN_M, MAX_ALIGN_M)
        target = wanted + self._correction
        return np.array([*target[:6], left.gripper, *target[6:], right.gripper], dtype=np.float32)


def _plan_transfer(
    objects: Float[np.ndarray, "7"], left_home: tuple[Position, Quaternion], right_home: tuple[Position, Quaternion]
) -> Timetables:
    """The right hand grips the cube from above and holds it up; the left one, turned on its side, takes it."""
    x, y = objects[:2]
    down, sideways = _facing("right", _tilt(-60.0)), _facing("left", _roll(90.0))
    grip = np.array([x, y, CUBE_GRIP_M])
    meet = np.array([0.0, 0.5, 0.25])
    wait, take = _moved(meet, x=-0.1, z=-0.02), _moved(meet, x=0.02, z=-0.02)
    return {
        "left": [
            Waypoint(0, *left_home, CLOSED),
            Waypoint(72, wait, sideways, OPEN),
            Waypoint(158, wait, sideways, OPEN),
            Waypoint(187, take, sideways, OPEN),
            Waypoint(223, take, sideways, CLOSED),
            Waypoint(259, wait, FACING["left"], CLOSED),
        ],
        "right": [
            Waypoint(0, *right_home, CLOSED),
            Waypoint(65, _moved(grip, z=0.1), down, OPEN),
            Waypoint(94, grip, down, OPEN),
            Waypoint(122, grip, down, CLOSED),
            Waypoint(144, _moved(meet, x=0.05), down, CLOSED),
            Waypoint(158, meet, down, CLOSED),
            Waypoint(209, meet, down, CLOSED),
            Waypoint(223, meet, down, OPEN),
            Waypoint(259, _moved(meet, x=0.1), down, OPEN),
        ],
    }


def _plan_insertion(
    objects: Float[np.ndarray, "14"], left_home: tuple[Position, Quaternion], right_home: tuple[Position, Quaternion]
) -> Timetables:
    """Each hand grips its part from above; both lift, come face to face, and close in until the peg is inside."""
    meet = np.array([0.0, 0.5, 0.15])

    def one_hand(home: tuple[Position, Quaternion], grip: Position, *, down: Quaternion, side: float) -> list[Waypoint]:
        return [
            Waypoint(0, *home, CLOSED),
            Waypoint(86, _moved(grip, z=0.09), down, OPEN),
            Waypoint(122, grip, down, OPEN),
            Waypoint(158, grip, down, CLOSED),
            Waypoint(205, _moved(meet, x=0.1 * side), down, CLOSED),
            Waypoint(223, _moved(meet, x=0.1 * side), down, CLOSED),
            Waypoint(266, _moved(meet, x=0.04 * side), down, CLOSED),
        ]

    peg, socket = np.array([*objects[0:2], PEG_GRIP_M]), np.array([*objects[7:9], SOCKET_GRIP_M])
    return {
        "left": one_hand(left_home, socket, down=_facing("left", _tilt(60.0)), side=-1.0),
        "right": one_hand(right_home, peg, down=_facing("right", _tilt(-60.0)), side=1.0),
    }


def _moved(position: Position, x: float = 0.0, *, z: float = 0.0) -> Position:
    return position + np.array([x, 0.0, z])


def _at(timetable: list[Waypoint], step: int) -> Waypoint:
    """The hand's pose at `step`: between two waypoints, or at the last one."""
    if step >= timetable[-1].step:
        return timetable[-1]
    index = max(i for i, waypoint in enumerate(timetable) if waypoint.step <= step)
    start, end = timetable[index], timetable[index + 1]
    share = (step - start.step) / (end.step - start.step)
    grip_share = min(1.0, (step - start.step) / GRIP_STEPS)
    return Waypoint(
        step=step,
        position=start.position + share * (end.position - start.position),
        orientation=_between(start.orientation, end.orientation, share=share),
        gripper=start.gripper + grip_share * (end.gripper - start.gripper),
    )


def _between(start: Quaternion, end: Quaternion, *, share: float) -> Quaternion:
    """Normalised linear interpolation, the short way round: q and -q are the same orientation."""
    end = end if start @ end >= 0 else -end
    mixed = start + share * (end - start)
    return mixed / np.linalg.norm(mixed)


def _tilt(degrees: float) -> Quaternion:
    """A rotation about the world's y axis: a hand that faces +x looks down at +90."""
    half = np.deg2rad(degrees) / 2
    return np.array([np.cos(half), 0.0, np.sin(half), 0.0])


def _roll(degrees: float) -> Quaternion:
    """A rotation about the world's x axis, which both hands face along."""
    half = np.deg2rad(degrees) / 2
    return np.array([np.cos(half), np.sin(half), 0.0, 0.0])


def _facing(side: str, turn: Quaternion) -> Quaternion:
    """The orientation of a hand that faces the other arm and is then turned in the world's frame."""
    w, x, y, z = turn
    a, b, c, d = FACING[side]
    return np.array(
        [
            w * a - x * b - y * c - z * d,
            w * b + x * a + y * d - z * c,
            w * c - x * d + y * a + z * b,
            w * d + x * c - y * b + z * a,
        ]
    )
