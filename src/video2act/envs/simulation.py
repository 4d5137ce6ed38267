"""What the MuJoCo environments share: a late import of the simulator, and pictures of its scene.

Shadows, reflections and multisampling are off: they slow a software renderer down ten times. EGL and OSMesa differ in a
few pixels, so demonstrations and evaluation should run under the same `MUJOCO_GL`.
"""

import atexit
import importlib
import os
import re
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from video2act.config.checks import Pixels, problem_of, shown
from video2act.envs.choices import check_choice
from video2act.envs.episode_clock import EpisodeClock
from video2act.envs.visual_shift import VisualShift
from video2act.extras import extra
from video2act.interfaces import EnvironmentSpec
from video2act.types import Observation


class RendererError(RuntimeError):
    """MuJoCo cannot render on this machine as `MUJOCO_GL` says."""


def _no_renderer(error: Exception) -> RendererError:
    return RendererError(
        f"MuJoCo cannot render with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')} ({type(error).__name__}: {error}); "
        "install the library (EGL: apt install libegl1 libgl1; software: libosmesa6) and set MUJOCO_GL to egl, or "
        "osmesa, or to glfw where there is a display"
    )


def renderer() -> str | None:
    """The renderer that MuJoCo uses, or would: `MUJOCO_GL`. None: MuJoCo's own choice."""
    # mujoco chooses at import; its own default needs a display, EGL does not
    return os.environ.get("MUJOCO_GL", "egl" if sys.platform == "linux" else None)


def import_simulator(module: str) -> Any:
    """Import a module of the `sim` extra.

    Raises:
        ImportError: it is not installed; says how to install it.
        RendererError: `MUJOCO_GL` names no renderer, or one whose library is missing.
    """
    if (chosen := renderer()) is not None:
        os.environ.setdefault("MUJOCO_GL", chosen)
    try:
        with extra("sim", "this environment"):
            return importlib.import_module(module)
    except (RuntimeError, AttributeError, OSError) as error:
        raise _no_renderer(error) from error
    except ImportError as error:
        if re.search("EGL|OpenGL|OSMesa|glfw", str(error), re.IGNORECASE):
            raise _no_renderer(error.__cause__ or error) from error  # type: ignore[arg-type]
        raise


class SimulatedTask:
    """Cameras, clock and observations of a MuJoCo environment."""

    def __init__(self, spec: EnvironmentSpec, model: Any, **views: Any) -> None:
        """`views`: `upside_down`, `mirrored` and `hidden_group` of `Cameras`."""
        self.spec = spec
        size = next(iter(spec.frame_sizes.values()), (1, 1))  # all cameras of a simulator have one
        self._cameras = Cameras(model, spec.cameras, frame_size=size, **views)
        self._episode = EpisodeClock(spec)
        self.visual_shift: str | None = None
        """pictures look otherwise from the next reset on"""
        self._seed = 0

    def _begin(self, seed: int) -> None:
        """Begin the episode of a scene, before its first picture."""
        self._seed = seed
        self._episode.begin()

    def close(self) -> None:
        self._cameras.close()

    def _observation(self, data: Any, state: np.ndarray) -> Observation:
        time_s, name = self._episode.time, self.visual_shift
        images = self._cameras.capture(data, VisualShift(name, self._seed, time_s) if name else None)
        return Observation(images, state.astype(np.float32), self.spec.instruction, time_s)


_NEVER_SHOWN = 5
"""MuJoCo shows the geoms of groups 0 to 2"""


class Cameras:
    """Named cameras of one MuJoCo model.

    The renderer, which holds a GL context, exists from the first picture until `close`.
    """

    def __init__(
        self,
        model: Any,
        names: tuple[str, ...],
        *,
        frame_size: tuple[int, int],
        upside_down: frozenset[str] = frozenset(),
        mirrored: Mapping[str, str] = MappingProxyType({}),
        hidden_group: int | None = None,
    ) -> None:
        """
        Args:
            upside_down: cameras that are mounted upside down; their pictures are turned by 180 degrees.
            mirrored: further names, of cameras of the model whose pictures are mirrored left-right.
            hidden_group: geoms of this group are not shown.
        """
        available = [*mirrored, *(model.camera(index).name for index in range(model.ncam))]
        for name in names:
            check_choice("camera", name, choices=available)
        if len(set(names)) < len(names):
            raise ValueError(f"cameras must differ, got {', '.join(names)}")
        if problem := problem_of(tuple[Pixels, Pixels], frame_size):
            raise ValueError(f"image_size {problem}, got {shown(frame_size)}")
        model.vis.quality.offsamples = 0
        model.vis.global_.offheight, model.vis.global_.offwidth = frame_size
        self._model, self._names, self._frame_size = model, names, frame_size
        self._upside_down, self._mirrored, self._hidden_group = upside_down, mirrored, hidden_group
        self._renderer: Any = None
        # where nobody closes: before the hook that MuJoCo has registered with its first context ends EGL
        self._end = partial(_close, weakref.ref(self))

    def capture(self, data: Any, shift: VisualShift | None = None) -> dict[str, UInt8[np.ndarray, "_h _w 3"]]:
        """One upright RGB picture per camera of the scene in `data`."""
        if not self._names:
            return {}
        with nullcontext() if shift is None else shift.shown(self._model, data):
            return self._capture(data, shift)

    def _capture(self, data: Any, shift: VisualShift | None) -> dict[str, UInt8[np.ndarray, "_h _w 3"]]:
        if self._renderer is None:
            self._renderer = self._make_renderer()
            atexit.register(self._end)
        images = {}
        for name in self._names:
            with self._only_in_view(data, self._mirrored.get(name, name)) as camera:
                self._renderer.update_scene(data, camera)
            image = self._renderer.render()
            if name in self._upside_down:
                image = np.ascontiguousarray(image[::-1, ::-1])
            image = np.ascontiguousarray(image[:, ::-1]) if name in self._mirrored else image
            images[name] = image if shift is None else shift.finish(image, name)
        return images

    def close(self) -> None:
        if self._renderer is not None:
            atexit.unregister(self._end)
            self._renderer.close()
            self._renderer = None

    @contextmanager
    def _only_in_view(self, data: Any, camera: str) -> Iterator[str]:
        """Hide what the camera cannot see: MuJoCo would draw it, too. A geom is out of view if its bounding sphere lies
        outside one side of the view; a radius of 0 is a plane, which has no bounds."""
        model, number = self._model, self._model.camera(camera).id
        right, up, back = ((data.geom_xpos - data.cam_xpos[number]) @ data.cam_xmat[number].reshape(3, 3)).T
        radius, (height, width) = model.geom_rbound, self._frame_size
        along = np.radians(model.cam_fovy[number]) / 2  # half the angle of view, from top to bottom
        across = np.arctan(np.tan(along) * width / height)
        beyond_sides = np.abs(right) * np.cos(across) + back * np.sin(across)
        beyond_ends = np.abs(up) * np.cos(along) + back * np.sin(along)
        is_seen = (np.maximum(np.maximum(beyond_sides, beyond_ends), back) <= radius) | (radius == 0)
        groups = model.geom_group.copy()
        model.geom_group[~is_seen | (groups == self._hidden_group)] = _NEVER_SHOWN
        try:
            yield camera
        finally:
            model.geom_group[:] = groups

    def _make_renderer(self) -> Any:
        mujoco = import_simulator("mujoco")
        hook, failure = sys.unraisablehook, None
        sys.unraisablehook = lambda _: None  # a half-made context fails again when it is freed
        try:
            renderer = mujoco.Renderer(self._model, *self._frame_size)
        except (RuntimeError, ImportError, AttributeError, OSError, mujoco.FatalError) as error:
            failure = _no_renderer(error)
        finally:
            sys.unraisablehook = hook
        if failure is not None:
            raise failure
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        return renderer


def _close(cameras: "weakref.ref[Cameras]") -> None:
    if (still := cameras()) is not None:
        still.close()
