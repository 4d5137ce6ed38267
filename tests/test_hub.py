"""Policies as folders for the Hub, without the network: what is saved is loaded, and the card says what is known."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evaluations import evaluation_info, write_info
from video2act.config import PolicyConfig
from video2act.policy import Video2Act


@pytest.fixture
def policy(make_policy: Callable[[PolicyConfig], Video2Act], small_config: PolicyConfig) -> Video2Act:
    return make_policy(small_config)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What train and eval leave behind, as far as a card reads it."""
    folder = tmp_path / "run"
    (folder / "eval/one").mkdir(parents=True)
    data = [{"name": "push", "robot": "sawyer", "episodes": 100, "frames": 6000, "tasks": ["push the puck"]}]
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "scenes.json").write_text('{"metaworld:push-v3": [0, 1]}')
    info = evaluation_info({"metaworld:push-v3": [True] * 24 + [False]}, expert=25)
    write_info(folder / "eval/one", info | {"time": "now"})
    return folder


def test_what_is_saved_is_loaded(policy: Video2Act, tmp_path: Path):
    policy.save_pretrained(tmp_path / "policy")
    again = Video2Act.from_pretrained(tmp_path / "policy")
    assert again.config == policy.config
    assert again.statistics == policy.statistics
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in policy.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "stats.json",
    ]


def test_the_card_holds_config_data_and_success(policy: Video2Act, run: Path, tmp_path: Path):
    policy.save_pretrained(tmp_path / "policy", run)
    card = (tmp_path / "policy/README.md").read_text()
    assert card.startswith("---\nlibrary_name: video2act\n")
    assert "| stream motion | 9 frames of front, temporal_bandpass, encoded as a window |" in card
    assert "| push | sawyer | 100 | 6000 | push the puck |" in card
    assert "| metaworld:push-v3 |  | 24/25 | 80-99 % | 25/25 | 1000 to 1024 | now |" in card
    assert (tmp_path / "policy/scenes.json").read_bytes() == (run / "scenes.json").read_bytes()


def test_what_is_not_known_is_said_not_to_be(policy: Video2Act, tmp_path: Path):
    policy.save_pretrained(tmp_path / "policy")
    card = (tmp_path / "policy/README.md").read_text()
    assert "## Data\n\nNot recorded." in card
    assert "## Success\n\nNot evaluated." in card


def test_the_card_names_a_path_that_works_and_what_was_evaluated(policy: Video2Act, run: Path, tmp_path: Path):
    path = run / "eval/one/eval_info.json"
    info = json.loads(path.read_text())
    tasks = [*info["per_task"], info["per_task"][0] | {"task": "drawer-open-v3"}]
    path.write_text(json.dumps(info | {"per_task": tasks, "settings": info["settings"] | {"instruction": "open it"}}))
    policy.save_pretrained(tmp_path / "up/push", run)
    card = (tmp_path / "up/push/README.md").read_text()
    assert f'Video2Act.from_pretrained("{tmp_path}/up/push")' in card
    environments = "metaworld:push-v3 metaworld:drawer-open-v3"
    assert f"video2act eval {tmp_path}/up/push --env {environments} --episodes 25 --seed 1000\n" in card
    assert "| metaworld:push-v3 | told: open it | 24/25 |" in card


def test_the_command_of_a_card_names_a_suite_by_its_name(policy: Video2Act, run: Path, tmp_path: Path):
    """Ten tasks of a suite made a command of 250 letters."""
    write_info(run / "eval/two", evaluation_info({f"libero:libero_object/{number}": [True] for number in range(10)}))
    policy.save_pretrained(tmp_path / "up", run)
    assert "/up --env metaworld:push-v3 libero:libero_object --episodes " in (tmp_path / "up/README.md").read_text()


@pytest.mark.parametrize("file", ["data.json", "eval/one/eval_info.json"])
@pytest.mark.parametrize("content", ["{", "[1]", '{"per_task": [{}]}'])
def test_a_damaged_run_is_refused_before_anything_is_written(
    policy: Video2Act, run: Path, tmp_path: Path, file: str, content: str
):
    (run / file).write_text(content)
    with pytest.raises(ValueError, match=file):
        policy.save_pretrained(tmp_path / "policy", run)
    assert not (tmp_path / "policy").exists()


def test_a_run_folder_that_is_none(policy: Video2Act, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a run folder"):
        policy.save_pretrained(tmp_path / "policy", tmp_path / "nowhere")


def test_a_repo_is_fetched_as_far_as_it_is_needed(policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy.save_pretrained(tmp_path / "policy")
    asked = []

    def fetch(repo: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, "model.safetensors" in allow_patterns))
        return str(tmp_path / "policy")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert Video2Act.from_pretrained("someone/push", revision="v1").config == policy.config
    assert asked == [("someone/push", "v1", True)]


def test_a_folder_in_the_home_is_found(policy: Video2Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`from_pretrained("~/run")` said that it does not exist."""
    monkeypatch.setenv("HOME", str(tmp_path))
    policy.save_pretrained(tmp_path / "run")
    assert Video2Act.from_pretrained("~/run").config == policy.config
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/nothing"):
        Video2Act.from_pretrained("~/nothing")


def test_a_repo_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        FileNotFoundError, match="no folder nobody/push, and the Hugging Face repo nobody/push cannot be fetched"
    ):
        Video2Act.from_pretrained("nobody/push")


def test_what_is_pushed_is_what_is_saved(policy: Video2Act, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[str, dict]] = []

    class Api:
        def create_repo(self, repo_id: str, **options: object) -> None:
            calls.append((repo_id, options))

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str, allow_patterns: list[str]) -> str:
            calls.append((repo_id, {"files": sorted(path.name for path in Path(folder_path).iterdir())}))
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert policy.push_to_hub("me/push", tmp_path / "upload", run=run, private=True) == "https://huggingface.co/me/push"
    assert calls[0] == ("me/push", {"private": True, "exist_ok": True})
    assert {"README.md", "config.json", "model.safetensors", "stats.json"} <= set(calls[1][1]["files"])
    assert "# me/push" in (tmp_path / "upload/README.md").read_text()
    assert Video2Act.from_pretrained(tmp_path / "upload").config == policy.config
