"""Runs the user's program in a process of its own, as the SDK's `pulumi-language-python-exec` does.

It is started ahead of its settings, since importing the SDK takes most of a run that changes nothing. They come as
JSON on standard input: configuration may hold secrets.
"""

import asyncio
import ctypes
import json
import logging
import os
import runpy
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
from pulumi.runtime import Settings, configure, set_all_config
from pulumi.runtime.stack import run_in_stack

SHOWN = 32
"""The exit code that tells that the user has seen what went wrong."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def run(program: str, settings: dict[str, Any], config: dict[str, str], secret_keys: list[str]) -> int:
    """Run a program to its end and return its exit code."""
    set_all_config(config, secret_keys)
    configure(Settings(**settings))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # futures that a failed program leaves behind
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(4 * max(settings["parallel"], 1)))

    def start() -> None:
        runpy.run_path(program, run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(start))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except Exception as error:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{_trace(error)}")
        return SHOWN
    return 0


def _trace(error: Exception) -> str:
    """Return the traceback from the program's own first frame on."""
    frame = error.__traceback__
    while frame is not None and "runpy" not in frame.tb_frame.f_code.co_filename:
        frame = frame.tb_next
    while frame is not None and "runpy" in frame.tb_frame.f_code.co_filename:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a program without its engine may wait for ever
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # one that is not needed ends without a word
    given = json.loads(sys.stdin.read())
    sys.path.pop(0)  # this file's folder
    os.chdir(given.pop("pwd"))
    sys.argv = [given["program"], *given.pop("args")]
    try:
        code = run(**given)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that wait for nothing would hold the process
