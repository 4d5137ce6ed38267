import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from golden import DEFAULT
from rdt_checkpoint import (
    DEPTH,
    HEADS,
    HIDDEN,
    HORIZON,
    IMAGE,
    NUM_TEXT,
    TEXT,
    TOKENS_PER_IMAGE,
    random_tensors,
    rdt_shapes,
)
from video2act.config import RDT_FORM, DenoisingConfig, PretrainedConfig, System1Config
from video2act.interop.rdt import load_rdt, rename
from video2act.interop.rdt_names import OWN_OF_DIT, system1_names
from video2act.presets import DataSpec, make_preset
from video2act.system1 import System1

CAMERAS = ("front", "right", "left")


def system1(cameras: tuple[str, ...] = CAMERAS, **changes) -> System1:
    config = System1Config(
        hidden=HIDDEN,
        depth=DEPTH,
        num_heads=HEADS,
        denoising=DenoisingConfig("ddpm", "sample"),
        dit=replace(RDT_FORM, num_text_positions=NUM_TEXT, positions_per_image=TOKENS_PER_IMAGE),
        text_encoder=PretrainedConfig("t5", TEXT, max_tokens=NUM_TEXT),
        text_adaptor="mlp2x_gelu",
        image_encoder=PretrainedConfig("siglip", IMAGE),
        image_adaptor="mlp2x_gelu",
        embodiment="aloha_agilex",
    )
    return System1(replace(config, **changes), cameras, state_dim=14, action_dim=14, horizon=HORIZON, fps=25.0)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return random_tensors(rdt_shapes())


def write(folder: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def test_every_weight_is_rdts_or_is_named_as_our_own(tmp_path: Path, state: dict[str, torch.Tensor]):
    ours = system1()
    taken = load_rdt(ours, write(tmp_path, state))
    assert len(taken.taken) + len(taken.own) == len(ours.state_dict())
    loaded = ours.state_dict()
    assert torch.equal(loaded["dit.blocks.1.mlp.up.weight"], state["model.blocks.1.ffn.fc1.weight"])
    assert torch.equal(ours.dit.position, state["model.x_pos_embed"][0])
    # one adaptor of theirs serves state and actions
    assert torch.equal(loaded["dit.state_in.4.bias"], state["state_adaptor.4.bias"])
    assert torch.equal(loaded["dit.action_in.4.bias"], state["state_adaptor.4.bias"])


def test_it_starts_a_policy_that_trains_for_delays(tmp_path: Path, state: dict[str, torch.Tensor]):
    """The mark of committed actions, zero in a new network, was missed in the checkpoint."""
    ours = system1(max_delay_steps=2)
    taken = load_rdt(ours, write(tmp_path, state))
    assert "dit.committed_mark" in " ".join(taken.own)
    assert ours.dit.committed_mark is not None
    assert not bool(ours.dit.committed_mark.any())


@pytest.mark.parametrize(
    ("cameras", "places", "expected"),
    [
        (CAMERAS, (), (3, 4, 5)),
        (("front",), (), (3,)),
        (("a", "b"), (5, 0), (5, 0)),
        (tuple("abcdef"), (), tuple(range(6))),
    ],
)
def test_images_take_the_places_they_had(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    cameras: tuple[str, ...],
    places: tuple[int, ...],
    expected: tuple[int, ...],
):
    ours = system1(cameras)
    load_rdt(ours, write(tmp_path, state), image_places=places)
    theirs = state["model.img_cond_pos_embed"][0].unflatten(0, (6, TOKENS_PER_IMAGE))
    assert torch.equal(ours.dit.image_position, torch.cat([theirs[place] for place in expected]))


def test_cameras_without_a_place_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]):
    with pytest.raises(ValueError, match="2 cameras need as many places among RDT-1B's six images"):
        load_rdt(system1(("a", "b")), write(tmp_path, state))


def test_what_is_missing_or_unexpected_is_named(tmp_path: Path, state: dict[str, torch.Tensor]):
    del state["model.t_embedder.mlp.0.weight"]
    state["model.head.weight"] = torch.zeros(2)
    with pytest.raises(ValueError, match="does not fit its config") as error:
        load_rdt(system1(), write(tmp_path, state))
    assert "missing model.t_embedder.mlp.0.weight (here system1.dit.timestep_in.up.weight)" in str(error.value)
    assert "unexpected model.head.weight [2]" in str(error.value)


@pytest.mark.parametrize(
    "name", ["model.blocks.1000000.x", f"model.blocks.{'9' * 5000}.x", f"img_adaptor.{'9' * 5000}.weight"]
)
def test_a_number_beyond_all_tensors_makes_an_unexpected_tensor_and_no_blocks(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str
):
    """One name could ask for a million blocks, or for a number that Python does not read."""
    names = system1_names(state)
    state[name] = torch.zeros(1)
    assert system1_names(state) == names
    with pytest.raises(ValueError, match=f"pytorch_model\\.bin does not fit its config:\n  unexpected {name}"):
        load_rdt(system1(), write(tmp_path, state))


def test_shapes_are_compared_before_a_tensor_is_converted(state: dict[str, torch.Tensor]):
    """Converting came first: a tensor of another size took the memory of all its numbers before the refusal."""
    own = {f"system1.{name}": tensor for name, tensor in system1().state_dict().items()}
    names = {f"system1.{ours}": theirs for ours, theirs in system1_names(state).items()}
    state["model.x_pos_embed"] = torch.zeros(1, dtype=torch.bfloat16).expand(10**7, 10**6)
    with pytest.raises(ValueError, match=r"is \[10000000, 1000000\], the config asks for"):
        rename(state, names, own=own, source="x.bin")


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]):
    """They went into a policy, which nothing could load again."""
    state["model.blocks.1.ffn.fc1.weight"] *= float("nan")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin: model\.blocks\.1\.ffn\.fc1\.weight holds numbers"):
        load_rdt(system1(), write(tmp_path, state))


def test_a_system1_of_another_size_or_form_is_refused(tmp_path: Path, state: dict[str, torch.Tensor]):
    write(tmp_path, state)
    with pytest.raises(ValueError, match=r"text_in\.up\.weight\) is \[32, 24\], the config asks for \[64, 24\]"):
        load_rdt(system1(hidden=64), tmp_path)
    with pytest.raises(ValueError, match=r"RDT-1B's checkpoint has no .*blocks\.2"):
        load_rdt(system1(depth=3), tmp_path)


def test_the_preset_has_a_place_for_every_tensor_of_the_real_size():
    """The published list of names and shapes, without the video branch; shapes only."""
    shapes = json.loads((DEFAULT / "state_dict_keys_real.json").read_text())["direct_projection"]["shapes"]
    state = {
        name: torch.empty(shape, device="meta")
        for name, shape in shapes.items()
        if not name.startswith(("video_", "motion_", "model.video_"))
    }
    cameras = tuple(f"{camera}{past}" for past in ("@1", "") for camera in CAMERAS)
    config = make_preset("rdt_1b", DataSpec(14, 14, 25.0, cameras))
    with torch.device("meta"):
        whole = System1(
            replace(config.system1, embodiment="aloha_agilex"),
            cameras,
            state_dim=14,
            action_dim=14,
            horizon=config.horizon,
            fps=config.fps,
        )
    own = whole.state_dict()
    names = system1_names(state)
    renamed = rename(state, names, own=own, source="rdt-1b")
    ours_alone = set(own) - set(renamed)
    assert ours_alone == {name for name in own if name.startswith(tuple(f"dit.{word}" for word in OWN_OF_DIT))}
    assert 1.22e9 < sum(tensor.numel() for tensor in own.values()) < 1.25e9
