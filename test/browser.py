"""A headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver)."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request

import pytest

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
)
_ARGUMENTS = ["--headless=new", "--no-sandbox", "--window-size=1400,1000", "--mute-audio"]
_ARGUMENTS += ["--disable-dev-shm-usage", "--disable-gpu", "--force-prefers-reduced-motion"]


class Browser:
    """One window."""

    def __init__(self, url):
        options = {"binary": shutil.which("chromium"), "args": _ARGUMENTS}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
        self._url = f"{url}/session"
        self._url += f"/{self._post('', {'capabilities': wanted})['sessionId']}"

    def open(self, path):
        """Load a file."""
        self._post("/url", {"url": path.absolute().as_uri()})

    def run(self, script, *arguments):
        """What the body of a function in JavaScript returns."""
        return self._post("/execute/sync", {"script": script, "args": arguments})

    def wait(self, script, seconds=60):
        """`run` it until it returns something true, and return that."""
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.1)
        return value

    def press(self, *keys):
        """Press keys one after the other, as on a keyboard; what is pressed has the focus."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def screenshot(self, path):
        """Write what is seen as PNG."""
        with urllib.request.urlopen(f"{self._url}/screenshot", timeout=60) as answer:
            path.write_bytes(base64.b64decode(json.load(answer)["value"]))

    def close(self):
        """End it."""
        urllib.request.urlopen(urllib.request.Request(self._url, method="DELETE"), timeout=60)

    def _post(self, path, value):
        data = json.dumps(value).encode()
        request = urllib.request.Request(self._url + path, data)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextlib.contextmanager
def browser():
    """Yield a `Browser`; it and its driver end with the block."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        words = next(line for line in driver.stdout if "successfully on port" in line)
        window = Browser(f"http://127.0.0.1:{words.rstrip('.\n').split()[-1]}")
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait()
        driver.stdout.close()
