"""Runs the user's program in a process of its own, as the SDK's `pulumi-language-python-exec` does.

It is started ahead of its settings, since importing the SDK takes most of a run that changes nothing. They come as
JSON on standard input: configuration may hold secrets.
"""

import asyncio
import json
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
from pulumi.runtime import Settings, configure, set_all_config
from pulumi.runtime.stack import run_in_stack


def run(folder: str, argv: list[str], settings: dict[str, Any], config: dict[str, str], secret_keys: list[str]) -> int:
    """Run a program to its end and return its exit code."""
    os.chdir(folder)
    sys.argv = argv
    set_all_config(config, secret_keys)
    configure(Settings(**settings))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # futures that a failed program leaves behind
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(4 * max(settings["parallel"], 1)))

    def start() -> None:
        runpy.run_path(argv[0], run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(start))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{_trace(error)}")
        return 32  # the user has seen what went wrong
    return 0


def _trace(error: Exception) -> str:
    """Return the traceback from the program's own first frame on."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = max((index for index, frame in enumerate(frames) if "runpy" in frame.filename), default=-1)
    return "".join(traceback.format_exception(error, limit=ours + 1 - len(frames)))


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder
    code = run(**json.load(sys.stdin))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that wait for nothing would hold the process
