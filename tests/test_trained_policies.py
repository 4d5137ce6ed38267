"""The policies in weights/: whole, small, described, and as good as their cards say."""

import re
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from video2act import Observation, Runner, Video2Act, evaluate
from video2act.files.run_folder import BESIDE, CARD_FILE, CONFIG_FILE, SHARED, STATISTICS_FILE, WEIGHTS_FILE

ROOT = Path(__file__).parents[1]
FOLDERS = sorted((ROOT / "weights").glob("*/"))
MAX_BYTES = 16 * 2**20
"""of a file"""

of_each = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def rows_of(card: Path) -> list[tuple[str, str, int, int, str]]:
    """Rows of a card's last table: environment, control, successes, episodes, the expert's."""
    row = r"^\| (\S+:\S+) \| ([^|]*) \| (\d+)/(\d+) \|[^|]*\| ([^|]*) \|"
    rows = re.findall(row, card.read_text(), re.MULTILINE)
    return [(env, control.strip(), int(won), int(of), expert) for env, control, won, of, expert in rows]


def evaluated(folder: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    """(environment, control) -> successes, episodes, tasks; those of a suite such as libero:libero_object together."""
    found: dict[tuple[str, str], tuple[int, int, int]] = {}
    for env, control, won, of, _ in rows_of(folder / CARD_FILE):
        key = env.partition("/")[0], control
        before = found.get(key, (0, 0, 0))
        found[key] = before[0] + won, before[1] + of, before[2] + 1
    return found


def test_there_are_some():
    assert {folder.name for folder in FOLDERS} >= {"libero_object", "moving_intercept", "push", "three_tasks"}


@of_each
def test_it_holds_what_a_policy_needs_and_nothing_else(folder: Path):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith("eval/")}  # what a user evaluated
    assert files >= {CONFIG_FILE, WEIGHTS_FILE, STATISTICS_FILE, CARD_FILE, *BESIDE}
    assert all(any(fnmatch(name, pattern) for pattern in SHARED) for name in files)
    assert max((folder / name).stat().st_size for name in files) < MAX_BYTES


@of_each
def test_its_card_shows_success_beside_the_expert_and_a_blind_control(folder: Path):
    found = evaluated(folder)
    seeing = {env: won / of for (env, control), (won, of, _) in found.items() if not control}
    blind = {env: won / of for (env, control), (won, of, _) in found.items() if control == "blind"}
    assert seeing.keys() == blind.keys()
    rows = rows_of(folder / CARD_FILE)
    assert all(re.fullmatch(r"\d+/\d+", expert) for _, control, _, _, expert in rows if not control)
    assert all(seeing[env] > blind[env] for env in seeing)


@of_each
def test_it_acts(folder: Path):
    policy = Video2Act.from_pretrained(folder)
    random = np.random.default_rng(0)
    size = (policy.config.image_px, policy.config.image_px, 3)
    images = {camera: random.integers(0, 256, size, np.uint8) for camera in policy.config.all_cameras}
    state = np.array(policy.statistics["state"].mean, np.float32)
    instruction = "push the puck to the target"
    with Runner(policy) as runner:
        action = runner.step(Observation(images, state, instruction, 0.0))
    assert action.shape == (policy.config.action_dim,)
    assert np.isfinite(action).all()


@pytest.mark.slow
@of_each
def test_it_succeeds_as_often_as_its_card_says(folder: Path, tmp_path: Path):
    """Ten other scenes: as few successes as found, or fewer, are not below one chance in 10,000."""
    from scipy.stats import binomtest

    for (env, control), (won, of, tasks) in evaluated(folder).items():
        if env.startswith("libero:"):
            pytest.importorskip("libero", reason="needs the extra libero")
        if not control:
            out, each = tmp_path / env.replace(":", "_"), max(1, 10 // tasks)
            found = evaluate(folder, env, episodes=each, seed=7000, out=out, num_videos=0, expert=False)
            likely = (won + 1) / (of + 2)
            assert binomtest(found.success.successes, each * tasks, likely, alternative="less").pvalue > 1e-4
