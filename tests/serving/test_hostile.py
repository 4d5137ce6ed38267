"""Thousands of messages that are wrong in every way we could think of, and connections that end badly."""

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from serving_fakes import Client, message, serving

from video2act.config import ConnectionLimits
from video2act.serving.codec import pack

GENEROUS = ConnectionLimits(max_messages_per_s=1e6, max_message_bytes=200_000)
Fault = Callable[[np.random.Generator], bytes | str]


def truncated(rng: np.random.Generator) -> bytes:
    data = pack(message())
    return data[: rng.integers(0, len(data))]


def noise(rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 300)))


def bits_flipped(rng: np.random.Generator) -> bytes:
    """Damage in the words around the pixels, where it cannot pass for another picture."""
    data = bytearray(pack(message(state=np.zeros(5, np.float32))))
    for _ in range(5):
        data[rng.integers(0, 60)] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def of_wrong_type(rng: np.random.Generator) -> bytes:
    values = [
        None,
        True,
        -1,
        2**63,
        0.5,
        "text",
        b"bytes",
        [],
        [[]],
        {},
        {"a": 1},
        np.zeros(3),
        np.zeros((4, 4, 3), np.uint8),
    ]
    word = str(rng.choice(["images/front", "images", "state", "prompt"]))
    bad = message()
    bad[word] = values[int(rng.integers(0, len(values)))]
    if word == "images":
        del bad["images/front"]
    return pack(bad if word != "prompt" or not isinstance(bad[word], str) else {})


def of_wrong_shape(rng: np.random.Generator) -> bytes:
    shape = tuple(int(size) for size in rng.integers(0, 15, int(rng.integers(0, 5))))
    return pack(message(**{"images/front": np.zeros(shape, np.uint8)}))


def nested(rng: np.random.Generator) -> bytes:
    return b"\x91" * int(rng.integers(10, 3000)) + b"\xc0"


def with_an_endless_length(rng: np.random.Generator) -> bytes:
    return bytes([int(rng.choice([0xDD, 0xDF, 0xC6, 0xDB]))]) + b"\xff\xff\xff\xff" + rng.bytes(20)


def of_objects(rng: np.random.Generator) -> bytes:
    return pack({"state": {b"__ndarray__": True, b"data": rng.bytes(16), b"dtype": "|O", b"shape": [2]}})


def as_text(rng: np.random.Generator) -> str:
    return "state" * int(rng.integers(0, 20))


def backwards_in_time(rng: np.random.Generator) -> bytes:
    return pack(message(time=-float(rng.uniform(1, 1e6))))


def with_unknown_words(rng: np.random.Generator) -> bytes:
    return pack(message(**{f"word{rng.integers(0, 10**9)}": 1}))


def clips_for_system2(rng: np.random.Generator) -> bytes:
    return pack({"clips": {}, "prompt": "push", "time": 0.0, "episode": int(rng.integers(0, 9))})


FAULTS: list[Fault] = [
    truncated,
    noise,
    bits_flipped,
    of_wrong_type,
    of_wrong_shape,
    nested,
    with_an_endless_length,
    of_objects,
    as_text,
    backwards_in_time,
    with_unknown_words,
    clips_for_system2,
]


@pytest.mark.parametrize("num_messages", [1_200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_wrong_messages_are_each_answered_by_what_is_wrong(num_messages: int):
    """No crash, no hang, no growth, and the episode that goes on among them is not disturbed."""
    rng = np.random.default_rng(0)
    process = psutil.Process()
    answers: set[str] = set()
    with serving(limits=GENEROUS) as server, Client(server) as client:
        client.ask(message(0.0, time=0.0))
        for number in range(num_messages):
            answer: Any = client.say(FAULTS[number % len(FAULTS)](rng))
            assert isinstance(answer, str), f"message {number} was taken: {answer}"
            assert 10 < len(answer) < 600
            assert "the policy failed" not in answer
            answers.add(answer)
            if number == num_messages // 5:
                gc.collect()
                num_threads, memory = threading.active_count(), process.memory_info().rss
        gc.collect()
        grown = (process.memory_info().rss - memory) / 2**20
        assert grown < 20, f"{grown:.1f} MiB more than after a fifth of the messages"
        assert threading.active_count() == num_threads
        assert server.metrics.get("errors", "message") == num_messages
        assert server.metrics.get("errors", "policy") == 0
        # one good frame before, one after: nothing in between was counted as one
        assert client.ask(message(1.0, time=0.05))["actions"][0].tolist() == [2.0, 1.0]
    assert len(answers) > 100  # they name the fault, and not just that there is one


def test_connections_that_end_badly_leave_nothing_behind():
    rng = np.random.default_rng(1)
    with serving(limits=GENEROUS) as server:
        for number in range(60):
            client = Client(server)
            raw = client.connection.socket
            kind = number % 3
            if kind == 0:  # too large
                client.connection.send(bytes(300_000))
            elif kind == 1:  # not a websocket frame at all
                raw.sendall(rng.bytes(200))
            else:  # gone in the middle of one
                raw.sendall(b"\x82\xfe\x40\x00" + rng.bytes(500))
                raw.close()
            client.__exit__()
        with Client(server) as client:
            assert "actions" in client.ask(message())
        assert server.metrics.get("connections", "accepted") == 61
