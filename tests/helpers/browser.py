"""A headless Chromium to test pages with, driven by its DevTools protocol."""

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """A browser process, and pages in it. Use as a context manager."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None, "no Chromium here"
        self.loop = asyncio.new_event_loop()
        self.session: aiohttp.ClientSession | None = None
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-port=0",
        ]
        size = [
            "--window-size=1400,1300",
            "--force-device-scale-factor=1",
            "--disable-dev-shm-usage",
        ]
        self.process = subprocess.Popen(
            [CHROMIUM, *options, *size, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.port = self._port(profile / "DevToolsActivePort")

    def _port(self, file: Path) -> str:
        for _ in range(600):
            if file.exists() and (lines := file.read_text().splitlines()):
                return lines[0]
            if self.process.poll() is not None:
                raise RuntimeError(f"Chromium ended with {self.process.returncode}")
            time.sleep(0.1)
        raise TimeoutError("Chromium opened no port for DevTools")

    def __enter__(self) -> "Browser":
        self.session = aiohttp.ClientSession(loop=self.loop)
        return self

    def __exit__(self, *error: object) -> None:
        assert self.session is not None
        self.run(self.session.close())
        self.process.terminate()
        self.process.wait(timeout=30)
        self.loop.close()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def page(self, url: str, size: tuple[int, int] | None = None) -> "Page":
        """A new page that shows an address, in a window of the given width and height.

        A width below 500 is a phone, which scrolls what a page lets stand out.
        """

        async def connect() -> aiohttp.ClientWebSocketResponse:
            assert self.session is not None
            async with self.session.put(
                f"http://127.0.0.1:{self.port}/json/new?about:blank"
            ) as answer:
                target = json.loads(await answer.text())
            return await self.session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)

        page = Page(self, self.run(connect()))
        for domain in ("Page", "Runtime", "Log", "DOM"):
            page.command(f"{domain}.enable")
        if size is not None:
            metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
            page.command("Emulation.setDeviceMetricsOverride", **metrics, mobile=size[0] < 500)
        page.command("Page.navigate", url=url)
        page.wait_for("document.readyState == 'complete' && document.body != null")
        return page


class Page:
    """One page. `errors` collects what its console shows as errors, and exceptions nobody
    caught.
    """

    def __init__(self, browser: Browser, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.browser, self.socket = browser, socket
        self.number = 0
        self.errors: list[str] = []

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the protocol and wait for its result."""
        return self.browser.run(self._command(method, parameters))

    async def _command(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self.number += 1
        await self.socket.send_json({"id": self.number, "method": method, "params": parameters})
        while True:
            message = await asyncio.wait_for(self.socket.receive_json(), timeout=60)
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, event: str | None, facts: dict[str, Any]) -> None:
        if event == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(f"{facts['entry']['text']} ({facts['entry'].get('url')})")
        elif event == "Runtime.exceptionThrown":
            self.errors.append(
                json.dumps(facts["exceptionDetails"].get("exception", facts["exceptionDetails"]))
            )
        elif event == "Runtime.consoleAPICalled" and facts["type"] == "error":
            self.errors.append(
                " ".join(str(part.get("value", part.get("description"))) for part in facts["args"])
            )

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression."""
        result = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> Any:
        """The first value of an expression that counts as true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            if time.monotonic() > end:
                raise TimeoutError(
                    f"{expression} did not come true; the page says: {self.text()[-2000:]}"
                )
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """What a reader sees."""
        return self.evaluate("document.body.innerText")

    def point(self, element: str) -> tuple[float, float]:
        """The middle of an element, given as an expression, in view and no longer moving."""
        read = (
            f"(async e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " await new Promise(done => setTimeout(done, 20));"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2] "
            f"}})({element})"
        )
        before, now = None, self.evaluate(read)
        while before != now:
            time.sleep(0.05)
            before, now = now, self.evaluate(read)
        return now[0], now[1]

    def hover(self, element: str) -> None:
        x, y = self.point(element)
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, element: str) -> None:
        x, y = self.point(element)
        for kind in ("mousePressed", "mouseReleased"):
            self.command(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    def type(self, element: str, text: str) -> None:
        """Replace the text of a field."""
        self.click(element)
        self.evaluate(f"{element}.select()")
        if text:
            self.command("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                self.command(
                    "Input.dispatchKeyEvent", type=kind, key="Delete", windowsVirtualKeyCode=46
                )

    def choose_file(self, selector: str, file: Path) -> None:
        """Put a file into a file input, as its dialogue would."""
        root = self.command("DOM.getDocument")["root"]["nodeId"]
        node = self.command("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.command("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def download_into(self, folder: Path) -> None:
        """Where files go that the page offers."""
        self.command("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self, file: Path) -> None:
        data = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)[
            "data"
        ]
        file.write_bytes(base64.b64decode(data))
