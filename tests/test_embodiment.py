import pytest
import torch

from video2act.embodiment import EMBODIMENTS, FIELDS, UNIFIED_DIM, make_embodiment


def test_every_name_has_a_place_of_its_own():
    assert all(0 <= place < UNIFIED_DIM for place in FIELDS.values())
    # only a gripper's opening has two names
    twice = {name for name in FIELDS if list(FIELDS.values()).count(FIELDS[name]) > 1}
    assert all("gripper" in name for name in twice)


@pytest.mark.parametrize("name", EMBODIMENTS)
def test_numbers_go_to_their_places_and_come_back(name: str):
    size = len(EMBODIMENTS[name])
    robot = make_embodiment(name, size, action_dim=size)
    own = torch.arange(1.0, 2 * 3 * size + 1).view(2, 3, size)
    unified = robot.unify(own)
    assert unified.shape == (2, 3, UNIFIED_DIM)
    assert torch.equal(robot.own(unified), own)
    known = robot.known(own)
    assert known.sum() == size
    assert torch.equal(unified * known, unified)


def test_aloha_is_left_arm_left_gripper_right_arm_right_gripper():
    assert make_embodiment("aloha_agilex", 14, action_dim=14).places == (
        50,
        51,
        52,
        53,
        54,
        55,
        60,
        0,
        1,
        2,
        3,
        4,
        5,
        10,
    )


def test_any_other_robot_names_its_fields():
    robot = make_embodiment("right_eef_pos_z,base_vel_x,left_gripper_open", 3, action_dim=3)
    assert robot.places == (FIELDS["right_eef_pos_z"], FIELDS["base_vel_x"], FIELDS["left_gripper_open"])
    with pytest.raises(ValueError, match=r"has no field right_wing; it has right_joint_0_pos, "):
        make_embodiment("right_eef_pos_z,right_wing", 2, action_dim=2)
    with pytest.raises(ValueError, match=r"cannot have one place .*: right_gripper_open,right_gripper_joint_0_pos"):
        make_embodiment("right_gripper_open,right_gripper_joint_0_pos", 2, action_dim=2)


def test_another_robot_or_another_size_is_refused_with_both_sides():
    with pytest.raises(ValueError, match="unknown embodiment 'octopus'; choose from aloha_agilex"):
        make_embodiment("octopus", 8, action_dim=8)
    with pytest.raises(ValueError, match=r"'one_arm_7' has 8 numbers .* this robot's action 7"):
        make_embodiment("one_arm_7", 8, action_dim=7)
