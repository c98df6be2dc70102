"""Builds the toolchain by hand, or tidies its cache: `python -m lab.toolchain [--prune]`."""

from __future__ import annotations

import argparse
import dataclasses
import sys

from lab.progress import Progress
from lab.toolchain.build import ensure
from lab.toolchain.cache import Cache, cache_root
from lab.toolchain.commands import BuildError
from lab.toolchain.parts import all_parts


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lab.toolchain", description=__doc__)
    parser.add_argument("--prune", action="store_true", help="remove cached parts that this checkout does not use")
    options = parser.parse_args(arguments)
    try:
        if options.prune:
            for name in Cache(cache_root()).prune(all_parts().in_order()):
                print(f"removed {name}")
        else:
            for name, value in dataclasses.asdict(ensure(Progress())).items():
                print(f"{name}: {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
