"""Where a training reports its numbers besides the run folder: Weights & Biases or Trackio, by accelerate's trackers.

`metrics.jsonl` and TensorBoard are always written. wandb is online only if its server answers and a key is there;
otherwise it writes into the run folder, for `wandb sync`. Trackio keeps its data on this machine.
"""

import netrc
import os
import socket
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from video2act.extras import extra

PROJECT = "video2act"
WANDB_SERVER = "https://api.wandb.ai"
ANSWER_S = 2.0


def check_tracker(name: str | None) -> None:
    """Raises ImportError: the package is not installed; with the line that installs it."""
    if name is not None:
        with extra("track", f"--track {name}"):
            import_module(name)


def tracker_options(name: str, folder: Path) -> dict[str, Any]:
    """What the tracker of a run folder is started with. Says so, where numbers stay on this machine."""
    if name != "wandb":
        return {"name": folder.name}
    mode = os.environ.get("WANDB_MODE", "")
    if not mode:
        reason = _offline_reason(os.environ.get("WANDB_BASE_URL") or WANDB_SERVER)
        mode = "offline" if reason else "online"
        if reason:
            print(f"wandb works offline: {reason}. To upload later: wandb sync {folder / 'wandb' / 'offline-run-*'}")
    return {"name": folder.name, "dir": str(folder), "mode": mode}


def _offline_reason(server: str) -> str:
    """Why numbers cannot be sent; empty: they can."""
    address = urlsplit(server)
    host = address.hostname or ""
    try:
        socket.create_connection((host, address.port or (80 if address.scheme == "http" else 443)), ANSWER_S).close()
    except OSError as error:
        return f"{host} does not answer ({error})"
    if os.environ.get("WANDB_API_KEY"):
        return ""
    with suppress(OSError, netrc.NetrcParseError):
        if netrc.netrc().authenticators(host):
            return ""
    return "there is no key (wandb login, or WANDB_API_KEY)"
