"""PyPI's `openpi-client`, as it is, against our server: the protocol is theirs, so theirs is the test."""

import numpy as np
import pytest
from serving_fakes import Client, message, serving

pytest.importorskip("openpi_client", reason="make dev installs openpi-client")

from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.image_tools import convert_to_uint8, resize_with_pad
from openpi_client.websocket_client_policy import WebsocketClientPolicy

pytestmark = pytest.mark.filterwarnings(
    "ignore:connect:DeprecationWarning"
)  # websockets' of how openpi-client calls it


def test_it_gets_actions():
    with serving() as server:
        policy = WebsocketClientPolicy(server.host, server.port)
        metadata = policy.get_server_metadata()
        height, width = metadata["image_size"]
        image = resize_with_pad(convert_to_uint8(np.random.default_rng(0).random((48, 64, 3))), height, width)
        answer = policy.infer(
            {"images/front": image, "state": np.array([4.0, 0.0]), "prompt": metadata["instructions"][0]}
        )
        assert answer["actions"].shape == (metadata["horizon"], metadata["action_dim"])
        assert answer["actions"].tolist() == [[1.0, 4.0]] * 4
        assert answer["server_timing"]["infer_ms"] > 0


def test_its_chunk_broker_hands_out_one_action_after_another():
    """It takes a row of every array in an answer."""
    with serving() as server:
        broker = ActionChunkBroker(WebsocketClientPolicy(server.host, server.port), action_horizon=2)
        actions = [broker.infer({**message(step), "time": 0.05 * step})["actions"].tolist() for step in range(4)]
        # planned at steps 0 and 2; at step 2 the frame in between is made up
        assert actions == [[1.0, 0.0], [1.0, 0.0], [3.0, 2.0], [3.0, 2.0]]


def test_it_raises_what_the_server_says_and_goes_on():
    with serving() as server:
        policy = WebsocketClientPolicy(server.host, server.port)
        with pytest.raises(RuntimeError, match="'state' must be 2 numbers"):
            policy.infer(message(state=np.zeros(7)))
        assert "actions" in policy.infer(message())


def test_it_shows_its_key():
    with serving(api_key="secret") as server:
        assert "actions" in WebsocketClientPolicy(server.host, server.port, api_key="secret").infer(message())


def test_a_reconnected_one_begins_a_new_episode():
    with serving() as server:
        with Client(server) as before:
            before.ask(message(time=5.0))
        answer = WebsocketClientPolicy(server.host, server.port).infer(message(9.0, time=0.0))
        assert answer["actions"][0].tolist() == [1.0, 9.0]


def test_its_own_reset_begins_no_episode_but_the_key_does():
    """The docs did not say that its `reset` sends nothing: a second episode was planned on the first one's clip."""
    with serving() as server:
        policy = WebsocketClientPolicy(server.host, server.port)
        policy.infer({**message(), "time": 0.0, "reset": True})
        policy.reset()
        assert policy.infer({**message(), "time": 0.05})["actions"][0].tolist() == [2.0, 0.0]  # 2 frames
        assert policy.infer({**message(), "time": 0.0, "reset": True})["actions"][0].tolist() == [1.0, 0.0]
