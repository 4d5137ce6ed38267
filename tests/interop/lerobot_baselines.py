"""ACT and Diffusion Policy of the real LeRobot, trained, served by `baselines/serve_lerobot.py` and evaluated by us:
run by `make test-interop`.

    python tests/interop/lerobot_baselines.py FOLDER

A handful of steps on three demonstrations of MetaWorld's push, then two scenes: that it runs, not that it succeeds.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from lerobot_plugin import run

ENV, PX = "metaworld:push-v3", 64
SCRIPT = Path(__file__).parents[2] / "baselines" / "serve_lerobot.py"
DEFAULTS = {"act": (), "diffusion": ("--policy.down_dims=[64, 128, 256]", "--policy.num_inference_steps=5")}
"""the default recipes, but for a smaller network of Diffusion Policy: its own has 270 million weights"""


def train(kind: str, data: Path, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    run(
        "lerobot-train",
        f"--policy.type={kind}",
        *DEFAULTS[kind],
        "--policy.pretrained_backbone_weights=null",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--dataset.repo_id=local/push",
        f"--dataset.root={data}",
        f"--output_dir={out}",
        "--steps=3",
        "--save_freq=3",
        "--batch_size=2",
        "--num_workers=0",
        "--wandb.enable=false",
    )
    return out / "checkpoints" / "last" / "pretrained_model"


def evaluate(policy: Path, data: Path, out: Path) -> str:
    """Serve it and evaluate it on two scenes; what `eval_info.json` says of them."""
    command = [sys.executable, str(SCRIPT), str(policy), "--data", str(data), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = next((line for line in server.stdout if " at ws://" in line), "")
            assert line, f"{' '.join(command)} did not start"
            words = ("--episodes", "2", "--no-expert", "--num-videos", "0", "--out", str(out))
            run("video2act", "eval", line.split()[-1], "--env", ENV, *words)
        finally:
            server.terminate()
    overall = json.loads((out / "eval_info.json").read_text())["overall"]
    assert overall["n_episodes"] == 2, overall
    return f"{overall['n_episodes']} episodes, {overall['pc_success']:.0f} % success"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    if not (data / "meta" / "info.json").is_file():
        collected = ("--out", str(data), "--episodes", "3", "--workers", "1", "--image-size", str(PX))
        # MetaWorld 3.0.0, which LeRobot asks for, has no corner4
        run("video2act", "collect", "--env", ENV, "--cameras", "corner", "gripperPOV", *collected)
    for kind in DEFAULTS:
        policy = train(kind, data, folder / kind)
        shutil.rmtree(folder / f"eval_{kind}", ignore_errors=True)
        print(f"LeRobot's {kind}: {evaluate(policy, data, folder / f'eval_{kind}')}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
