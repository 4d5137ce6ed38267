"""Nothing that a program reads is a pickle that can run: payloads in every file of a run, none of which may go off."""

import ast
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import CONFIG, killed_at

from trainings import train
from video2act.config import BackboneConfig, PolicyConfig
from video2act.interop.checkpoints import CANDIDATES, EMA
from video2act.policy import Video2Act
from video2act.presets import PRESETS, DataSpec
from video2act.system2 import load_system2
from video2act.system2.backbones import load_video_model, make_backbone, save_video_model
from video2act.training.policy_training import begin

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

LIKELY = (
    *("custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl", "scheduler.bin", "scaler.pt", "sampler.bin"),
    *("model.pt", "model.pth", "pytorch_model.bin", "pytorch_model_0.bin", "model.safetensors", "checkpoint.json"),
    *(".metadata", "__0_0.distcp", "rank_0.safetensors", "average_0.safetensors", "trainer_state.json", "state.pkl"),
    *(
        "adapter_model.bin",
        "adapter/adapter_model.bin",
        "adapter/adapter_model.safetensors",
        "config.json",
        "cache.json",
    ),
    *("training_args.bin", "diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.bin", "backbone.json"),
    *("tokenizer/vocab.pkl", "text_encoder/pytorch_model.bin", "transformer/diffusion_pytorch_model.bin", "stats.json"),
    *("000000.safetensors", "policy.pkl", "weights.npz", "config.yaml", "training.json", "metrics.jsonl", ".lock"),
    *CANDIDATES,
    EMA,
)
"""names that other programs, or earlier versions of this one, would read"""


class Payload:
    """Unpickled, it touches a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def forms(mark: Path, scratch: Path) -> Iterator[bytes]:
    """The payload as a pickle, as torch writes it now, and as torch wrote it before."""
    yield pickle.dumps(Payload(mark))
    for is_zip in (True, False):
        torch.save({"module": Payload(mark), "weight": torch.zeros(1)}, scratch, _use_new_zipfile_serialization=is_zip)
        yield scratch.read_bytes()


def check(use: Callable[[], object], mark: Path, file: Path) -> None:
    """An error is an answer; a payload that goes off is not."""
    with suppress(Exception, KeyboardInterrupt):
        use()
    assert not mark.exists(), f"using the folder ran the code in {file}"


def each_file(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_payloads_would_go_off(tmp_path: Path):
    """Else the other tests would show nothing."""
    for number, form in enumerate(forms(tmp_path / "mark", tmp_path / "scratch")):
        (tmp_path / f"{number}.pkl").write_bytes(form)
        with suppress(RuntimeError):  # after it went off
            torch.load(tmp_path / f"{number}.pkl", weights_only=False)
        assert (tmp_path / "mark").exists()
        (tmp_path / "mark").unlink()


def test_resuming_runs_nothing(
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_preset: Callable[[DataSpec], PolicyConfig],
):
    """accelerate unpickled `custom_checkpoint_0.pkl` with whatever lay in it."""
    monkeypatch.setitem(PRESETS, "small_system1", lambda spec: replace(small_preset(spec), system2=None))
    out, mark = tmp_path / "run", tmp_path / "mark"
    config = replace(CONFIG, num_steps=3, save_every=1, batch_size=2)
    with killed_at(2), pytest.raises(KeyboardInterrupt):
        train((recorded,), out, config=config, preset="small_system1")

    def resume() -> None:
        with killed_at(2):
            train((recorded,), out, config=config, preset="small_system1", resume=True)

    for path in each_file(out):
        content = path.read_bytes()
        is_newest = path.suffix == ".safetensors" and path.parent.name == "000002"
        for form in list(forms(mark, tmp_path / "scratch"))[: None if is_newest else 1]:
            path.write_bytes(form)
            check(resume, mark, path)
        path.write_bytes(content)
    # beside the true files, under every likely name: the training goes on
    form = next(forms(mark, tmp_path / "scratch"))
    for folder in (out, out / "checkpoints", *(out / "checkpoints").iterdir()):
        plant(folder, form, each_file(folder))
    train((recorded,), out, config=config, preset="small_system1", resume=True)
    assert not mark.exists()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


def attack(folder: Path, mark: Path, use: Callable[[], object]) -> None:
    """Use a folder with a payload in each of its files in turn, then beside them under all likely names."""
    own = each_file(folder)
    for path in own:
        content = path.read_bytes()
        for form in forms(mark, folder.with_name("scratch")):
            path.write_bytes(form)
            check(use, mark, path)
        path.write_bytes(content)
    for form in forms(mark, folder.with_name("scratch")):
        plant(folder, form, own)
        check(use, mark, folder)


def plant(folder: Path, form: bytes, own: list[Path]) -> None:
    for name in LIKELY:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path not in own:
            path.write_bytes(form)


def test_loading_a_policy_or_beginning_with_it_runs_nothing(
    tmp_path: Path, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
):
    policy = make_policy(small_config)
    uses = {
        "load": lambda folder: Video2Act.from_pretrained(folder),
        "system 2 alone": lambda folder: load_system2(folder),
        "--init": lambda folder: begin(policy, folder),
    }
    for name, use in uses.items():
        folder = tmp_path / name / "run"
        policy.save(folder)
        attack(folder, tmp_path / "mark", lambda: use(folder))  # noqa: B023


@pytest.mark.parametrize("name", [*CANDIDATES, EMA])
def test_beginning_with_a_foreign_checkpoint_runs_nothing(
    tmp_path: Path, name: str, small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act]
):
    path, mark = tmp_path / "checkpoint" / name, tmp_path / "mark"
    path.parent.mkdir(parents=True)
    for form in forms(mark, tmp_path / "scratch"):
        path.write_bytes(form)
        for source in (path, tmp_path / "checkpoint"):
            check(lambda: begin(make_policy(small_config), source), mark, path)  # noqa: B023


def test_a_video_model_folder_runs_nothing(tmp_path: Path, small_backbone: BackboneConfig):
    folder = tmp_path / "model"
    backbone = make_backbone(small_backbone)
    save_video_model(folder, backbone, weights=backbone.state_dict())
    attack(folder, tmp_path / "mark", lambda: load_video_model(folder, whole=True))


SOURCES = [path for name in ("src", "lerobot_policy_video2act", "video2act_released", "robotwin", "scripts")
           for path in sorted((Path(__file__).parents[2] / name).rglob("*.py"))]  # fmt: skip


def called(node: ast.Call) -> str:
    """`torch.load` of `torch.load(...)`."""
    return ast.unparse(node.func)


def can_unpickle(node: ast.Call) -> bool:
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    name = called(node)
    return (
        name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.unsafe_load")
        # the one loader of ours is yaml's safe one
        or (name == "yaml.load" and ast.unparse(node.args[1]) != "_YamlLoader")
        or name.endswith((".load_state", ".unsafe_load", "marshal.loads"))
        or (name == "torch.load" and options.get("weights_only") != "True")
        or options.get("allow_pickle", "False") != "False"
    )


def test_no_call_can_unpickle():
    assert len(SOURCES) > 200
    for file in SOURCES:
        calls = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        assert [f"{file}:{node.lineno}: {ast.unparse(node)[:100]}" for node in calls if can_unpickle(node)] == []
