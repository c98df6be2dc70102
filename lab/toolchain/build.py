"""Builds the parts that are missing, several at once where they do not need the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Lock

from lab.progress import Progress
from lab.toolchain import debian
from lab.toolchain.cache import Cache, Lane, Part, cache_root
from lab.toolchain.commands import BuildError, Cancelled, Crew, Shell
from lab.toolchain.parts import all_parts
from lab.toolchain.tools import Tools, tools


def ensure(progress: Progress) -> Tools:
    """Make sure that everything the lab runs is there, and return where.

    Installs missing Debian packages (saying which), then builds missing parts into the tool cache. With nothing
    missing it changes nothing and takes a moment.

    Raises:
        BuildError: A part could not be built; the text names the part, the log, and what to do.
    """
    parts = all_parts()
    cache = Cache(cache_root())
    cache.logs.mkdir(parents=True, exist_ok=True)
    debian.install_missing(progress, Shell(cache.logs / "install.log", Crew(), debian.REMEDY))
    build_missing(parts.in_order(), cache, progress)
    return tools(cache, parts)


def build_missing(parts: Sequence[Part], cache: Cache, progress: Progress) -> None:
    """Build the parts that the cache does not hold.

    Args:
        parts: In order: each after those that it needs.
        cache: Where they are kept.
        progress: Shows each build.

    Raises:
        BuildError: A part could not be built. Builds that ran beside it were ended.
    """
    missing = [part for part in parts if not cache.has(part)]
    if not missing:
        return
    crew = Crew()
    lanes = {lane: Lock() for lane in Lane}
    futures: dict[Part, Future[None]] = {}

    def build(part: Part) -> None:
        for need in part.needs:
            if need in futures:
                futures[need].result()
        with lanes[part.lane]:
            if crew.cancelled:
                raise Cancelled("cancelled")
            with progress.step(part.title):
                cache.make(part, crew)

    # A thread for each part: those that wait for others hold no lane, so none waits for ever.
    with ThreadPoolExecutor(max_workers=len(missing)) as pool:
        for part in missing:
            futures[part] = pool.submit(build, part)
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        except BaseException:
            crew.cancel()
            raise
        failures = [(part, future) for part, future in futures.items() if future.done() and future.exception()]
        if failures:
            crew.cancel()
    for part, future in futures.items():
        failure = future.exception()
        if failure is not None and not isinstance(failure, Cancelled):
            raise BuildError(f"{part.title}: {failure}") from failure
