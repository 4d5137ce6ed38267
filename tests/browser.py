"""A real browser without a window, driven through pipes by Chromium's own protocol: no package is needed."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOUND = next((path for name in NAMES if (path := shutil.which(name))), None)

PLAY = """
(async () => {
  const films = [...document.querySelectorAll('video')], played = [];
  for (const film of films) {
    try {
      await Promise.race([film.play(), new Promise((_, no) => setTimeout(() => no(new Error('timeout')), 8000))]);
      const begin = Date.now();
      while (film.currentTime === 0 && Date.now() - begin < 4000) await new Promise(done => setTimeout(done, 20));
      film.pause();
      played.push({error: null, time: film.currentTime, seconds: film.duration, width: film.videoWidth});
    } catch (error) { played.push({error: String(error), time: 0, seconds: 0, width: 0}); }
  }
  return played;
})()
"""
SMALLEST_TEXT = """
Math.min(...[...document.querySelectorAll('svg text, p, td, figcaption')].filter(e => e.textContent.trim()).map(e => {
  const svg = e.ownerSVGElement;
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  return parseFloat(getComputedStyle(e).fontSize) * scale;
}))
"""


class Browser:
    """One page in a headless Chromium."""

    def __init__(self, profile: Path):
        assert FOUND is not None
        to_browser, own_out = os.pipe()
        own_in, from_browser = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--autoplay-policy=no-user-gesture-required", "--remote-debugging-pipe", f"--user-data-dir={profile}"]

        def as_three_and_four() -> None:
            # both are moved out of the way first: one of them may be 3 or 4 itself
            high = (os.dup2(to_browser, 63), os.dup2(from_browser, 64))
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [FOUND, *flags, "about:blank"],
            preexec_fn=as_three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._out, self._in = own_out, own_in
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.events: list[dict[str, Any]] = []
        page = next(each for each in self.ask("Target.getTargets")["targetInfos"] if each["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._in, 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, *, width: int = 1200, is_dark: bool = False) -> None:
        self.events.clear()
        features = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=features)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        self.ask("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + 20
        while self.evaluate("document.readyState") != "complete":
            assert time.monotonic() < deadline, f"{path} did not load"
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        result = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and addresses that were asked for besides the page's own."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            is_spoken = method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning")
            if is_spoken or method in ("Log.entryAdded", "Runtime.exceptionThrown"):
                found.append(json.dumps(params)[:300])
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:")):
                    found.append(f"it asked for {url[:100]}")
        return found

    def screenshot(self, path: Path) -> None:
        taken = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=self._whole())
        path.write_bytes(base64.b64decode(taken["data"]))

    def _whole(self) -> dict[str, float]:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}

    def close(self) -> None:
        with suppress(AssertionError, OSError):
            self._session = ""
            self.ask("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._out)
        os.close(self._in)
