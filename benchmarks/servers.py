"""Who is asked: nginx with canned files where it is installed, else aiohttp with the same files."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NGINX = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))

CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000000;
    open_file_cache max=10000;
    default_type application/json;
    {temporary}
    server {{
        listen 127.0.0.1:{port};
        root files;
        location / {{ try_files $uri$args.json =404; }}
        location ~ "/[0-9]*([0-9])/user_answers/$" {{ try_files /answers/$1.json =404; }}
    }}
}}
"""
_UNUSED = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
TEMPORARY = "\n    ".join(f"{name}_temp_path {name};" for name in _UNUSED)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def description() -> str:
    """Which server answers."""
    if NGINX is None:
        return "aiohttp in a process of its own (nginx is not installed: apt-get install nginx-light)"
    told = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    return told.rpartition(" ")[2].strip().replace("/", " ") + ", one process, canned files"


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[None]:
    """Serve `folder/files` on *port*."""
    if NGINX is None:
        command = _aiohttp("files", folder / "files", port)
    else:
        config = folder / "nginx.conf"
        config.write_text(CONFIG.format(port=port, temporary=TEMPORARY))
        command = [NGINX, "-p", f"{folder}", "-c", f"{config}", "-e", "error.log"]
    with running(command, port):
        yield


@contextlib.contextmanager
def answering(kind: str, *arguments: object) -> Iterator[str]:
    """Address of an aiohttp server of *kind*, for what nginx cannot do; see `benchmarks.aiohttp_server`."""
    port = free_port()
    with running(_aiohttp(kind, *arguments, port), port):
        yield f"http://127.0.0.1:{port}"


def _aiohttp(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "benchmarks.aiohttp_server", *map(str, arguments)]


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _wait(process, port)
            yield
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[str], port: int) -> None:
    """Until it answers on *port*."""
    for _ in range(1_000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"the server does not start: {process.stderr.read()[-500:]}")
        time.sleep(0.02)
    raise RuntimeError("the server does not answer")
