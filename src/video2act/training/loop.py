"""The training loop that `train` and `train-video` share: accelerate, AdamW, a moving average, checkpoints, a progress
line.

A module whose `forward` returns the loss, or several by name (`LOSS` is their sum), is trained on `inputs(micro_step)`.
All randomness of a step comes from (seed, step, rank), so no random state is saved, and a killed run that is resumed
equals one that was never interrupted.

A run folder grows:
    training.json            what a resumed training must agree in
    metrics.jsonl            one line per step: loss, gradient norm, learning rate
    tensorboard/             the same, drawn
    checkpoints/             everything needed to go on, see `training/checkpoints.py`
"""

import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from video2act.config import OptimizationConfig
from video2act.files.lock import FolderLock
from video2act.precision import has_fast_bf16
from video2act.progress import Bar
from video2act.training.checkpoints import Checkpoints
from video2act.training.metrics import TrainingMetrics, read_metrics
from video2act.training.pause import Deadline, StopRequest, TrainingPausedError
from video2act.training.resuming import FINISHED, check_folder, settings_of, write_settings
from video2act.training.state import TrainingState, own_part
from video2act.training.together import highest, open_accelerator, processes
from video2act.training.trackers import PROJECT, tracker_options

CHECKPOINTS = "checkpoints"

LOSS = "loss"
"""of several losses of a module, the one that is minimised"""

NO_CHECKPOINT = "holds no checkpoint to resume; starting from the first step"
TIME_IS_OVER = 1000
"""beside the numbers of signals"""


Inputs = Callable[[int], tuple[Any, ...]]
"""micro-step -> arguments of the module's forward"""


class TrainingLoop:
    """One training of one module. It holds the lock of its folder until `finish` or `close`; `with` closes it.

    Args:
        module: its `forward(*inputs)` returns the loss, or losses by name; parameters that need no gradient are left
            alone.
        folder: the run folder.
        resume: go on from the newest checkpoint in `folder`; from the first step, if there is none.
        identity: what else makes this training this one (data, policy, ...); a resumed one must agree in it.
        rates: learning rates of their own of some parameters, by the beginning of their names; some of these may go
            unused.
        elsewhere: what the names begin with of frozen weights that checkpoints need not hold.
        deadline: of the work that this training is a part of; None: `max_minutes` are for this part.
    Raises:
        InUseError: another program trains in the folder.
        FileExistsError: the folder holds a finished training, or another one and `resume` is off.
        ValueError: it was started with other settings, or a file of it is damaged.
    """

    def __init__(
        self,
        module: nn.Module,
        config: OptimizationConfig,
        *,
        folder: Path,
        resume: bool,
        identity: dict[str, Any] | None = None,
        rates: dict[str, float] | None = None,
        elsewhere: tuple[str, ...] = (),
        deadline: Deadline | None = None,
    ):
        self.config = config
        self._deadline = deadline or Deadline(config.max_minutes)
        self.folder = folder
        precision = _precision(config)
        self._settings = settings_of(config, {"mixed_precision": precision, **(identity or {})})
        self.accelerator = open_accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=config.gradient_accumulation,
            log_with=config.track,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=bool(rates))],
        )
        if config.track and not self.accelerator.log_with:  # it would go on without
            raise ImportError(f"this accelerate cannot use {config.track}: pip install -U accelerate {config.track}")
        self.is_main = self.accelerator.is_main_process
        self._is_fsdp = self.accelerator.distributed_type is DistributedType.FSDP
        self._lock = FolderLock(folder, "a training") if self.is_main else None
        try:
            self.accelerator.wait_for_everyone()
            check_folder(folder, self._settings, defaults=type(config)(), resume=resume)
            self.accelerator.wait_for_everyone()
            if self.is_main:
                write_settings(folder, self._settings)
            self._prepare(module, rates or {}, elsewhere=elsewhere)
            self.first_step = self._load_newest() if resume else 0
        except BaseException:
            self.close()
            raise
        # its last epoch is the step before the first one: it begins at -1
        self.schedule = get_cosine_schedule_with_warmup(
            self.optimizer.optimizer, config.warmup_steps, config.num_steps, last_epoch=self.first_step - 1
        )

    def _prepare(self, module: nn.Module, rates: dict[str, float], *, elsewhere: tuple[str, ...]) -> None:
        config = self.config
        # beta2 below the usual .999: in a training of a thousand steps the second moment must forget its start
        options = {"lr": config.learning_rate, "betas": (0.9, 0.99), "weight_decay": config.weight_decay, "fused": True}
        optimizer = torch.optim.AdamW(_groups(module, rates), **options)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.module, self.optimizer = self.accelerator.prepare(module, optimizer)
        self.parameters = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        is_divided = any(isinstance(parameter, DTensor) for parameter in self.parameters)
        # fp32 like the parameters (mixed precision only casts within the forward pass): in bf16 an average stands still
        # what FSDP has divided cannot be copied all at once
        self.average = EMAModel(
            self.parameters, decay=0.9999, use_ema_warmup=True, power=config.ema_power, foreach=not is_divided
        )
        whole, moments = self.accelerator.unwrap_model(self.module), self.optimizer.state
        self._state = TrainingState(whole, moments, self.average.shadow_params, elsewhere=elsewhere)
        self._checkpoints = Checkpoints(self.folder / CHECKPOINTS, self.accelerator, is_divided=is_divided)

    def __enter__(self) -> "TrainingLoop":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other programs write the folder, and the next training in this process have other settings: accelerate
        keeps its own for the life of the process."""
        if self._lock:
            self._lock.release()
        if not self._is_fsdp:  # which accelerate finds once in a process only
            AcceleratorState._reset_state()

    def run(self, inputs: Inputs, title: str, *, validate: Callable[[], float] | None = None) -> None:
        """Train to `num_steps`.

        Args:
            inputs: micro-step -> arguments of the module's forward, the same for the same step.
            validate: the loss on held-out data, measured every `validate_every` steps and at the end, of the averaged
                weights.
        Raises:
            FloatingPointError: the loss is not finite; checkpoints before it are kept.
            TrainingPausedError: `max_minutes` are over, or a signal came: the step was finished and saved.
        """
        with ExitStack() as on_error:
            on_error.callback(self.close)
            on_error.callback(lambda: [tracker.finish() for tracker in self.accelerator.trackers])
            self._run(inputs, title, validate=validate)
            on_error.pop_all()

    def _run(self, inputs: Inputs, title: str, *, validate: Callable[[], float] | None) -> None:
        self.module.train()
        started, num_steps = monotonic(), self.config.num_steps
        metrics = TrainingMetrics(self.folder, self.first_step) if self.is_main else None
        if self.config.track:
            options = {self.config.track: tracker_options(self.config.track, self.folder)} if self.is_main else {}
            self.accelerator.init_trackers(PROJECT, _plain(self._settings), options)
        bar = Bar(title, num_steps, unit="step", done=self.first_step, is_shown=self.is_main)
        with StopRequest() as stop, bar:
            for step in range(self.first_step, num_steps):
                learning_rate = float(self.schedule.get_last_lr()[0])  # the step takes this one, and sets the next
                losses, gradient_norm = self._step(step, inputs)
                others = {"gradient_norm": gradient_norm, "learning_rate": learning_rate}
                if validate and self._is_validation_due(step):
                    others["validation_loss"] = self._validation_loss(validate)
                if metrics:
                    metrics.write(step, losses, others=others)
                    self.accelerator.log({**losses, **others}, step=step)
                    rate = (step + 1 - self.first_step) / (monotonic() - started)
                    bar.update(step + 1, f"{metrics}, {rate:.1f} steps/s")
                is_over = self._deadline.is_over and step + 1 < num_steps
                code = highest(stop.number or (TIME_IS_OVER if is_over else 0), self.accelerator)
                if code or (step + 1 < num_steps and (step + 1) % self.config.save_every == 0):
                    if metrics:
                        metrics.flush_to_disk()
                    self._checkpoints.save(step + 1, self._state.tensors())
                if code:
                    is_signal = code != TIME_IS_OVER
                    why = signal.Signals(code).name if is_signal else str(self._deadline)
                    raise TrainingPausedError(
                        f"{title}: {why}; step {step + 1} of {num_steps} is finished and saved in {self.folder}",
                        code if is_signal else 0,
                    )
        if metrics:
            metrics.close()
            if note := metrics.overfit_note():
                print(f"note: {note}")

    def _is_validation_due(self, step: int) -> bool:
        every = getattr(self.config, "validate_every", 0)
        return step + 1 == self.config.num_steps or (bool(every) and (step + 1) % every == 0)

    @torch.no_grad()
    def _validation_loss(self, validate: Callable[[], float]) -> float:
        """The loss of the averaged weights, which are those that a run keeps."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        self.module.eval()
        loss = validate()
        self.module.train()
        self.average.restore(self.parameters)
        return loss

    def generator(self, micro_step: int) -> torch.Generator:
        """Draws what a program needs in one micro-step: the same whenever it is asked, another on each rank."""
        seed = hash((self.config.seed, micro_step, self.accelerator.process_index))
        return torch.Generator().manual_seed(seed % 2**63)

    def averaged_weights(self) -> dict[str, Tensor]:
        """The module's weights with the moving average in place of what was trained, gathered from all processes."""
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        state: dict[str, Any] = self.accelerator.get_state_dict(self.module)
        trained = {own_part(tensor).data_ptr() for tensor in self.parameters}
        for name, tensor in state.items():
            # copied: what will hold trained weights again, and what FSDP gathered into more memory than it fills, which
            # no file takes; but not a frozen video model of gigabytes
            if tensor.data_ptr() in trained or tensor.untyped_storage().nbytes() > tensor.nbytes:
                state[name] = tensor.clone()
        self.average.restore(self.parameters)
        return state

    def finish(self, record: Mapping[str, Any] | None = None) -> None:
        """Mark the training as finished and remove what was only needed to resume. Call it when the result is saved.

        Args:
            record: what is kept in `training.json` beside the settings.
        """
        self.accelerator.wait_for_everyone()
        if self.is_main:
            write_settings(self.folder, {**self._settings, **(record or {}), FINISHED: True})
            shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)
        for tracker in self.accelerator.trackers:  # not `end_training`: the processes go on together
            tracker.finish()
        self.close()

    def _step(self, step: int, inputs: Inputs) -> tuple[dict[str, float], float]:
        """Losses by name, and the norm of the gradient."""
        # draws from the global generators, such as a backbone's dropout, depend on the step alone, too
        set_seed(hash((self.config.seed, step, self.accelerator.process_index)) % 2**31)
        measured: list[dict[str, Tensor]] = []
        gradient_norm = 0.0
        for micro in range(self.config.gradient_accumulation):
            with self.accelerator.accumulate(self.module):
                found = self.module(*inputs(step * self.config.gradient_accumulation + micro))
                losses = dict(found) if isinstance(found, Mapping) else {LOSS: found}
                self.accelerator.backward(losses[LOSS])
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
                    # under FSDP it is one number in parts
                    gradient_norm = float((norm.full_tensor() if isinstance(norm, DTensor) else norm) or 0.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            measured.append({name: loss.detach() for name, loss in losses.items()})
        means = {}
        for name in measured[0]:
            mean = torch.stack([micro[name] for micro in measured]).mean()
            means[name] = float(self.accelerator.reduce(mean, reduction="mean"))  # type: ignore[arg-type]
        if not torch.isfinite(torch.tensor(means[LOSS])):
            remedy = "lower the learning rate, or look for outliers in the data"
            raise FloatingPointError(f"the loss of step {step} is {means[LOSS]}; {remedy}")
        self.schedule.step()
        self.average.step(self.parameters)
        return means, gradient_norm

    def _load_newest(self) -> int:
        step, found = self._checkpoints.load(self.config.num_steps)
        if self.is_main:
            if step:
                read_metrics(self.folder, step)
            goes_on = f"goes on after step {step} of {self.config.num_steps}"
            print(f"{self.folder} {goes_on if step else NO_CHECKPOINT}", flush=True)
        if step:
            self._state.restore(found, source=f"the newest checkpoint of {self.folder}")
            self.average.optimization_step = step
        return step


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Those that every tracker takes."""
    return {name: value for name, value in settings.items() if isinstance(value, str | int | float)}


def _groups(module: nn.Module, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Trainable parameters for the optimizer: most at its learning rate, some at their own."""
    own: dict[str, list[nn.Parameter]] = {"": []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            start = next((start for start in rates if name.startswith(start)), "")
            own.setdefault(start, []).append(parameter)
    own_rates = {start: {"lr": rate} for start, rate in rates.items()}
    return [{"params": parameters, **own_rates.get(start, {})} for start, parameters in own.items() if parameters]


def _precision(config: OptimizationConfig) -> str:
    if config.mixed_precision == "auto":
        return "bf16" if has_fast_bf16(torch.device(processes().device or "cpu")) else "no"
    return config.mixed_precision
