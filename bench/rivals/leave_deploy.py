"""pyinfra: a VM leaves the mesh."""

from pathlib import Path

from pyinfra.operations import server

server.script(name="everything", src=str(Path(__file__).with_name("off_vm.sh")))
