"""`python -m lab.engine preview|up|destroy|outputs --stack NAME`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    """Run a command; 0 if all went well, 1 if something failed, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m lab.engine", description=__doc__)
    parser.add_argument("command", choices=["preview", "up", "destroy", "outputs"])
    parser.add_argument("--stack", required=True)
    parser.add_argument("--config-file", type=Path, help="the stack's configuration; default Pulumi.<stack>.yaml")
    parser.add_argument("--json", action="store_true", help="one JSON document, as `pulumi preview --json` prints it")
    parser.add_argument("--diff", action="store_true", help="show whole values and the lines around a change")
    parser.add_argument("--show-secrets", action="store_true", help="outputs in plain text")
    options = parser.parse_args()

    from lab.engine.process import ProgramProcess

    program = ProgramProcess() if options.command in ("preview", "up") else None
    from lab.engine.config import ConfigError
    from lab.engine.display import Display
    from lab.engine.engine import Engine
    from lab.engine.state import LockedError

    engine = Engine(
        Path.cwd(), options.stack, stack_file=options.config_file, launch=lambda: program or ProgramProcess()
    )
    try:
        if options.command == "outputs":
            print(json.dumps(engine.outputs(show_secrets=options.show_secrets), indent=2, sort_keys=True))
            return 0
        display = Display(as_json=options.json, more=options.diff)
        display.live = options.command != "preview" and not options.json
        return 0 if getattr(engine, options.command)(display) else 1
    except (ConfigError, LockedError) as error:
        print(f"error: {error}", file=sys.stderr)
        if program is not None:
            program.stop()
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
