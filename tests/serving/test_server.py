"""A real server on loopback: what clients get, and what they cannot do to it."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from serving_fakes import CONTRACT, Client, CountingPolicy, message, serving
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from video2act.config import ConnectionLimits
from video2act.serving.codec import pack
from video2act.serving.server import Server
from video2act.serving.session import PolicySession


def get(server: Server, path: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(server.address.replace("ws://", "http://") + path, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def wait_until(is_true: Any, timeout_s: float = 5.0) -> None:
    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.005)


class TestConversation:
    def test_metadata_comes_first_and_an_answer_to_every_message(self):
        with serving() as server, Client(server) as client:
            assert client.metadata == CONTRACT.to_metadata()
            answer = client.ask(message(3.0))
            assert answer["actions"].tolist() == [[1.0, 3.0]] * 4
            assert answer["server_timing"]["infer_ms"] > 0

    def test_an_error_is_text_and_the_episode_goes_on(self):
        with serving() as server, Client(server) as client:
            client.ask(message(1.0, time=0.0))
            assert "'state' must be 2 numbers" in client.ask(message(state=np.zeros(5), time=0.05))
            assert "came as text" in client.say("hello")
            assert "time runs backwards" in client.ask(message(time=-1.0))
            assert client.ask(message(2.0, time=0.05))["actions"][0].tolist() == [2.0, 2.0]

    def test_an_error_of_the_policy_is_told_and_survived(self):
        with serving() as server, Client(server) as client:
            told = client.ask(message(prompt="fail"))
            assert told == "the policy failed: FileNotFoundError: the instruction 'fail' has no embedding"
            assert "not finite" in client.ask(message(prompt="diverge"))
            assert "actions" in client.ask(message())
            assert server.metrics.get("errors", "policy") == 2

    def test_a_message_may_come_in_pieces(self):
        with serving() as server, Client(server) as client:
            data = pack(message(4.0))
            client.connection.send([data[:100], data[100:101], data[101:]])
            assert isinstance(client.connection.recv(5), bytes)

    def test_clients_have_episodes_of_their_own(self):
        with serving() as server, Client(server) as one, Client(server) as other:
            for step in range(3):
                assert one.ask(message(1.0, time=0.05 * step))["actions"][0].tolist() == [step + 1, 1.0]
            assert other.ask(message(2.0, time=0.0))["actions"][0].tolist() == [1.0, 2.0]

    def test_a_session_ends_with_its_connection(self):
        made: list[CountingPolicy] = []

        def make_session() -> PolicySession:
            made.append(CountingPolicy())
            return PolicySession(made[-1], CONTRACT)

        with serving(make_session) as server:
            with Client(server) as client:
                client.ask(message())
            wait_until(lambda: made[0].is_closed)

    def test_a_session_that_cannot_be_made_closes_the_connection_only(self):
        makers = iter([ValueError("no such policy"), None])

        def make_session() -> PolicySession:
            error = next(makers)
            if error:
                raise error
            return PolicySession(CountingPolicy(), CONTRACT)

        with serving(make_session) as server:
            with pytest.raises(ConnectionClosedError, match="internal error; the server's log says more"):
                Client(server)
            with Client(server) as client:
                assert "actions" in client.ask(message())

    def test_one_clients_wait_is_not_anothers(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        policies = iter([slow, CountingPolicy()])
        with (
            serving(lambda: PolicySession(next(policies), CONTRACT)) as server,
            Client(server) as waiting,
            Client(server) as other,
        ):
            waiting.connection.send(pack(message()))
            for step in range(20):
                assert "actions" in other.ask(message(time=float(step)))
            slow.gate.set()
            assert isinstance(waiting.connection.recv(5), bytes)

    def test_twenty_clients_at_once_get_what_is_theirs(self):
        """Each of them gets plans of its own state, its own frame count and its own repeats, whatever the others do."""

        def drive(number: int) -> None:
            rng = np.random.default_rng(number)
            with Client(server) as client:
                for _ in range(3):
                    step, before, seen = 0, 0, 0
                    for turn in range(10):
                        step += int(rng.integers(1, 4)) if turn else 0
                        answer = client.ask(message(number + step / 100, time=0.05 * step, reset=turn == 0))
                        repeated = 0 if turn == 0 else step - before - 1
                        seen += 1 + repeated
                        assert answer["frames_repeated"] == repeated
                        assert (
                            answer["actions"].tolist()
                            == [np.array([seen, number + step / 100], np.float32).tolist()] * 4
                        )
                        before = step

        with serving() as server, ThreadPoolExecutor(20) as pool:
            for finished in [pool.submit(drive, number) for number in range(20)]:
                finished.result(timeout=60)
            assert server.metrics.get("answers", "plan") == 20 * 30
            assert server.metrics.get("connections", "accepted") == 20


class TestAccess:
    def test_the_right_key_opens(self):
        with (
            serving(api_key="secret") as server,
            Client(server, additional_headers={"Authorization": "Api-Key secret"}) as client,
        ):
            assert "actions" in client.ask(message())

    @pytest.mark.parametrize(
        ("headers", "reason"),
        [({}, "an API key is needed"), ({"Authorization": "Api-Key wrong"}, "the API key is wrong")],
    )
    def test_any_other_does_not(self, headers: dict[str, str], reason: str):
        with serving(api_key="secret") as server:
            with pytest.raises(InvalidStatus) as refused:
                Client(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert reason in (refused.value.response.body or b"").decode()
            assert get(server, "/metrics", **headers)[0] == 401
            assert get(server, "/healthz", **headers)[0] == 200

    def test_a_public_address_without_a_key_is_refused(self):
        with pytest.raises(ValueError, match=r"0\.0\.0\.0 can be reached from other machines"), serving(host="0.0.0.0"):
            pass

    def test_a_web_page_is_refused(self):
        """A page in a browser on the robot's own machine reaches loopback; its requests carry an Origin."""
        with serving() as server, pytest.raises(InvalidStatus) as refused:
            Client(server, origin="http://evil.example")
        assert refused.value.response.status_code == 403

    def test_a_taken_port_is_an_error(self):
        with serving() as server, pytest.raises(OSError, match=f"port {server.port} of"), serving(port=server.port):
            pass


class TestLimits:
    def test_no_more_clients_than_allowed(self):
        with serving(limits=ConnectionLimits(max_clients=1)) as server:
            with Client(server) as client:
                with pytest.raises(InvalidStatus) as refused:
                    Client(server)
                assert refused.value.response.status_code == 503
                assert b"full: 1 clients are connected" in (refused.value.response.body or b"")
                assert "actions" in client.ask(message())
            wait_until(lambda: get(server, "/healthz")[1].count('"clients": 0'))
            Client(server).__exit__()

    def test_a_message_that_is_too_large_is_not_taken(self):
        with serving(limits=ConnectionLimits(max_message_bytes=1000)) as server:
            with Client(server) as client:
                client.connection.send(bytes(2000))
                with pytest.raises(ConnectionClosedError, match=r"1009 \(message too big\) .*2000 .*1000 bytes"):
                    client.connection.recv(5)
            with Client(server) as client:
                assert "unknown" in client.ask({"x": 1})

    def test_too_many_messages_are_refused_unread(self):
        with serving(limits=ConnectionLimits(max_messages_per_s=10.0)) as server, Client(server) as client:
            answers = [client.ask(message(time=float(number))) for number in range(15)]
            refused = [answer for answer in answers if isinstance(answer, str)]
            assert refused == ["too many messages: 10 a second are allowed"] * len(refused)
            assert 3 <= len(refused) <= 5
            time.sleep(0.2)
            assert "actions" in client.ask(message(time=20.0))

    def test_a_policy_that_hangs_is_told_to_its_client_and_others_go_on(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        policies = iter([slow, CountingPolicy()])
        limits = ConnectionLimits(answer_timeout_s=0.2)
        with serving(lambda: PolicySession(next(policies), CONTRACT), limits=limits) as server:
            with Client(server) as client:
                assert client.ask(message()) == "no answer within 0.2 s: the policy hangs, or is slower than that"
                with pytest.raises(ConnectionClosedError, match="the policy hangs"):
                    client.connection.recv(5)
            with Client(server) as other:
                assert "actions" in other.ask(message())
            slow.gate.set()

    def test_a_policy_that_hangs_takes_no_more_threads_than_there_are_places(self):
        """Each client that came back to a policy that hangs left another thread behind."""
        gate = threading.Event()

        def make_session() -> PolicySession:
            slow = CountingPolicy()
            slow.gate = gate
            return PolicySession(slow, CONTRACT)

        before = set(threading.enumerate())
        with serving(make_session, limits=ConnectionLimits(answer_timeout_s=0.1, max_clients=2)) as server:
            for _ in range(2):
                with Client(server) as client:
                    assert "no answer within 0.1 s" in client.ask(message())
            for _ in range(3):
                with pytest.raises(InvalidStatus) as refused:
                    Client(server)
                assert refused.value.response.status_code == 503
                assert b"full: the policy hangs in 2 of 2 places" in (refused.value.response.body or b"")
            made = set(threading.enumerate()) - before
            assert sum(thread.name.startswith("client ") for thread in made) == 2
            gate.set()
            wait_until(lambda: '"clients": 0' in get(server, "/healthz")[1])
            with Client(server) as client:
                assert "actions" in client.ask(message())

    def test_a_client_that_stops_between_two_pieces_is_let_go(self):
        with serving(limits=ConnectionLimits(message_timeout_s=0.3)) as server, Client(server) as client:
            half = pack(message())[:50]

            def pieces():
                yield half
                time.sleep(1.0)
                yield half

            def send() -> None:
                with suppress(ConnectionClosedError):
                    client.connection.send(pieces())

            sender = threading.Thread(target=send)
            sender.start()
            assert client.connection.recv(5) == "the rest of a message did not come within 0.3 s"
            sender.join()

    def test_a_client_that_stops_within_a_piece_is_let_go(self):
        """It cannot answer a ping there. The server lives on."""
        with serving(limits=ConnectionLimits(message_timeout_s=0.3)) as server:
            client = Client(server, ping_interval=None)
            raw = client.connection.socket
            raw.sendall(
                b"\x82\xfe\x10\x00" + b"mask" + bytes(100)
            )  # the head of a message of 4096 bytes, and 100 of them
            with pytest.raises(ConnectionClosedError, match="keepalive ping timeout"):
                client.connection.recv(5)
            with Client(server) as other:
                assert "actions" in other.ask(message())
            wait_until(lambda: server.metrics.get("closed", "1006") == 1)

    def test_one_that_never_finishes_its_handshake_is_let_go(self):
        with serving(limits=ConnectionLimits(message_timeout_s=0.3)) as server:
            with socket.create_connection((server.host, server.port)) as raw:
                raw.sendall(b"GET / HTTP/1.1\r\nHost: ")
                raw.settimeout(5)
                assert raw.recv(100) == b""
            with Client(server) as other:
                assert "actions" in other.ask(message())

    def test_one_that_vanishes_in_mid_message_leaves_nothing_behind(self):
        with serving() as server:
            client = Client(server)
            client.connection.socket.sendall(b"\x82\xfe\x10\x00" + b"mask" + bytes(100))
            client.connection.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: get(server, "/healthz")[1].count('"clients": 0'))


class TestHttp:
    def test_health(self):
        with serving() as server, Client(server):
            status, body = get(server, "/healthz")
            assert status == 200
            assert json.loads(body) == {"ok": True, "clients": 1, "longest_answer_in_progress_s": 0.0}

    def test_a_server_that_does_not_answer_is_not_healthy(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        with (
            serving(lambda: PolicySession(slow, CONTRACT), limits=ConnectionLimits(answer_timeout_s=0.5)) as server,
            Client(server) as client,
        ):
            client.connection.send(pack(message()))
            wait_until(lambda: get(server, "/healthz")[0] == 503)
            wait_until(lambda: server.metrics.to_text({}).count('errors_total{kind="timeout"} 1'))
            with pytest.raises(ConnectionClosedError):
                _ = [client.connection.recv() for _ in range(2)]  # the reason, and the end
            assert get(server, "/healthz")[0] == 503  # the client is gone, the policy still hangs
            slow.gate.set()
            wait_until(lambda: get(server, "/healthz")[0] == 200)

    def test_trouble_behind_the_sessions_is_not_healthy(self):
        trouble = ["System 2 hangs"]
        with serving(trouble=lambda: trouble[0]) as server:
            status, body = get(server, "/healthz")
            assert (status, json.loads(body)["trouble"]) == (503, "System 2 hangs")
            trouble[0] = ""
            assert get(server, "/healthz")[0] == 200

    def test_metrics(self):
        with serving(gauges=lambda: {"refreshes": 12.0}) as server, Client(server) as client:
            client.ask(message())
            client.ask({})
            status, text = get(server, "/metrics")
            lines = text.splitlines()
            assert status == 200
            assert 'video2act_answers_total{kind="plan"} 1' in lines
            assert 'video2act_errors_total{kind="message"} 1' in lines
            assert "video2act_clients 1" in lines
            assert "video2act_refreshes 12" in lines
            assert "video2act_answer_seconds_count 1" in lines
            assert all(line.startswith("#") or len(line.rsplit(" ", 1)) == 2 for line in lines)

    def test_other_paths_say_what_there_is(self):
        with serving() as server:
            assert get(server, "/policy") == (404, "there is /healthz, /metrics, and a websocket at /\n")


class TestShutdown:
    def test_an_answer_in_progress_is_finished_and_goodbye_is_said(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            with serving(lambda: PolicySession(slow, CONTRACT)) as server:
                busy, idle = Client(server), Client(server)
                answer = pool.submit(busy.ask, message(5.0))
                wait_until(lambda: "0.0}" not in get(server, "/healthz")[1])
                threading.Timer(0.2, slow.gate.set).start()
            assert answer.result(5)["actions"][0].tolist() == [1.0, 5.0]
            for client in (busy, idle):
                with pytest.raises(ConnectionClosedOK, match=r"1001 \(going away\) the server is shutting down"):
                    client.connection.recv(5)

    def test_a_policy_that_hangs_does_not_keep_the_server_alive(self):
        slow = CountingPolicy()
        slow.gate = threading.Event()
        started = time.monotonic()
        with serving(lambda: PolicySession(slow, CONTRACT), limits=ConnectionLimits(shutdown_s=0.3)) as server:
            client = Client(server)
            client.connection.send(pack(message()))
            wait_until(lambda: "0.0}" not in get(server, "/healthz")[1])
        assert time.monotonic() - started < 3
        slow.gate.set()
