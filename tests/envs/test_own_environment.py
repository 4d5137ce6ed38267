"""An environment of your own by name: `module:function`, or a Gymnasium id."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from video2act.envs import has_expert, make_environment
from video2act.evaluation.episodes import Instructed
from video2act.interfaces import RealTimeEnvironment

MODULE = """
import numpy as np
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation, Step

class Reach:
    def __init__(self, cameras):
        self.spec = EnvironmentSpec("reach", "arm", "reach", cameras, (24, 32), ("x",), ("dx",), 10.0, 5)
    def reset(self, seed):
        images = {c: np.zeros((24, 32, 3), np.uint8) for c in self.spec.cameras}
        return Observation(images, np.zeros(1, np.float32), "reach", 0.0)
    def step(self, action):
        return Step(self.reset(0), True, True)
    def close(self):
        pass

def make(cameras=None):
    return Reach(("top", "wrist") if cameras is None else cameras)

def fixed():
    return Reach(("top",))

def wrong():
    return 3
"""

NUMPY_STEP = """
def numpy_step(observation, done, success):
    step = Step(observation, done, success)
    object.__setattr__(step, "done", np.bool_(True))  # the tests' hook would refuse it, a user has no hook
    object.__setattr__(step, "success", np.bool_(False))
    return step
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_reach.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_function_in_the_working_directory(here: Path):
    assert make_environment("my_reach:make").spec.cameras == ("top", "wrist")
    assert make_environment("my_reach:make", ("top",)).spec.cameras == ("top",)
    assert make_environment("my_reach:fixed", ("wrist",)).spec.cameras == ("top",)
    assert make_environment("my_reach:fixed").spec.frame_sizes == {"top": (24, 32)}
    assert not has_expert("my_reach:make")


def test_it_goes_by_the_name_it_was_asked_for(here: Path):
    """`run --record` wrote down the seeds of "reach", and `eval` looked for those of "my_reach:fixed": scenes of the
    training passed for new ones."""
    assert make_environment("my_reach:fixed").spec.name == "my_reach:fixed"


def test_a_step_of_gymnasiums_form_is_named(here: Path):
    """It was an AttributeError of a tuple."""
    (here / "my_tuple.py").write_text(
        MODULE.replace("return Step(self.reset(0), True, True)", "return 1, 0.0, True, False, {}")
    )
    environment = make_environment("my_tuple:fixed")
    environment.reset(0)
    with pytest.raises(ValueError, match=r"my_tuple:fixed: step must return Step\(.*\), it gives a tuple"):
        environment.step(np.zeros(1, np.float32))


def test_a_reset_of_gymnasiums_form_is_named(here: Path):
    """It was an AttributeError of a tuple, and a traceback on the command line, as was a step's."""
    returned = 'return Observation(images, np.zeros(1, np.float32), "reach", 0.0)'
    (here / "my_reset.py").write_text(MODULE.replace(returned, f"{returned}, {{}}"))
    with pytest.raises(ValueError, match="my_reset:fixed: reset must return an Observation, it gives a tuple, as Gym"):
        make_environment("my_reset:fixed").reset(0)


def test_booleans_of_numpy_are_booleans(here: Path):
    """An evaluation played the episode and then could not write it down."""
    (here / "my_numpy.py").write_text(MODULE.replace("return Step(", "return numpy_step("))
    with (here / "my_numpy.py").open("a") as module:
        module.write(NUMPY_STEP)
    environment = make_environment("my_numpy:fixed")
    environment.reset(0)
    step = environment.step(np.zeros(1, np.float32))
    assert (step.done, step.success) == (True, False)
    assert type(step.done) is type(step.success) is bool


def test_its_time_limit_holds_although_it_never_says_that_an_episode_is_over(here: Path):
    """An evaluation of such an environment never ended."""
    (here / "my_endless.py").write_text(MODULE.replace("True, True", "False, False"))
    environment = make_environment("my_endless:fixed")
    for _ in range(2):
        environment.reset(0)
        assert [environment.step(np.zeros(1)).done for _ in range(5)] == [False] * 4 + [True]


def test_cameras_may_differ_in_size_and_pictures_are_compared_with_the_spec(here: Path):
    """`run --record` lost an episode after it: the second camera's pictures had another size than the first's."""
    sizes = '{"top": (24, 32), "wrist": (16, 16)}'
    module = MODULE.replace("(24, 32), (", f"{sizes}, (")
    (here / "my_two.py").write_text(module)
    (here / "my_true.py").write_text(module.replace("zeros((24, 32, 3)", "zeros((*self.spec.image_size[c], 3)"))
    (here / "my_half.py").write_text(MODULE.replace("(24, 32), (", '{"top": (24, 32)}, ('))
    with pytest.raises(ValueError, match="image_size of its spec has no size of camera wrist; add it"):
        make_environment("my_half:make")
    environment = make_environment("my_true:make")
    assert environment.spec.frame_sizes == {"top": (24, 32), "wrist": (16, 16)}
    assert environment.reset(0).images["wrist"].shape == (16, 16, 3)
    with pytest.raises(ValueError, match="camera 'wrist' gives an image of 32x24, and the spec says 16x16; correct"):
        make_environment("my_two:make").reset(0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_reach:wrong", r"my_reach:wrong returned a int, not an Environment \(spec, reset, step, close\)"),
        ("my_reach:absent", "the module 'my_reach' has no function 'absent'"),
        ("my_reach.py:make", "'my_reach.py' is a path; name a module, as Python imports it: my_reach:make"),
        ("./my_reach.py:make", "'./my_reach.py' is a path; name a module, as Python imports it: my_reach:make"),
        ("arm/my_reach.py:make", "is a path; name a module, as Python imports it in the folder arm: my_reach:make"),
        ("nowhere:make", "there is no module 'nowhere', here or among the installed ones$"),
        ("my_raech:make", r"there is no module 'my_raech', .*; did you mean my_reach:make\?"),
        ("metworld:push-v3", r"there is no module 'metworld', .*; did you mean metaworld:push-v3\?"),
        ("my_reach", "unknown environment 'my_reach'.* One of your own is module:function, such as my_robot:make"),
        ("nothing", "unknown environment 'nothing'"),
        ("metaworld:push-v9", r"Did you mean 'metaworld:push-v\d'"),
    ],
)
def test_what_is_none_is_refused_by_name(here: Path, name: str, message: str):
    with pytest.raises(ValueError, match=message):
        make_environment(name)


class Point(gymnasium.Env):
    """A point with pictures and proprioception under the usual keys."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = Box(-1, 1, (2,), np.float32)
    instruction = "move to the right"

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        success: str = "is_success",
        pixels: bool = True,
        more: int = 0,
        eyes: int = 0,
    ):
        self.render_mode, self._success = render_mode, success
        spaces: dict[str, Any] = {"agent_pos": Box(-9, 9, (2,), np.float32)}
        if pixels:
            spaces["pixels"] = Dict({"top": Box(0, 255, (24, 32, 3), np.uint8)})
        spaces |= {f"eye{i}": Dict({"rgb": Box(0, 255, (24, 32, 3), np.uint8)}) for i in range(eyes)}
        spaces |= {f"v{i}": Box(-9, 9, (2,), np.float32) for i in range(more)}
        self.observation_space = Dict(spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._place = np.zeros(2, np.float32)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> Any:
        self._place = self._place + action
        return self._observe(), 0.0, False, False, {self._success: bool(self._place[0] > 2)}

    def render(self) -> Any:
        return np.zeros((24, 32, 3), np.uint8)

    def _observe(self) -> dict[str, Any]:
        seen = {name: np.zeros(2, np.float32) for name in self.observation_space.spaces}  # type: ignore[attr-defined]
        return seen | {"agent_pos": self._place, "pixels": {"top": np.zeros((24, 32, 3), np.uint8)}}


@pytest.fixture
def registered() -> Iterator[None]:
    kinds: dict[str, dict[str, Any]] = {
        "Point-v0": {},
        "Drawn-v0": {"pixels": False},
        "Unclear-v0": {"success": "goal"},
        "Many-v0": {"more": 2},
        "Eyes-v0": {"eyes": 2},
    }
    for name, options in kinds.items():
        point: Any = Point
        gymnasium.register(f"own/{name}", point, max_episode_steps=20, kwargs=options, disable_env_checker=True)
    yield
    for name in kinds:
        del gymnasium.registry[f"own/{name}"]


@pytest.mark.usefixtures("registered")
class TestGymnasiumId:
    def test_keys_are_found_by_their_types(self):
        environment = make_environment("own/Point-v0", ("top",))
        spec = environment.spec
        assert (spec.cameras, spec.frame_sizes, spec.fps, spec.max_steps) == (("top",), {"top": (24, 32)}, 10.0, 20)
        assert (len(spec.state_names), len(spec.action_names), spec.instruction) == (2, 2, "move to the right")
        environment.reset(3)
        steps = [environment.step(np.ones(2, np.float32)) for _ in range(3)]
        assert [step.success for step in steps] == [False, False, True]
        assert steps[-1].observation.images["top"].shape == (24, 32, 3)

    def test_a_single_camera_may_be_rendered(self):
        environment = make_environment("own/Drawn-v0", ("front",))
        assert environment.reset(0).images["front"].shape == (24, 32, 3)

    @pytest.mark.parametrize(
        ("name", "cameras", "message"),
        [
            ("Point-v0", ("wrist",), "it has no camera wrist, but top"),
            ("Drawn-v0", ("front", "wrist"), "it has no camera front, wrist"),
            # two cameras became one, and a camera was missing
            ("Eyes-v0", None, "a camera goes by the end of its path, and several end alike: eye0/rgb, eye1/rgb"),
            ("Eyes-v0", ("rgb",), "a camera goes by the end of its path, and several end alike: eye0/rgb, eye1/rgb"),
            ("Unclear-v0", ("top",), "info has neither is_success nor success, but goal"),
        ],
    )
    def test_what_is_not_clear_is_not_guessed(self, name: str, cameras: tuple[str, ...] | None, message: str):
        with pytest.raises(ValueError, match=rf"own/{name}: {message}.*name it as module:function"):
            make_environment(f"own/{name}", cameras)

    def test_cameras_that_are_not_asked_for_may_end_alike(self):
        assert make_environment("own/Eyes-v0", ("top",)).spec.cameras == ("top",)

    def test_the_usual_name_of_the_state_goes_first(self):
        assert make_environment("own/Many-v0", ("top",)).spec.state_names == ("state_0", "state_1")


def test_a_robot_by_name_is_still_observed_by_the_loops(here: Path):
    """What `make_environment` returns offers `observe` where the robot does, and only there."""
    observing = "    def observe(self):\n        return Observation({}, np.ones(1, np.float32), 'now', 3.0)\n"
    (here / "my_live.py").write_text(MODULE.replace("    def close(self)", observing + "    def close(self)"))
    robot = make_environment("my_live:fixed")
    assert isinstance(robot, RealTimeEnvironment)
    assert robot.observe().time == 3.0
    assert not isinstance(make_environment("my_reach:fixed"), RealTimeEnvironment)
    instructed = Instructed(robot, "say nothing")
    assert isinstance(instructed, RealTimeEnvironment)
    assert instructed.observe().instruction == "say nothing"
    assert not isinstance(Instructed(make_environment("my_reach:fixed"), "say nothing"), RealTimeEnvironment)
