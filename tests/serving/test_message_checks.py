"""Every fault of a message is named, with what was expected."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from serving_fakes import CONTRACT, message

from video2act.config import FrameConfig, PolicyConfig
from video2act.frames import FrameUse
from video2act.serving.codec import MessageError
from video2act.serving.contract import Contract, ImageRule
from video2act.serving.message_checks import is_plan_request, read_clips, read_observation

IMAGE = np.zeros((16, 16, 3), np.uint8)


def test_an_observation_is_read():
    observed = read_observation(message(2.0, time=1.25, reset=True, plan=False), CONTRACT)
    assert observed.images["front"].shape == (16, 16, 3)
    assert observed.state.dtype == np.float32
    assert observed.state.tolist() == [2.0, 0.0]
    assert (observed.prompt, observed.time, observed.is_reset, observed.wants_plan) == ("push", 1.25, True, False)


def test_left_out_words_mean_what_openpis_clients_mean():
    observed = read_observation(message(), CONTRACT)
    assert (observed.time, observed.is_reset, observed.wants_plan) == (None, False, True)


def test_images_may_be_nested_and_more_cameras_may_be_sent_than_are_used():
    nested = {**message(), "images": {"front": IMAGE + 7, "wrist": np.zeros((2, 2), np.float32)}}
    del nested["images/front"]
    observed = read_observation(nested, CONTRACT)
    assert set(observed.images) == {"front"}
    assert observed.images["front"].max() == 7


def test_images_may_be_oblong():
    assert read_observation(message(**{"images/front": np.zeros((9, 16, 3), np.uint8)}), CONTRACT).images[
        "front"
    ].shape == (
        9,
        16,
        3,
    )


@pytest.mark.parametrize("state", [[1, 2.5], np.array([1, 2], np.int32), np.array([1, 2], np.float64)])
def test_a_state_may_be_any_numbers(state: Any):
    assert read_observation(message(state=state), CONTRACT).state.dtype == np.float32


BAD_OBSERVATIONS: dict[str, tuple[Any, str]] = {
    "no map": ([1, 2], "a message is a map with images/front, images, state"),
    "nothing": (None, "a message is a map"),
    "a key that is no string": ({b"state": 1}, r"keys of a message are strings, got b'state'"),
    "a misspelt word": (message(tme=1.0), "unknown in a message: 'tme'; it may hold"),
    "openpi's other names": (
        message(**{"observation/image": IMAGE}),
        "unknown in a message: 'observation/image'; it may hold images/front, images, state",
    ),
    "no camera": (
        message(**{"images/front": None}),
        "camera 'front' is missing: the policy needs front; the message has no",
    ),
    "another camera": (
        {**message(**{"images/front": None}), "images": {"left": IMAGE}},
        "'front' is missing.*has left",
    ),
    "a camera twice": ({**message(), "images": {"front": IMAGE}}, "camera 'front' is there twice"),
    "images that are no map": ({**message(), "images": IMAGE}, r"'images' must be a map.*uint8 \[16, 16, 3\]"),
    "float image": (
        message(**{"images/front": IMAGE / 255}),
        r"must be uint8 \[height width 3\], got float64 \[16, 16, 3\]",
    ),
    "channels first": (
        message(**{"images/front": IMAGE.transpose(2, 0, 1)}),
        r"uint8 \[height width 3\], got uint8 \[3, 16, 16\]",
    ),
    "no colour": (message(**{"images/front": IMAGE[..., 0]}), r"got uint8 \[16, 16\]"),
    "empty image": (message(**{"images/front": IMAGE[:0]}), r"got uint8 \[0, 16, 3\]"),
    "a list for an image": (message(**{"images/front": [1, 2]}), "must be an array.*got list"),
    # a long and thin one was made square first: 120 kB took 4.7 GB
    "long and thin": (
        message(**{"images/front": np.zeros((4, 17, 3), np.uint8)}),
        "at most 4 times the other, got 4 x 17",
    ),
    "too large": (
        message(**{"images/front": np.zeros((2049, 1024, 3), np.uint8)}),
        "at most 2048 px a side.* got 2049 x 1024",
    ),
    "too small": (message(**{"images/front": IMAGE[:8, :8]}), "8x8 are too small for 16x16"),
    "no state": (message(state=None), "'state' is missing: 2 numbers"),
    "state of another size": (
        message(state=np.zeros(3, np.float32)),
        r"'state' must be 2 numbers, as in training.*\[3\]",
    ),
    "state in two axes": (message(state=np.zeros((1, 2), np.float32)), r"got an array of shape \[1, 2\]"),
    "state of text": (message(state="here"), "'state' must be an array of 2 numbers, got str"),
    "state of words": (message(state=["a", "b"]), "'state' must be an array of 2 numbers, got list"),
    "state of booleans": (
        message(state=np.array([True, False])),
        "'state' must be an array of 2 numbers, got an array of bool",
    ),
    "state not finite": (message(state=np.array([0, np.nan], np.float32)), "number 1 is nan"),
    "state beyond float32": (message(state=np.array([1e300, 0.0])), "number 0 is 1e\\+300"),
    "no prompt": (message(prompt=None), "'prompt' must be a string.*got nothing"),
    "prompt of bytes": (message(prompt=b"push"), "'prompt' must be a string.*got bytes"),
    "prompt of numbers": (message(prompt=np.zeros(2)), "'prompt' must be a string.*got an array of float64"),
    "empty prompt": (message(prompt="  "), "'prompt' must have 1 to 4096 bytes"),
    "endless prompt": (message(prompt="x" * 5000), "'prompt' must have 1 to 4096 bytes, for .*got 5000"),
    "time of text": (message(time="now"), "'time' must be a number"),
    "time not finite": (message(time=float("inf")), "'time' must be a number.*got float inf"),
    "time beyond floats": (message(time=2**60), "'time' must be a number"),
    "time true": (message(time=True), "'time' must be a number"),
    "reset of text": (message(reset="yes"), "'reset' must be true or false, got str"),
    "plan of numbers": (message(plan=1), "'plan' must be true or false, got int 1"),
}


@pytest.mark.parametrize("name", BAD_OBSERVATIONS)
def test_what_is_wrong_with_an_observation_is_named(name: str):
    bad, fault = BAD_OBSERVATIONS[name]
    with pytest.raises(MessageError, match=fault):
        read_observation(bad, CONTRACT)


def test_a_plan_alone_is_a_request():
    assert is_plan_request({"plan": True})
    assert not is_plan_request({"plan": False})
    assert not is_plan_request({"plan": 1})
    assert not is_plan_request(message(plan=True))


class TestClips:
    @pytest.fixture
    def contract(self, small_config: PolicyConfig) -> Contract:
        return Contract.of(small_config, "system2")

    @pytest.fixture
    def clips(self) -> dict[str, Any]:
        clips = {"spatial": np.zeros((1, 16, 16, 3), np.uint8), "motion": np.full((9, 16, 16, 3), 255, np.uint8)}
        return {"clips": clips, "prompt": "push", "time": 1.0, "episode": 3}

    def test_clips_are_read(self, contract: Contract, clips: dict[str, Any]):
        read = read_clips(clips, contract)
        assert read.videos["motion"].grid.shape == (1, 3, 9, 16, 16)
        assert read.videos["motion"].fps == pytest.approx(20.0)
        assert read.videos["motion"].grid.unique().tolist() == [1.0]
        assert (read.prompt, read.time, read.episode) == ("push", 1.0, 3)

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            ({"clips": None}, "'clips' must hold one clip per stream: spatial, motion; got NoneType"),
            ({"clips": {"spatial": IMAGE[None]}}, "one clip per stream: spatial, motion; got 'spatial'"),
            (
                {"clips": {"spatial": IMAGE[None], "motion": IMAGE[None]}},
                r"stream 'motion' must be uint8 \[9 16 16 3\], got",
            ),
            (
                {"clips": {"spatial": IMAGE[None] / 2, "motion": IMAGE[None]}},
                r"'spatial' must be uint8 \[1 16 16 3\], got float64",
            ),
            ({"episode": -1}, "'episode' must be a number of 0 or more, got int -1"),
            ({"episode": 1.0}, "'episode' must be a number of 0 or more, got float"),
            ({"time": None}, "'time' must be a number"),
            ({"prompt": 3}, "'prompt' must be a string"),
            ({"state": 3}, "unknown in a message: 'state'; it may hold clips, prompt, time, episode"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, contract: Contract, clips: dict[str, Any], changes: dict[str, Any], fault: str
    ):
        with pytest.raises(MessageError, match=fault):
            read_clips(clips | changes, contract)

    def test_what_is_no_map_is_told_the_keys_of_clips_and_not_of_an_observation(self, contract: Contract):
        with pytest.raises(MessageError, match="a message is a map with clips, prompt, time, episode; got"):
            read_clips([1], contract)


class TestContract:
    def test_it_says_what_a_policy_takes(self, small_config: PolicyConfig):
        contract = Contract.of(small_config, "policy", instructions=("push",))
        assert contract.cameras == ("front", "wrist")
        assert contract.image_size == (16, 16)
        assert contract.image_rules["wrist"] == ImageRule((FrameUse("", "wrist", (16, 16), FrameConfig()),))
        assert (contract.state_dim, contract.action_dim, contract.horizon, contract.execute_steps) == (3, 2, 4, 2)
        assert contract.period_s == pytest.approx(0.05)
        assert contract.history_steps == 8

    def test_a_client_keeps_the_frames_of_a_clip_that_is_not_renewed_at_every_step(self, small_config: PolicyConfig):
        seldom = small_config.replace({"system2.streams.motion.every": 8})
        assert Contract.of(seldom, "policy").history_steps == 8 + 7

    def test_system2_alone_needs_its_own_cameras_only(self, small_config: PolicyConfig):
        assert Contract.of(small_config, "system2").cameras == ("front",)

    def test_it_comes_back_from_metadata(self, small_config: PolicyConfig):
        contract = Contract.of(small_config, "policy", instructions=("push",))
        assert Contract.from_metadata(contract.to_metadata()) == contract
        assert {"cameras", "image_size", "state_dim", "action_dim", "horizon", "period_s", "instructions"} <= set(
            contract.to_metadata()
        )

    @pytest.mark.parametrize("metadata", [None, {}, {"protocol": "openpi"}, [1]])
    def test_another_server_is_recognised(self, metadata: Any):
        with pytest.raises(MessageError, match="expected a server that speaks 'video2act/1'"):
            Contract.from_metadata(metadata)

    def test_what_a_later_server_says_more_is_passed_over(self, small_config: PolicyConfig):
        """A client refused every server that said something new."""
        contract = Contract.of(small_config, "system2", fingerprint="abc")
        assert Contract.from_metadata(contract.to_metadata() | {"said_later": 1}) == contract

    def test_an_earlier_server_does_not_say_which_weights_it_serves(self, small_config: PolicyConfig):
        contract = Contract.of(small_config, "system2", fingerprint="abc")
        earlier = contract.to_metadata()
        del earlier["fingerprint"], earlier["token_dim"]
        assert Contract.from_metadata(earlier) == replace(contract, fingerprint="", token_dim=0)

    def test_a_whole_policys_holds_no_name_that_earlier_clients_refuse(self, small_config: PolicyConfig):
        assert not {"fingerprint", "token_dim"} & set(Contract.of(small_config, "policy").to_metadata())

    def test_an_incomplete_one_is_refused(self):
        with pytest.raises(
            MessageError, match="its first message does not fit: metadata: missing field action_dim, execute_steps"
        ):
            Contract.from_metadata({"protocol": "video2act/1", "cameras": []})


@pytest.mark.parametrize(
    ("field", "value"),
    [("period_s", 0.0), ("period_s", -1.0), ("history_steps", -1), ("image_size", []), ("image_size", [8])],
)
def test_a_server_that_announces_nonsense_is_refused(field: str, value: Any, small_config: PolicyConfig):
    metadata = Contract.of(small_config, "policy").to_metadata()
    with pytest.raises(MessageError, match=f"does not fit: .*{field}"):
        Contract.from_metadata(metadata | {field: value})
