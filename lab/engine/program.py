"""Runs the user's program, as a process of its own, against an engine; needs the SDK and nothing of this project.

Settings come as JSON on standard input, not in arguments, since configuration may hold secrets.
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
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import Settings, configure, set_all_config
from pulumi.runtime.stack import run_in_stack

THREADS = 1000
"""Calls to the engine under way at once."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def run(settings: dict[str, Any]) -> int:
    """Run a program to its end.

    Args:
        settings: directory (of the project), main (the file), project, stack, address, preview, config, secret_keys.

    Returns:
        The exit code; what went wrong has been told to the engine.
    """
    folder = str(Path(settings["main"]).parent)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.argv = [settings["main"]]
    set_all_config(settings["config"], settings["secret_keys"])
    configure(
        Settings(
            project=settings["project"],
            stack=settings["stack"],
            monitor=settings["address"],
            engine=settings["address"],
            dry_run=settings["preview"],
            organization="organization",
            root_directory=settings["directory"],
        )
    )
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # futures that a failed program leaves behind
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(ThreadPoolExecutor(THREADS))

    def main() -> None:
        runpy.run_path(settings["main"], run_name="__main__")

    try:
        loop.run_until_complete(run_in_stack(main))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return 1
    except SystemExit as error:
        pulumi.log.error(f"the program ended itself: exit code {error.code}")
        return 1
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _of_user(frame.filename, settings)]
        trace = "".join(traceback.format_list(frames))
        pulumi.log.error(f"the program failed: {type(error).__name__}: {error}\n{trace}".rstrip())
        return 1
    return 0


def _of_user(filename: str, settings: dict[str, Any]) -> bool:
    return filename.startswith(settings["directory"]) and "site-packages" not in filename


def end_with_engine() -> None:
    """A program whose engine was killed may wait for an answer for ever: the kernel ends it with its parent."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    end_with_engine()
    sys.path.pop(0)  # this file's folder
    code = run(json.load(sys.stdin))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that wait for nothing would hold the process
