"""System 2 on another machine, as a `Perceiver`. A slow loop in a thread gives it clips and bears its failures.

Clips are made here, at System 2's size. The server keeps nothing between two clips, so it can be restarted at any time:
after a lost connection, the next clip makes a new one.
"""

import logging
import sys
import threading
import time
from typing import Any

import numpy as np

from video2act.clips import to_frames
from video2act.interfaces import System2Error
from video2act.refresh_rule import RefreshSpec
from video2act.serving.access import check_address
from video2act.serving.answer_checks import read_tokens
from video2act.serving.codec import MessageError
from video2act.serving.contract import ClipShape, Contract
from video2act.serving.link import TROUBLE, Connection, describe_error, is_final
from video2act.types import Tokens, Video

log = logging.getLogger(__name__)


class RemoteSystem2:
    """What `video2act serve RUN --only system2` serves.

    Args:
        address: `ws://host:port`, or `wss://`.
        spec: of the policy that uses the tokens; the server must serve the same streams.
        answer_timeout_s: without an answer for so long, the connection is closed and made again.
        token_dim: width of the tokens that the policy reads; 0: any.
        fingerprint: of the weights of the policy's own System 2; empty: any.
    Raises:
        ValueError: the policy has no streams, or the address does not begin with `ws://`.
    """

    def __init__(
        self,
        address: str,
        spec: RefreshSpec,
        *,
        api_key: str | None = None,
        answer_timeout_s: float = 10.0,
        token_dim: int = 0,
        fingerprint: str = "",
    ):
        check_address(address)
        if not spec.streams:
            raise ValueError("a policy without System 2 has no streams; there is nothing to ask a server for")
        self.address = address
        self._spec = spec
        self._streams = {stream.name: ClipShape.of(stream) for stream in spec.streams}
        self._token_dim, self._fingerprint = token_dim, fingerprint
        self._api_key = api_key
        self._answer_timeout_s = answer_timeout_s
        self._connection: Connection | None = None
        self._is_closed = threading.Event()

    def perceive(self, clips: dict[str, Video], instruction: list[str]) -> Tokens:
        """Clips -> tokens, float32 on the CPU.

        Raises:
            ConnectionError: no server answered in time; that may pass.
            System2Error: the server cannot be used: a wrong key, another policy, tokens that are not as it says.
            RemoteError: System 2 failed there.
        """
        message = {
            "clips": {name: to_frames(clip) for name, clip in clips.items()},
            "prompt": instruction[0],
            "time": time.monotonic(),
            "episode": 0,  # the slow loop numbers episodes
        }
        try:
            connection = self._connected()
            answer = connection.ask(message, self._answer_timeout_s)
            tokens, mask = read_tokens(answer, connection.contract.token_dim or self._token_dim)
        except TROUBLE as error:
            self._disconnect()
            raise (System2Error if is_final(error) else ConnectionError)(describe_error(error)) from error
        # an exported policy reads numpy as well, and may run where there is no PyTorch
        array: Any = sys.modules["torch"].from_numpy if "torch" in sys.modules else np.asarray
        return Tokens(array(tokens), array(mask))

    def close(self) -> None:
        """End the connection. An answer that is waited for is given up."""
        self._is_closed.set()
        self._disconnect()

    def _connected(self) -> Connection:
        connection = self._connection
        if connection is None:
            connection = Connection(self.address, self._api_key)
            self._connection = connection
            self._check(connection.contract)
        if self._is_closed.is_set():
            raise ConnectionError("this connection has been closed")
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _check(self, contract: Contract) -> None:
        if contract.serves != "system2":
            raise MessageError("a whole policy is served there; start the server with --only system2")
        if contract.streams != self._streams or not np.isclose(contract.period_s * self._spec.control_fps, 1):
            raise MessageError(
                f"another policy's System 2 is served there: streams {contract.streams} at "
                f"{1 / contract.period_s:g} Hz, this policy has {self._streams} at {self._spec.control_fps:g} Hz"
            )
        own = {"token_dim": self._token_dim, "fingerprint": self._fingerprint}
        for name, wanted in own.items():
            told = getattr(contract, name)
            if wanted and told and told != wanted:
                raise MessageError(
                    f"a System 2 of another training is served there: its {name} is {told}, that of this policy "
                    f"{wanted}; serve the run folder that the policy comes from"
                )
        if self._fingerprint and not contract.fingerprint:
            log.warning("%s does not say which weights it serves, so they are not compared; update it", self.address)
