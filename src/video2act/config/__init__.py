"""Every knob of a policy and of its training, as one tree of frozen dataclasses that is saved as json beside the
weights.

Imports no torch. A value that follows from others is a property. Errors name the field, both values and what to do.
Durations are seconds (`_s`), sizes pixels (`_px`), counts `num_`.
"""

from video2act.config.backbone import (
    GRIDS,
    BackboneConfig,
    Grid,
    PretrainedBackboneConfig,
    ScratchConfig,
    TuningConfig,
    load_backbone,
)
from video2act.config.files import from_json, load, to_json
from video2act.config.frames import LETTERBOX, FrameConfig, Orientation
from video2act.config.paths import differences
from video2act.config.policy import PolicyConfig, camera_and_lag
from video2act.config.programs import EvaluateOptions, ExportOptions, SweepOptions
from video2act.config.runtime import Overlap, RuntimeConfig, SimulatedLatency, data_margin
from video2act.config.serving import ConnectionLimits, ServeOptions
from video2act.config.system1 import (
    RDT_FORM,
    DenoisingConfig,
    DitConfig,
    NormForm,
    PretrainedConfig,
    System1Config,
    adaptor_depth,
)
from video2act.config.system2 import (
    FilterConfig,
    FilterName,
    FormerConfig,
    ImagineConfig,
    StreamConfig,
    System2Config,
)
from video2act.config.training import InverseTrainConfig, OptimizationConfig, TrainConfig, VideoTrainConfig
