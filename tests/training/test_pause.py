"""A training that is asked to stop finishes its step, saves it, and goes on as if it had never stopped."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loop import CONFIG, batch, checkpoints, fit, metrics
from torch import Tensor

from video2act.training.pause import (
    SIGNALS,
    Deadline,
    StopRequest,
    TrainingPausedError,
    command_begins,
    signals_interrupt,
)

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def asked_at(step: int, *signals: int) -> Any:
    def inputs(number: int) -> tuple[Tensor, Tensor]:
        for one in signals if number == step else ():
            os.kill(os.getpid(), one)
        return batch(number)

    return inputs


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [0, 4, CONFIG.num_steps - 1])
def test_a_signal_finishes_the_step_and_saves_it(tmp_path: Path, number: signal.Signals, step: int):
    """Up to `save_every` steps were lost, and before the first checkpoint all of them."""
    whole = fit(tmp_path / "whole")
    message = rf"test: {number.name}; step {step + 1} of 10 is finished and saved in .*run; go on with resume=True"
    before = signal.getsignal(number)
    with pytest.raises(TrainingPausedError, match=message) as error:
        fit(tmp_path / "run", inputs=asked_at(step, number))
    assert error.value.number == number
    assert signal.getsignal(number) == before
    assert checkpoints(tmp_path / "run")[-1] == f"{step + 1:06d}"
    assert len(metrics(tmp_path / "run")) == step + 1
    resumed = fit(tmp_path / "run", resume=True)
    assert metrics(tmp_path / "run") == metrics(tmp_path / "whole")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


def test_a_second_ctrl_c_interrupts_at_once(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run", inputs=asked_at(4, signal.SIGINT, signal.SIGINT))
    assert checkpoints(tmp_path / "run") == ["000003"]


def test_the_time_that_is_given_pauses_in_the_same_way(tmp_path: Path):
    with pytest.raises(
        TrainingPausedError, match=r"1e-09 minutes are over; step 1 of 10 is finished and saved"
    ) as error:
        fit(tmp_path / "run", replace(CONFIG, max_minutes=1e-9))
    assert error.value.number == 0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of the clock that deadlines read."""
    seconds = [0.0]
    monkeypatch.setattr("video2act.training.pause.monotonic", lambda: seconds[0])
    return seconds


def test_the_time_counts_from_the_start_of_the_command(now: list[float]):
    """It counted from the first training step: a start of twelve minutes was not in `--max-minutes 55`."""
    with command_begins():
        now[0] = 50.0
        deadline = Deadline(1.0)
        assert not deadline.is_over
        now[0] = 61.0
        assert deadline.is_over
    assert not Deadline(1.0).is_over  # from Python, from the call
    assert not Deadline(0.0).is_over


def test_a_paused_folder_is_free(tmp_path: Path):
    with pytest.raises(TrainingPausedError):
        fit(tmp_path / "run", inputs=asked_at(1, signal.SIGTERM))
    assert not (tmp_path / "run" / ".lock").exists()


def test_what_the_program_was_started_to_ignore_stays_ignored(monkeypatch: pytest.MonkeyPatch):
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with StopRequest() as stop, signals_interrupt():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.number == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_outside_of_the_loop_a_signal_interrupts_as_ctrl_c_does():
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), signals_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_training_in_another_thread_needs_no_signals(tmp_path: Path):
    done: list[dict[str, Tensor]] = []
    thread = threading.Thread(target=lambda: done.append(fit(tmp_path / "run")))
    thread.start()
    thread.join()
    assert len(done) == 1
