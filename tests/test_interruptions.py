"""An interrupted command prints the exact command that continues it, and makes no false promise."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from small_study import PLAYED, player, write_study
from video2act import cli
from video2act.study import worker
from video2act.training.loop import TrainingLoop

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

TRAIN = ("train", "--preset", "tiny_blind", "--num-steps", 5, "--batch-size", 2)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command that is interrupted; its exit code and what it says last."""

    def call(*words: object, program: str = "/usr/bin/video2act") -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [program, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().err

    return call


def ask(monkeypatch: pytest.MonkeyPatch, number: int, at_step: int) -> None:
    take_step = TrainingLoop._step

    def step(self: TrainingLoop, now: int, inputs: Any) -> Any:
        if now == at_step:
            os.kill(os.getpid(), number)
        return take_step(self, now, inputs)

    monkeypatch.setattr(TrainingLoop, "_step", step)


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_training_that_is_asked_to_stop_prints_the_command_that_goes_on(
    number: signal.Signals,
    recorded: Path,
    tmp_path: Path,
    interrupted: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    """Nothing was kept before `save_every`, and the message promised that something was."""
    out = tmp_path / "a run"
    with monkeypatch.context() as patch:
        ask(patch, number, at_step=1)
        code, said = interrupted(*TRAIN, "--data", recorded, "--out", out)
    assert code == 128 + number
    first, command = said.strip().splitlines()[-2:]
    assert f"{number.name}; step 2 of 5 is finished and saved in {out}; go on with" in first
    assert shlex.split(command) == [
        "video2act",
        *map(str, TRAIN),
        "--data",
        str(recorded),
        "--out",
        str(out),
        "--resume",
    ]
    assert saved(out) == ["000002"]
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    cli.main()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 5


def test_the_command_that_goes_on_can_be_interrupted_and_given_again(
    recorded: Path, tmp_path: Path, interrupted: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    words = (*TRAIN, "--data", recorded, "--out", tmp_path / "run", "--resume")
    for step in (0, 3):
        with monkeypatch.context() as patch:
            ask(patch, signal.SIGTERM, at_step=step)
            _, said = interrupted(*words)
        assert shlex.split(said.splitlines()[-1]) == ["video2act", *map(str, words)]
    monkeypatch.setattr(sys, "argv", ["video2act", *map(str, words)])
    cli.main()
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_piece_that_is_saved_does_not_end_like_an_error(
    recorded: Path, tmp_path: Path, interrupted: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    """`--max-minutes` ended with 1, the code for errors: no shell loop could tell them apart."""
    words = (*TRAIN, "--data", recorded, "--out", tmp_path / "run", "--resume", "--max-minutes", 1e-9)
    for step in range(1, 5):
        code, said = interrupted(*words)
        assert (code, f"minutes are over; step {step} of 5 is finished and saved" in said) == (75, True)
    monkeypatch.setattr(sys, "argv", ["video2act", *map(str, words)])
    cli.main()
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_first_step_the_message_is_true_too(
    number: signal.Signals,
    recorded: Path,
    tmp_path: Path,
    interrupted: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", lambda *args, **options: os.kill(os.getpid(), number))
        code, said = interrupted(*TRAIN, "--data", recorded, "--out", out, program="/x/video2act/cli.py")
    assert code == 128 + number
    assert f"{number.name}; the newest checkpoint is kept, if there is one; this goes on from it, or from the" in said
    command = said.splitlines()[-1]
    assert command.startswith("  python -m video2act.cli train ")
    monkeypatch.setattr(sys, "argv", ["video2act", *shlex.split(command)[3:]])
    cli.main()
    assert (out / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("info data", "nothing was written that is not complete"),
        (
            "collect --env x:y --out data",
            "what was complete is kept; this goes on from there:\n  video2act collect --env x:y",
        ),
    ],
)
def test_other_commands_promise_what_they_keep(
    words: str, said: str, interrupted: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    def program(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    verb = words.split()[0]
    monkeypatch.setitem(cli.VERBS, verb, cli.Verb(cli.VERBS[verb].options, program, cli.VERBS[verb].positional))
    code, printed = interrupted(*words.split())
    assert code == 130
    assert f"video2act: SIGINT; {said}" in printed


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A signal that the program leaves alone fails the test, not the tests' process."""

    def ignored(number: int, frame: object) -> None:
        pytest.fail(f"{signal.Signals(number).name} was not heard")

    before = signal.signal(signal.SIGTERM, ignored)
    yield
    signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("verb", cli.GOING_ON)
def test_every_command_that_goes_on_says_so_when_a_scheduler_ends_it(
    verb: str, interrupted: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
):
    """Trainings did. A study, a collection, an evaluation that SIGTERM ended said nothing."""
    monkeypatch.setitem(cli.VERBS, verb, cli.Verb(NoOptions, lambda _: os.kill(os.getpid(), signal.SIGTERM)))
    code, printed = interrupted(*verb.split())
    assert code == 128 + signal.SIGTERM
    assert f"SIGTERM; what was complete is kept; this goes on from there:\n  video2act {verb}\n" in printed


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_ended_in_a_job_goes_on_with_the_command_that_it_prints(
    number: signal.Signals,
    tmp_path: Path,
    interrupted: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    script = tmp_path / "ended.py"
    script.write_text(
        f"import os, sys, time\nif 'train' in sys.argv: os.kill(os.getppid(), {number}); time.sleep(60)\n{PLAYED}"
    )
    words = ("study", write_study(tmp_path), "--out", tmp_path / "out", "--workers", 1, "--slice", "smoke")
    with monkeypatch.context() as patch:
        patch.setattr(worker, "COMMAND", (sys.executable, "-S", str(script)))
        code, printed = interrupted(*words)
    assert code == 128 + number
    assert f"video2act: {number.name}; what was complete is kept; this goes on from there:" in printed
    command = shlex.split(printed.splitlines()[-1])
    assert command == ["video2act", *map(str, words)]
    monkeypatch.setattr(worker, "COMMAND", player(tmp_path))
    monkeypatch.setattr(sys, "argv", command)
    cli.main()
    played = (tmp_path / "out/played.txt").read_text().splitlines()
    assert [line.split()[0] for line in played].count("collect") == 1
    assert (tmp_path / "out/table.md").is_file()


def test_of_several_processes_the_launcher_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    start = "accelerate launch --num_processes 2 -m video2act.cli"
    assert cli.again(["/x/cli.py", "train", "--no-resume"]) == f"{start} train --resume"
