"""Access to a server: the API key, the addresses that need one, and how often a client may do something."""

import errno
import hmac
import ipaddress
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

KEY_VARIABLE = "VIDEO2ACT_API_KEY"
NEW_KEY = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


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


def check_address(address: str) -> None:
    """Raises ValueError for an address that does not begin with `ws://` or `wss://`, and names one that does."""
    if not address.startswith(("ws://", "wss://")):
        scheme, _, server = address.rpartition("://")
        use = f"{'wss' if scheme == 'https' else 'ws'}://{server}"
        raise ValueError(f"{address} is no address of a served policy, which begins with ws://; use {use}")


def check_port(host: str, port: int) -> None:
    """Raises OSError for a port that another program listens on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with port_is_named(host, port):
        socket.create_server((host, port), family=family).close()


@contextmanager
def port_is_named(host: str, port: int) -> Iterator[None]:
    """That a port is taken becomes an OSError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        problem = f"port {port} of {host} is in use by another program"
        raise OSError(f"{problem}; end that, or choose another with --port (0: any free one)") from error


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


def refusal(api_key: str | None, headers: Sequence[str]) -> str | None:
    """Why a request with these `Authorization` headers is refused; None if it is let in. Keys are compared in constant
    time."""
    if api_key is None:
        return None
    if len(headers) != 1:
        found = f", once; got {len(headers)}" if headers else ""
        return f"an API key is needed: send the header 'Authorization: Api-Key <key>'{found}\n"
    # bytes that are no ASCII come as surrogates
    if not hmac.compare_digest(headers[0].encode(errors="surrogateescape"), authorization(api_key).encode()):
        return "the API key is wrong\n"
    return None


class Rate:
    """An allowance that fills up again within a second."""

    def __init__(self, per_s: float):
        self._per_s = per_s
        self._left = max(1.0, per_s)
        self._at = time.monotonic()

    def is_exceeded(self) -> bool:
        """Takes one from the allowance; whether there was none left."""
        now = time.monotonic()
        self._left = min(max(1.0, self._per_s), self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return True
        self._left -= 1
        return False
