"""The unified vector of RDT-1B (arXiv 2410.07864): 128 named places, of which every robot uses its own few.

State and action have the same places, so that one network learns from robots of many shapes. A place that a robot
lacks holds zero, and a mask beside the vector says so. Units are those of the data: radians, metres, grippers from 0
(closed) to 1 (open). Rotations are the first two columns of the rotation matrix (six numbers, arXiv 1812.07035). The
right arm is also the arm of a robot that has one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = Any

UNIFIED_DIM = 128
UNIFIED = "unified"
"""in the place of an embodiment's name: of no robot in particular, while training on several"""

_ARM = (
    *(f"joint_{i}_pos" for i in range(10)),
    *(f"gripper_joint_{i}_pos" for i in range(5)),
    *(f"joint_{i}_vel" for i in range(10)),
    *(f"gripper_joint_{i}_vel" for i in range(5)),
    *(f"eef_pos_{axis}" for axis in "xyz"),
    *(f"eef_angle_{i}" for i in range(6)),
    *(f"eef_vel_{axis}" for axis in "xyz"),
    *(f"eef_angular_vel_{axis}" for axis in ("roll", "pitch", "yaw")),
)
"""one arm's 45 places, in order"""

_FIRST = {"right": 0, "left": 50}

FIELDS: dict[str, int] = {
    **{f"{side}_{name}": first + i for side, first in _FIRST.items() for i, name in enumerate(_ARM)},
    **{
        f"{side}_gripper_open{suffix}": first + 10 + 15 * bool(suffix)
        for side, first in _FIRST.items()
        for suffix in ("", "_vel")
    },
    "base_vel_x": 100,
    "base_vel_y": 101,
    "base_angular_vel": 102,
}
"""name -> place; `right_gripper_open` is the first of five gripper joints under another name"""


def two_arms(num_joints: int) -> tuple[str, ...]:
    """Left arm, its gripper, right arm, its gripper; `num_joints` of one arm."""
    return tuple(
        name
        for side in ("left", "right")
        for name in (*(f"{side}_joint_{i}_pos" for i in range(num_joints)), f"{side}_gripper_open")
    )


EMBODIMENTS: dict[str, tuple[str, ...]] = {
    "aloha_agilex": two_arms(6),
    "aloha": two_arms(6),
    "two_arms_7": two_arms(7),
    "one_arm_6": (*(f"right_joint_{i}_pos" for i in range(6)), "right_gripper_open"),
    "one_arm_7": (*(f"right_joint_{i}_pos" for i in range(7)), "right_gripper_open"),
    "one_arm_position": (*(f"right_eef_pos_{axis}" for axis in "xyz"), "right_gripper_open"),
    "one_arm_pose": (
        *(f"right_eef_pos_{axis}" for axis in "xyz"),
        *(f"right_eef_angle_{i}" for i in range(6)),
        "right_gripper_open",
    ),
}
"""robot -> what its numbers are, in the order in which it gives and takes them; state and action alike"""


@dataclass(frozen=True)
class Embodiment:
    """Where a robot's numbers lie in the unified vector."""

    places: tuple[int, ...]

    def known(self, like: Tensor) -> Float[Tensor, "unified"]:
        """1 at the robot's places, 0 elsewhere."""
        # built in one piece: an exporter cannot trace what is assigned into a tensor
        return like.new_tensor([float(place in self.places) for place in range(UNIFIED_DIM)])

    def unify(self, own: Float[Tensor, "*b d"]) -> Float[Tensor, "*b unified"]:
        """The robot's numbers at their places, zeros elsewhere."""
        from torch.nn.functional import pad

        zero, column = len(self.places), {place: i for i, place in enumerate(self.places)}
        return pad(own, (0, 1))[..., [column.get(place, zero) for place in range(UNIFIED_DIM)]]

    def own(self, unified: Float[Tensor, "*b unified"]) -> Float[Tensor, "*b d"]:
        """The inverse of `unify`."""
        return unified[..., list(self.places)]


def fields_of(name: str) -> tuple[str, ...]:
    """What the numbers of a robot are: of one in `EMBODIMENTS`, or of any other, whose fields are named one by one,
    with commas.

    Raises:
        ValueError: neither; the message lists what there is.
    """
    if name in EMBODIMENTS:
        return EMBODIMENTS[name]
    fields = tuple(name.split(","))
    if len(fields) == 1:
        raise ValueError(
            f"unknown embodiment {name!r}; choose from {', '.join(EMBODIMENTS)}, name the robot's fields, with commas "
            "(right_joint_0_pos,right_joint_1_pos,...), or leave it empty"
        )
    unknown = [field for field in fields if field not in FIELDS]
    if unknown:
        raise ValueError(f"the unified vector has no field {', '.join(unknown)}; it has {', '.join(FIELDS)}")
    if len({FIELDS[field] for field in fields}) < len(fields):
        raise ValueError(f"two numbers of a robot cannot have one place in the unified vector: {name}")
    return fields


def make_embodiment(name: str, state_dim: int, *, action_dim: int) -> Embodiment:
    """The robot of that name (`fields_of`); `UNIFIED`: all places, of which the data says sample by sample which are
    known.

    Raises:
        ValueError: no such robot, or its state or action has another size; the message names both.
    """
    if name == UNIFIED and state_dim == action_dim == UNIFIED_DIM:
        return Embodiment(tuple(range(UNIFIED_DIM)))
    names = fields_of(name)
    for word, size in (("state", state_dim), ("action", action_dim)):
        if size != len(names):
            raise ValueError(
                f"the embodiment {name!r} has {len(names)} numbers ({', '.join(names)}), this robot's {word} {size}"
            )
    return Embodiment(tuple(FIELDS[field] for field in names))
