"""Access to a server: the API key, the addresses that need one, and the limits of one client."""

import hmac
import ipaddress
import os
import time
from dataclasses import dataclass
from pathlib import Path

KEY_VARIABLE = "VIDEO2ACT_API_KEY"
NEW_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True)
class ConnectionLimits:
    """ConnectionLimits of a client, so that one client cannot block the others."""

    max_clients: int = 32
    max_message_bytes: int = 16 * 2**20
    """a larger message closes the connection (code 1009) and is not kept in memory"""
    max_messages_per_s: float = 500.0
    """on average over a second; further ones get an error and are not read"""
    answer_timeout_s: float = 60.0
    """for one answer; the first of an episode waits for System 2"""
    message_timeout_s: float = 20.0
    """for the rest of a message that has begun, and for the answer to a ping"""
    shutdown_s: float = 5.0
    """for answers in progress when the server stops"""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to any address


def check_bind(host: str, api_key: str | None) -> None:
    """Raises ValueError for a public address without a key."""
    if api_key is None and not is_loopback(host):
        raise ValueError(
            f"{host} can be reached from other machines, so the server needs an API key: set --api-key-file or "
            f"{KEY_VARIABLE} (make a key with {NEW_KEY}), or listen on 127.0.0.1"
        )


def load_api_key(file: Path | None) -> str | None:
    """The key from a file or from the environment, or None. It is no option: others can read the command line.

    Raises:
        ValueError: the key is empty, or holds characters that a header cannot.
    """
    if file is not None:
        key, source = file.read_text().strip(), str(file)
    elif KEY_VARIABLE in os.environ:
        key, source = os.environ[KEY_VARIABLE].strip(), KEY_VARIABLE
    else:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(
            f"{source} holds no usable API key: at least one printable ASCII letter, no spaces. Make one with {NEW_KEY}"
        )
    return key


def authorization(api_key: str) -> str:
    """The `Authorization` header, as openpi's client writes it."""
    return f"Api-Key {api_key}"


def refusal(api_key: str | None, header: str | None) -> str | None:
    """Why a request is refused; None if it is let in. Keys are compared in constant time."""
    if api_key is None:
        return None
    if header is None:
        return "an API key is needed: send the header 'Authorization: Api-Key <key>'\n"
    if not hmac.compare_digest(header.encode(), authorization(api_key).encode()):
        return "the API key is wrong\n"
    return None


class MessageRate:
    """Messages that a client may send; it fills up again within a second."""

    def __init__(self, per_s: float):
        self._per_s = per_s
        self._left = max(1.0, per_s)
        self._at = time.monotonic()

    def is_exceeded(self) -> bool:
        """Called once per message."""
        now = time.monotonic()
        self._left = min(max(1.0, self._per_s), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return True
        self._left -= 1
        return False
