"""A page in headless Chromium, over its DevTools pipe: sizes, console, requests."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE_SECONDS = 60.0
LOG_EVENTS = {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}


def find_chromium():
    """Its path; None where there is none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One tab. Messages are JSON texts that end in a zero byte."""

    def __init__(self, to_browser, from_browser):
        self._to, self._from = to_browser, from_browser
        self._number, self._session, self._rest = 0, None, b""
        self.events = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{part}.enable")

    def ask(self, method, **parameters):
        """The answer to a command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def look(self, page, width, scheme="light"):
        """Open a page in a window of some width.

        Returns:
            What the page told the console, the addresses that it asked for, how wide its content
            is, and the names of elements that stick out.
        """
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.ask("Emulation.setEmulatedMedia", features=[feature])
        self.events.clear()
        self.ask("Page.navigate", url=Path(page).as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())
        told = [event for event in self.events if event.get("method") in LOG_EVENTS]
        asked = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return told, asked, self.evaluate("document.documentElement.scrollWidth"), self._outside()

    def evaluate(self, expression):
        """Value of a JavaScript expression."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def _outside(self):
        """Elements that reach over the window's edge and lie in nothing that scrolls."""
        return self.evaluate(
            """[...document.querySelectorAll("body *")].filter(one => {
              const edge = document.documentElement.clientWidth + 1;
              const inside = one.parentElement.closest(".scroll, .config, .scores");
              const scrolls = inside && getComputedStyle(inside).overflowX === "auto";
              return one.getBoundingClientRect().right > edge && !scrolls;
            }).map(one => one.tagName + " " + one.textContent.trim().slice(0, 40))"""
        )

    def _read(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._rest:
            left = max(deadline - time.monotonic(), 0.0)
            assert select.select([self._from], [], [], left)[0], "Chromium does not answer"
            more = os.read(self._from, 1 << 16)
            assert more, "Chromium has ended"
            self._rest += more
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)


@contextmanager
def open_browser(program):
    """A browser that ends with the block; its profile is a temporary folder."""
    commands, answers = os.pipe(), os.pipe()
    script = f'exec "$0" "$@" 3<&{commands[0]} 4>&{answers[1]}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"]
        process = subprocess.Popen(
            ["bash", "-c", script, program, *options, "about:blank"],
            pass_fds=(commands[0], answers[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands[0])
        os.close(answers[1])
        try:
            yield Browser(commands[1], answers[0])
        finally:
            process.kill()
            process.wait()
            os.close(commands[1])
            os.close(answers[0])
