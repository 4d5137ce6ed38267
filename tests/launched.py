"""Two processes of one training, with the environment that torchrun would give them."""

import os
import socket
import subprocess
import sys
from pathlib import Path


def launch_two(program: Path, *arguments: str, **environment: str) -> list[str]:
    """Run a program as two processes on CPUs. Returns what each printed; an error of one fails with its last lines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} | environment
    ranks = [
        subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(error[-4000:] for _, error in said)
    return [out for out, _ in said]
