"""A page of gradio for the browsers of this machine: served without asking the network for
anything, with a folder of its own for the photographs that browsers send.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tool.errors import InputError
from tool.file.atomic import hold

LOOPBACK = ("127.0.0.1", "localhost", "::1")
UPLOADS = "try_the_model_"  # how the folders of photographs that browsers send begin
LOCK = ".lock"
YOUNG = 60  # seconds in which such a folder may be without its lock
# Whatever a name or a library smuggles in, the page loads nothing from elsewhere.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
    "frame-ancestors 'self'"
)
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}


def import_gradio() -> ModuleType:
    """gradio, told to ask nothing of the network. Raises InputError where it is not installed."""
    os.environ.update(OFFLINE)
    try:
        import gradio
    except ImportError as error:
        raise InputError(
            f"this page needs gradio ({error}); run pip install -r requirements-app.txt"
        ) from error
    return gradio


def web_app(gr: ModuleType, blocks: Any, style: str, host: str) -> Any:
    """A page of gradio, its blocks and CSS, as an application that any browser of this machine may
    ask, and that has a browser load nothing from elsewhere.
    """
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    if host in LOOPBACK:  # else a page elsewhere could name this machine as its own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK, "[::1]"])
    fonts = ["system-ui", "sans-serif"]
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size="256mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        show_error=True,
        css=style,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
    )

    async def guarded(scope: dict, receive: Any, send: Any) -> None:
        async def with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await app(scope, receive, with_policy)

    return guarded


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises InputError where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; give another --port "
            "(0: any) or --host"
        ) from error


@contextlib.contextmanager
def upload_folder() -> Iterator[str]:
    """A temporary folder for the photographs that browsers send. It goes at the end, and those that
    killed processes of this user have left go now.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{UPLOADS}*"):
        with contextlib.suppress(OSError):  # BlockingIOError: it is in use
            found = left.lstat()
            if found.st_uid == os.getuid() and time.time() - found.st_mtime > YOUNG:
                with hold(left / LOCK):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=UPLOADS) as folder, hold(Path(folder) / LOCK):
        yield folder


def exit_at_signals() -> None:
    """Have SIGTERM end this process as Ctrl-C does, after it has cleared up, and SIGHUP do what
    SIGTERM does. The web server takes SIGTERM while it serves, and sends it to itself afterwards.
    """
    answers = {
        signal.SIGTERM: lambda number, _: sys.exit(128 + number),
        signal.SIGHUP: lambda *_: signal.raise_signal(signal.SIGTERM),
    }
    for number, answer in answers.items():
        if signal.getsignal(number) is signal.SIG_DFL:  # else nohup, say, wants it ignored
            signal.signal(number, answer)
