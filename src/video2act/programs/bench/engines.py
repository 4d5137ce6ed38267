"""Plans and refreshes of one policy by PyTorch and by each engine, in turns, with the largest difference of results."""

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from video2act.clips import FrameHistory
from video2act.engines.choice import load_policy
from video2act.engines.export import export_policy
from video2act.engines.folder import Engine
from video2act.policy import Video2Act
from video2act.programs.bench.timing import INSTRUCTION, Timing, Work, measure
from video2act.programs.export import drawn_observations
from video2act.types import VideoCondition

OBSERVATIONS = 24
PLAN, REFRESH = "one plan", "one refresh"


def engine_timings(policy: Video2Act, engines: Sequence[Engine], *, repeats: int, int8: bool = False) -> list[Timing]:
    """Export a policy for each engine and time it beside PyTorch, with one thread each.

    Args:
        int8: also time onnxruntime with weights of 8 bits.
    Raises:
        ValueError: the policy cannot be exported, or an engine computes something else.
    """
    config = policy.config
    draw = drawn_observations(config, policy.statistics["state"], instruction=INSTRUCTION[0])
    observations = list(islice(draw, OBSERVATIONS))
    history = FrameHistory(config.system2.streams if config.system2 else ())
    for observation in observations:
        history.append(observation)
    clips, now = history.clips(config.fps), observations[-1]
    parity: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if policy.folder is None:  # an export reads what a run folder holds
            policy.save(Path(folder) / "run")
            policy = Video2Act.load(Path(folder) / "run")
        systems: dict[str, Any] = {"PyTorch": policy}
        for engine in engines:
            for is_int8 in (False, True) if int8 and engine == "onnxruntime" else (False,):
                name, out = engine + ", int8" * is_int8, Path(folder) / f"{engine}{is_int8}"
                options: dict[str, Any] = {"observations": observations, "checked_on": "drawn", "int8": is_int8}
                export_policy(policy, out, engine=engine, **options)
                systems[name] = load_policy(out, engine)
                record = systems[name].exported.parity
                parity[name] = record["int8"] if is_int8 else record
        work: Work = {}
        for name, system in systems.items():
            condition = VideoCondition(system.perceive(clips, INSTRUCTION), now.time, 0)
            work[f"{name}: {PLAN}"] = lambda system=system, condition=condition: system.act(now, condition)
            if config.system2:
                work[f"{name}: {REFRESH}"] = lambda system=system: system.perceive(clips, INSTRUCTION)
        seconds = measure(work, repeats)
    found = []
    for name, values in seconds.items():
        system, what = name.split(": ")
        than = None if system == "PyTorch" else seconds[f"PyTorch: {what}"]
        part = "actions" if what == PLAN else "tokens"
        found.append(Timing(name, values, than, parity[system][part] if system in parity else None))
    return found
