"""A config of a kilobyte must not ask for a terabyte or an hour: every number is bounded, and shapes are compared with
the weights' header before any memory is taken."""

import dataclasses
import importlib
import json
import pkgutil
import time
import types
import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from safetensors.torch import load_file, save_file

import video2act.config
from video2act.config import BackboneConfig, PolicyConfig, PretrainedBackboneConfig, load, load_backbone, to_json
from video2act.config.checks import problem_of
from video2act.files.weights import check_memory
from video2act.policy import Video2Act
from video2act.system2 import load_system2
from video2act.system2.backbones import load_video_model, make_backbone, save_video_model
from video2act.training.new_policy import make_policy

MODULES = [
    importlib.import_module(f"video2act.config.{info.name}") for info in pkgutil.iter_modules(video2act.config.__path__)
]
CONFIGS = sorted(
    {
        value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, type)
        and dataclasses.is_dataclass(value)
        and value.__module__.startswith("video2act.config")
    },
    key=lambda cls: cls.__name__,
)
CHECKED = [cls for cls in CONFIGS if hasattr(cls, "__post_init__")]


def numbers_in(hint: Any) -> set[type]:
    """The kinds of numbers that an annotation allows: int, float."""
    if get_origin(hint) in (typing.Union, types.UnionType, tuple, typing.Annotated):
        return set().union(*(numbers_in(argument) for argument in get_args(hint)))
    return {hint} & {int, float} if isinstance(hint, type) else set()


def wrap(hint: Any, value: Any) -> Any:
    """A value as an annotation wants it: in a tuple, for a tuple."""
    inner = get_args(hint)[0] if get_origin(hint) is typing.Annotated else hint
    members = get_args(inner) if get_origin(inner) in (typing.Union, types.UnionType) else (inner,)
    return (value,) if any(get_origin(member) is tuple for member in members) else value


def test_all_configs_are_checked():
    unchecked = [cls for cls in CONFIGS if cls not in CHECKED and cls.__name__ not in ("Between", "Grid")]
    with_numbers = [cls for cls in unchecked if any(map(numbers_in, get_type_hints(cls).values()))]
    assert not with_numbers, "derive it from CheckedConfig"
    assert len(CHECKED) > 25


@pytest.mark.parametrize("cls", CHECKED, ids=lambda cls: cls.__name__)
def test_every_number_has_a_bound(cls: type):
    for name, hint in get_type_hints(cls, include_extras=True).items():
        kinds = numbers_in(hint)
        if int in kinds:
            assert problem_of(hint, wrap(hint, 10**10)), f"{name}: no upper bound"
            assert problem_of(hint, wrap(hint, -(10**10))), f"{name}: no lower bound"
            assert problem_of(hint, wrap(hint, 10**5000)), f"{name}: no upper bound"
        if float in kinds:
            for value in (float("-inf"), float("nan")):
                assert problem_of(hint, wrap(hint, value)), f"{name}: {value} is taken"


@pytest.fixture
def described(small_config: PolicyConfig) -> dict[str, Any]:
    return json.loads(to_json(small_config))


def put(config: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        config = config[int(name)] if isinstance(config, list) else config[name]
    config[last] = value


BOMBS: list[tuple[str, Any]] = [
    ("system1.denoising.num_steps", 10**8),
    ("system1.denoising.num_train_timesteps", 10**10),
    ("system1.denoising.noise_draws", 10**6),
    ("system1.depth", 10**6),
    ("system1.hidden", 2**40),
    ("system1.text_dim", 10**9),
    ("system1.image_channels", 8 * 10**8),
    ("system1.dit.num_text_positions", 10**12),
    ("system1.dit.sinusoids", 10**9),
    ("system2.backbone.depth", 10**6),
    ("system2.backbone.hidden", 2**30),
    ("system2.backbone.patch_px", 2**20),
    ("system2.streams.0.num_frames", 10**9 + 1),
    ("system2.streams.0.size_px", 2**30),
    ("system2.streams.0.former.num_tokens", 10**9),
    ("system2.streams.0.former.depth", 10**6),
    ("cameras", [f"c{i}" for i in range(100_000)]),
    ("cameras", ["x" * 10**6]),
    ("horizon", 10**9),
    ("state_dim", 10**9),
    ("image_px", 2**20),
    ("fps", 1e400),
    ("max_staleness_steps", 10**9),
    ("preset", "x" * 10**6),
]
FITTING: list[tuple[str, Any]] = [
    *(("system1.hidden", 2**16), ("system1.depth", 256), ("horizon", 10**4), ("system1.text_dim", 2**16)),
    *(
        ("system2.backbone.depth", 256),
        ("system2.backbone.hidden", 2**16),
        ("system2.streams.0.former.num_tokens", 2**16),
    ),
    *(("state_dim", 2**16), ("action_dim", 2**16), ("cameras", [f"camera{i}" for i in range(64)])),
]
"""within every bound, and terabytes together"""


@pytest.mark.parametrize(("path", "value"), BOMBS, ids=lambda value: str(value)[:30])
def test_a_number_that_is_too_large_is_refused_at_once(
    path: str, value: Any, described: dict[str, Any], tmp_path: Path
):
    put(described, path, value)
    (tmp_path / "config.json").write_text(json.dumps(described))
    started = time.monotonic()
    with pytest.raises(ValueError, match=path.rpartition(".")[2]) as error:
        load(PolicyConfig, tmp_path / "config.json")
    assert time.monotonic() - started < 1
    assert len(str(error.value)) < 1500


def test_a_hundred_thousand_streams_are_not_built(described: dict[str, Any], tmp_path: Path):
    described["system2"]["streams"] *= 50_000
    (tmp_path / "config.json").write_text(json.dumps(described)[: 2**20])
    with pytest.raises(ValueError, match=r"has \d+ bytes|expected a list of at most|not valid json"):
        load(PolicyConfig, tmp_path / "config.json")
    described["system2"]["streams"] = described["system2"]["streams"][:1001]
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="streams: expected a list of at most 1000 items, got 1001"):
        load(PolicyConfig, tmp_path / "config.json")


LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30))]
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("c.yaml", LAUGHS, "it has an alias", id="aliases"),
        pytest.param("c.yaml", "a: &a [*a]", "it has an alias", id="a list in itself"),
        pytest.param("c.yaml", "[" * 1500, "nested too deeply", id="deep yaml"),
        pytest.param("c.json", "[" * 200_000, "nested too deeply", id="deep json"),
        pytest.param("c.json", '{"horizon": ' + "9" * 5000 + "}", "not valid json", id="a long number"),
        pytest.param("c.yaml", "horizon: 0x" + "f" * 50_000, "missing field|horizon", id="a long number in yaml"),
        pytest.param("c.json", " " * 2**21, r"has 2097152 bytes, at most 1048576 are read", id="a large file"),
        pytest.param("c.json", '{"name": []}', "missing field|unknown", id="a name that is a list"),
        pytest.param("c.yaml", "!!python/object/apply:os.system [true]", "not valid yaml", id="a python object"),
        pytest.param("c.json", b"\xff\xfe\x00", "not valid json", id="no text"),
    ],
)
def test_hostile_files_are_refused_in_a_short_message(name: str, content: str | bytes, message: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    for read in (lambda path: load(PolicyConfig, path), load_backbone):
        with pytest.raises(ValueError, match=message) as error:
            read(tmp_path / name)
        assert len(str(error.value)) < 1500
    assert time.process_time() - started < 5


@pytest.fixture
def run(small_config: PolicyConfig, make_policy: Callable[[PolicyConfig], Video2Act], tmp_path: Path) -> Path:
    make_policy(small_config).save(tmp_path / "run")
    return tmp_path / "run"


def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building a policy where tensors have memory ends the test."""
    init = Video2Act.__init__

    def only_on_meta(self: Video2Act, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        assert next(self.system1.parameters()).is_meta, "memory was taken before shapes were compared"

    monkeypatch.setattr(Video2Act, "__init__", only_on_meta)


@pytest.mark.parametrize(("path", "value"), FITTING, ids=lambda value: str(value)[:30])
def test_shapes_are_compared_before_memory_is_taken(
    path: str, value: Any, run: Path, monkeypatch: pytest.MonkeyPatch, small_config: PolicyConfig
):
    described = json.loads((run / "config.json").read_text())
    put(described, path, value)
    (run / "config.json").write_text(json.dumps(described))
    no_memory(monkeypatch)
    started = time.process_time()
    with pytest.raises(ValueError, match=r"does not fit its config|_dim=65536, but the statistics describe"):
        Video2Act.from_pretrained(run)
    if path.startswith(("system2", "system1.hidden")):
        with pytest.raises(ValueError, match="does not fit its config"):
            load_system2(run)
    assert time.process_time() - started < 8


@pytest.mark.parametrize(("name", "value"), [("depth", 256), ("hidden", 2**16), ("latent_channels", 2**16)])
def test_a_video_models_shapes_are_compared_before_memory_is_taken(
    name: str, value: int, tmp_path: Path, small_backbone: BackboneConfig
):
    backbone = make_backbone(small_backbone)
    save_video_model(tmp_path, backbone, weights=backbone.state_dict())
    described = json.loads((tmp_path / "backbone.json").read_text())
    (tmp_path / "backbone.json").write_text(json.dumps(described | {name: value}))
    with pytest.raises(ValueError, match=r"does not fit its config|latent_channels=65536 is more than"):
        load_video_model(tmp_path)


def test_weights_of_others_are_not_read_before_they_fit(run: Path, monkeypatch: pytest.MonkeyPatch):
    weights = load_file(run / "model.safetensors")
    save_file({f"{name}.other": tensor for name, tensor in weights.items()}, run / "model.safetensors")
    monkeypatch.setattr("video2act.files.weights.read_tensors", lambda *args: pytest.fail("read before compared"))
    with pytest.raises(ValueError, match="does not fit its config"):
        Video2Act.load(run)


def test_a_new_policy_that_the_machine_cannot_hold_is_refused(
    small_config: PolicyConfig, small_statistics: Any, monkeypatch: pytest.MonkeyPatch
):
    """`train --config FILE`: there are no weights to compare with."""
    system1 = replace(small_config.system1, hidden=2**16, depth=256, num_heads=4)
    large = replace(small_config, system1=system1, system2=None)
    with pytest.raises(
        ValueError, match=r"asks for [\d,]+ GiB of weights, the machine has \d+ GiB; choose smaller widths"
    ):
        make_policy(large, small_statistics)
    with pytest.raises(ValueError, match="GiB of weights"):
        check_memory(lambda: make_backbone(BackboneConfig(hidden=2**16, depth=256)))


PUBLISHED = {
    "transformer": ["num_layers", "ffn_dim", "rope_max_seq_len", "num_attention_heads"],
    "vae": ["base_dim", "z_dim"],
}


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in PUBLISHED.items() for name in names])
@pytest.mark.parametrize("value", [10**6, 10**9, 1e10])
def test_a_published_folders_config_is_bounded(part: str, name: str, value: float, tmp_path: Path):
    from published_models import write_wan21

    source = write_wan21(tmp_path / "wan21")
    path = source / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    config = PretrainedBackboneConfig("wan21", str(source), (1,), dtype="float32", text_cache=str(tmp_path / "text"))
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"(too large|does not fit|can be built|not of the family)"):
        make_backbone(config)
    assert time.monotonic() - started < 5
