"""A browser for tests: chromedriver spoken to over plain HTTP (W3C WebDriver), no client library."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
MISSING = "" if DRIVER and BROWSER else f"needs {'chromium' if DRIVER else 'chromedriver'}, which is not installed"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """Headless chromium with every request logged; use as a context manager."""

    def __init__(self, width: int = 1400, height: int = 1600, *, dark: bool = False, downloads: Path | None = None) -> None:
        self._profile = tempfile.mkdtemp()
        self._driver = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._driver.stdout is not None
        line = next(line for line in self._driver.stdout if "started successfully on port" in line)
        self._base = f"http://127.0.0.1:{line.rstrip().rstrip('.').rpartition(' ')[2]}"
        flags = [*FLAGS, f"--window-size={width},{height}", f"--user-data-dir={self._profile}"]
        flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
        options: dict[str, Any] = {"binary": BROWSER, "args": flags}
        if downloads is not None:
            several = {"profile.default_content_setting_values.automatic_downloads": 1}
            options["prefs"] = {"download.default_directory": str(downloads), "download.prompt_for_download": False, **several}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        self._session = "/session/" + self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(10)
            shutil.rmtree(self._profile, ignore_errors=True)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=400) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def open(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that `script` (the body of a function) returns in the page."""
        return self._ask("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script: str, seconds: float = 30) -> None:
        """Wait until the expression `script` is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({script})"):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; console: {self.console()}")
            time.sleep(0.1)

    def console(self) -> list[str]:
        """Messages since the last call, refusals of the Content-Security-Policy among them."""
        return [entry["message"] for entry in self._ask("POST", f"{self._session}/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        entries = self._ask("POST", f"{self._session}/se/log", {"type": "performance"})
        events = [json.loads(entry["message"])["message"] for entry in entries]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def tool(self, command: str, **settings: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._ask("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": settings})

    def busy_seconds(self, url: str) -> float:
        """Processor time that the page's main thread takes to open `url` and to draw its first chart; what else
        runs on the machine does not count."""
        self.open("about:blank")
        self.tool("Performance.enable", timeDomain="threadTicks")
        self.open(url)
        self.wait_for("document.documentElement.dataset.ready && document.readyState === 'complete'")
        self.run("document.querySelector('.plot[data-height]').scrollIntoView()")
        self.wait_for("document.querySelector('.plot[data-drawn]')")
        found = {metric["name"]: metric["value"] for metric in self.tool("Performance.getMetrics")["metrics"]}
        self.tool("Performance.disable")
        return float(found["TaskDuration"])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self._session}/screenshot")))


def print_page(url: str, path: Path) -> None:
    """Print a page as PDF."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = [*FLAGS, f"--user-data-dir={profile}", "--virtual-time-budget=10000", f"--print-to-pdf={path}"]
        subprocess.run([str(BROWSER), *flags, url], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=400)
