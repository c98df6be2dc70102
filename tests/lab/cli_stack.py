"""The dev stack as a user of the Pulumi CLI runs it."""

from __future__ import annotations

from dataclasses import dataclass

from stack import Stack

from lab.engines import PulumiCli


@dataclass
class CliStack(Stack):
    """The dev stack on the CLI, in the backend that `make up` with ENGINE=pulumi uses."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.engine = PulumiCli("dev", self.environment)
        self.environment = self.engine.variables()

    def argv(self, verb: str, *flags: str) -> list[str]:
        return self.engine.argv(verb, *flags)

    def write(self) -> None:
        super().write()
        self.engine.prepare(self.file)

    def destroy(self) -> None:
        done = self.run("destroy")
        assert done.returncode == 0, done.stdout + done.stderr
