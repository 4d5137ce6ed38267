"""Inverse kinematics: the pose that is asked for is reached, and an impossible one stays within the joints' limits."""

import numpy as np
import pytest

from video2act.envs.aloha import START_ARM, Aloha
from video2act.envs.experts.arm_ik import FINGER_TIPS_M, ArmIK
from video2act.envs.simulation import import_simulator

mujoco = import_simulator("mujoco")


@pytest.mark.parametrize(("side", "first"), [("left", 0), ("right", 8)])
def test_solutions_reach_the_pose(side: str, first: int) -> None:
    model = Aloha("transfer_cube", cameras=()).model
    arm = ArmIK(model, side)  # pyright: ignore[reportArgumentType]
    position, orientation = arm.home
    wanted = position + np.array([0.03, 0.05, -0.04])
    data = mujoco.MjData(model)
    data.qpos[:16] = START_ARM * 2
    data.qpos[first : first + 6] = arm.solve(wanted, orientation)
    mujoco.mj_kinematics(model, data)
    hand = data.body(f"vx300s_{side}/gripper_link")
    np.testing.assert_allclose(hand.xpos + hand.xmat.reshape(3, 3) @ FINGER_TIPS_M, wanted, atol=5e-4)
    np.testing.assert_allclose(hand.xquat, orientation, atol=5e-3)


def test_a_pose_out_of_reach_stays_within_the_limits_and_reset_forgets_it() -> None:
    model = Aloha("transfer_cube", cameras=()).model
    arm = ArmIK(model, "left")
    position, orientation = arm.home
    joints = arm.solve(position + np.array([5.0, 0.0, 0.0]), orientation)
    limits = model.jnt_range[:6]
    assert (joints >= limits[:, 0]).all()
    assert (joints <= limits[:, 1]).all()
    arm.reset()
    np.testing.assert_allclose(arm.solve(position, orientation), START_ARM[:6], atol=1e-6)
