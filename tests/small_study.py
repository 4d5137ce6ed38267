"""A study whose jobs are played by a small script: it writes what the real programs would, and no more."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

PLAYED = """
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
with open("played.txt", "a") as played:
    played.write(" ".join(words) + "\\n")
def after(name, default=None):
    return words[words.index(name) + 1] if name in words else default
out = Path(after("--out"))
broken = Path("broken.txt")
if broken.is_file() and broken.read_text() in str(out):
    sys.exit("the disk is full")
out.mkdir(parents=True, exist_ok=True)
if words[0] in ("train", "train-video"):
    (out / "training.json").write_text(json.dumps({"finished": True}))
if words[0] == "eval":
    arm, seed = out.name.rsplit("_seed", 1)
    seeds = list(range(int(after("--seed")), int(after("--seed")) + int(after("--episodes"))))
    share = {"good": 0.9, "bad": 0.3}.get(arm, 0.5) - 0.02 * int(seed)
    won = [(7 * s) % 10 < 10 * share for s in seeds]
    rate = {"success": {"successes": sum(won), "n_episodes": len(won), "wilson_95": [0.0, 1.0]}, "expert": None}
    metrics = {"successes": won, "seeds": seeds, "num_steps": [10] * len(won)}
    task = {"task_group": "moving", "task": "intercept", "metrics": metrics, **rate}
    settings = {"run": words[1], "seeds": seeds, "env": ["moving:intercept"], "blind": False, "instruction": None}
    info = {"per_task": [task], "overall": rate, "settings": settings, "control_steps": 100, "time": "now"}
    info["latency_s"] = {"system1": None, "system2": None}
    info |= {"staleness": {"seconds": None, "control_steps": None}, "runtime": {"held_steps": 0}}
    (out / "eval_info.json").write_text(json.dumps(info))
"""

STUDY: dict[str, Any] = {
    "name": "small",
    "question": "Is good better than bad?",
    "env": ["moving:intercept"],
    "datasets": {"demos": {"collect": {"env": "moving:intercept", "episodes": 4, "noise": 0.1}}},
    "data": ["demos"],
    "video_models": {"trained": {"data": ["demos"], "training": {"num_steps": 5}}},
    "video_model": "trained",
    "training": {"num_steps": 10},
    "arms": {
        "good": {},
        "bad": {"title": "the frozen clip", "changes": {"system2.streams.motion.is_still": True}},
        "alone": {"preset": "tiny_system1"},
    },
    "seeds": [0, 1],
    "scenes": {"seed": 3000, "episodes": 10},
    "primary": {"arm": "good", "than": "bad", "goal_points": 20, "why": "motion alone differs"},
    "secondary": [{"arm": "good", "than": "alone"}],
    "slices": {"smoke": {"arms": ["good", "bad"], "seeds": [0], "changes": {"scenes.episodes": 5}}},
}


def write_study(folder: Path, **changes: Any) -> Path:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**json.loads(json.dumps(STUDY)), **changes}, sort_keys=False))
    return path


def player(folder: Path) -> tuple[str, ...]:
    """What stands in for the command line."""
    script = folder / "play.py"
    script.write_text(PLAYED)
    return (sys.executable, "-S", str(script))
