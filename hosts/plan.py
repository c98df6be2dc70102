"""The desired state of a host in, the commands that get it there out; nothing here opens a connection.

One POSIX shell program does everything on a VM (`program/`), the same bytes on each. `configure` brings it there
together with the VM's desired state, which is data, and leaves both installed; the other steps are short commands.
"""

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from hosts.sidecar_files import SidecarFiles

_HERE = Path(__file__).parent
_PARTS = (
    "settings", "common", "kind", "checks", "checks_network", "packages", "packages_deb", "packages_rpm", "restore",
    "routes", "configure", "sidecar", "takeback", "confirm", "remove", "observe", "main",
)  # fmt: skip
_HEAD = (
    "#!/bin/sh\n# Brings this VM into a mesh and out of it again. Written by istio-vm-mesh, which overwrites changes.\n"
)
HELPER = "/usr/local/lib/istio-vm-mesh/host"
"""Where the program stays on a VM."""
STATE = "/var/lib/istio-vm-mesh"
"""Folder of what the program knows on a VM; the desired state is `desired` there."""
CONFIRM_SECONDS = 120
"""Twice as long as `confirm` waits for the sidecar."""
_DROP_IN = "/etc/systemd/system/istio.service.d/istio-vm-mesh.conf"
_ROUTES = "/etc/systemd/system/istio-vm-mesh-routes.service"


def _part(name: str) -> str:
    """Return a part of the program, without its comments and blank lines."""
    text = (_HERE / "program" / f"{name}.sh").read_text()
    return "".join(line for line in text.splitlines(keepends=True) if not re.match(r"\s*(# .*)?$", line))


PROGRAM = (_HEAD + "".join(map(_part, _PARTS))).encode()
"""The host's program."""
PROGRAM_DIGEST = hashlib.sha256(PROGRAM).hexdigest()
_COPIED_PROGRAM = f".istio-vm-mesh-{PROGRAM_DIGEST[:16]}"
START_AS_ROOT = (
    'test -n "$2" || exit 0; p=$2; f=$(mktemp /run/istio-vm-mesh.XXXXXX) || exit 1; clean() { rm -f "$f" "$p"; }; '
    "trap clean EXIT; trap 'exit 129' HUP INT TERM; "
    f'for c in "$p" {HELPER}; do timeout 20 cat "$c" >"$f" 2>/dev/null; '
    'if test "$(sha256sum <"$f" | cut -c1-64)" = "$1"; then sh "$f" configure; exit; fi; done; '
    'vm=$(sed -n "s/^vm: //p"); echo \'{"vm":"\'"$vm"\'","code":"incomplete",'
    '"fact":"the program did not reach this VM whole","hint":"run up again"}\' >&2; exit 1'
)
"""What root's shell runs to configure, with the program's SHA-256 and the name of the uploaded copy.

Only root can change the file that it verifies and then runs. Without a name, it shows that it may be run. In sudoers,
blanks count as one and these characters are special: none of `* ? [ ] ! # \\` may stand in it.
"""


@dataclass(frozen=True, kw_only=True)
class Package:
    """The sidecar's package for one architecture and one kind of package manager."""

    url: str | None = None
    """Where the VM downloads it; None: it is a file."""
    file: str | None = None
    """Its path where Pulumi runs; a copy of it is on the VM, under `copied`, when the host is configured."""
    sha256: str
    """64 hex digits; anything else that comes from the URL is refused."""

    @property
    def copied(self) -> str:
        """Name of the copy, in the home folder of the login."""
        return f"istio-vm-mesh-{self.sha256[:16]}.package"


@dataclass(frozen=True, kw_only=True)
class Route:
    """A way from a VM into the cluster's network."""

    to: str
    """IPv4 range, `10.96.0.0/12`."""
    via: str
    """IPv4 address of a neighbour."""


@dataclass(frozen=True, kw_only=True)
class DesiredHost:
    """What a VM is to become."""

    vm: str
    """The VM's name, as it appears in errors."""
    files: SidecarFiles
    configuration: str = ""
    """The same for the same configuration; the VM registers with it."""
    packages: Mapping[str, Package]
    """By package manager and Debian's name of the architecture, as "rpm-arm64". The host picks its own."""
    istiod_host: str
    """The name in istiod's certificate that the VM connects to, such as `istiod.istio-system.svc`."""
    istiod_address: str
    """The IP address behind that name, seen from the VM."""
    istiod_port: int
    address: str
    """The address that the VM registers; it must be on one of its interfaces."""
    clock_port: int | None = None
    """Port at `istiod_address` that leads to istiod's webhooks, whose answers bear its time; None: not compared."""
    istio_version: str = ""
    """istiod's, which the sidecar's must not be newer than."""
    routes: Sequence[Route] = ()
    """Set up by a unit of their own."""
    adopt: bool = False
    """Whether a sidecar that somebody else has installed is taken over; else such a host is refused."""
    confirm_within: int = CONFIRM_SECONDS
    """Seconds after a start of the sidecar in which a new ssh connection must confirm it, or it is taken back."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a `remote.Command` gets."""

    command: str
    """Runs as root or as a user with passwordless sudo, in the home folder of the login."""
    stdin: str = ""
    """Not secret."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that must be on a VM before it is configured."""

    path: str
    """Its place, in the home folder of the login."""
    sha256: str
    content: bytes | None = None
    file: str | None = None
    """Path of the content where Pulumi runs, where it is not `content`."""
    kind: str = ""
    """Package manager and architecture that it is for, as in `DesiredHost.packages`; empty: every VM."""


def uploads(desired: DesiredHost) -> list[Upload]:
    """Return the files that `configure` needs on the VM: the program, and the packages that are files."""
    packages = [
        Upload(path=package.copied, sha256=package.sha256, file=package.file, kind=kind)
        for kind, package in sorted(desired.packages.items())
        if package.file
    ]
    return [Upload(path=_COPIED_PROGRAM, sha256=PROGRAM_DIGEST, content=PROGRAM), *packages]


def present_command(wanted: Sequence[Upload]) -> str:
    """Return the command that prints the digests of what is on the VM already, and of what is for another kind of VM.

    The program that is installed counts, as do the packages that it keeps.
    """
    packages = [upload for upload in wanted if upload.kind]
    kept = [f"{STATE}/{name}.{kind}" for name in ("package", "previous", "refused") for kind in ("deb", "rpm")]
    files = [HELPER, *(kept if packages else []), *(upload.path for upload in wanted)]
    look = f"sha256sum {' '.join(files)} 2>/dev/null | cut -c1-64"
    if not packages:
        return look
    kind = f"{_part('kind')}family=$(package_family); kind=$family-$(architecture $family)"
    return "\n".join([look, kind, *(f"[ $kind = {upload.kind} ] || echo {upload.sha256}" for upload in packages)])


def missing(wanted: Sequence[Upload], printed: str) -> list[Upload]:
    """Return the uploads that have to be sent, by what `present_command` has printed on the VM."""
    there = set(printed.split())
    return [upload for upload in wanted if upload.sha256 not in there]


def receive_command(upload: Upload) -> str:
    """Return the command that takes an upload's content from standard input; a part of it does not count."""
    path, part = upload.path, f"{upload.path}.tmp"
    check = f'[ "$(sha256sum <{part} | cut -c1-64)" = {upload.sha256} ]'
    refuse = f"{{ rm -f {part}; echo '{path} did not arrive whole: run up again' >&2; exit 1; }}"
    return f"umask 077; cat >{part} && {check} && mv -f {part} {path} || {refuse}"


def configure(desired: DesiredHost, record: Sequence[str] = ()) -> Step:
    """Check the host, then install the package and write the files; prints a line for each thing that it changed.

    The files of `uploads` must be there, or be no news to the VM. The record (`hosts.observe`) says what had changed on
    the host; it stands in the command, so that a VM that could not be looked at keeps the one that it has.
    """
    command = "\n".join(
        [
            f"d={PROGRAM_DIGEST} p={_COPIED_PROGRAM} b={shlex.quote(START_AS_ROOT)} n=istio-vm-mesh",
            'if [ "$(id -u)" = 0 ]; then sh -c "$b" $n $d $p',
            'elif sudo -n /bin/sh -c "$b" $n $d </dev/null 2>/dev/null; then sudo -n /bin/sh -c "$b" $n $d $p',
            # Without root's rights, nothing is changed, and what needs none is still looked at.
            f"else c=$p; [ -e $c ] || c={HELPER}; sh $c configure; s=$?; rm -f $p; exit $s; fi",
        ]
    )
    if record:
        lines = "".join(f"drift: {_one_line('drift', line)}\n" for line in record)
        command = f"{{ cat && cat <<'END'\n{lines}END\n}} | {{\n{command}\n}}"
    return Step(command=command, stdin=state_text(desired))


def enrol(desired: DesiredHost, mark: str = "") -> Step:
    """Start the sidecar if it does not run as configured, with the token that `take_token` has brought, if any.

    The command names the configuration's digest and the mark of the last
    repair: when one changes, it runs again.
    """
    return Step(command=f"sh {HELPER} enrol {digest(desired)}{mark and f' found-{mark}'}")


def take_token(desired: DesiredHost) -> str:
    """Return the command that takes a token from standard input, for `enrol`."""
    return f"sh {HELPER} take-token {digest(desired)}"


def take_down(address: str, vm: str) -> str:
    """Return the command that undoes everything by the program that is on the VM; a clean host is a success.

    It names the address and the VM: a machine that has been configured under another one since is left alone.
    """
    error = {
        "vm": vm,
        "code": "residue",
        "fact": f"{STATE} is there, and {HELPER} is not, which would remove what it stands for",
        "hint": "run up first, which puts it back",
    }
    gone = f"elif [ -e {STATE} ]; then echo {shlex.quote(json.dumps(error))} >&2; exit 1"
    return f"if [ -e {HELPER} ]; then sh {HELPER} remove {address} {vm}; {gone}; fi"


def confirm(desired: DesiredHost, mark: str = "") -> Step:
    """Wait until the sidecar is ready; prints the evidence as one line of JSON."""
    return Step(command=f"sh {HELPER} confirm {digest(desired)}{mark and f' found-{mark}'}")


def anew(desired: DesiredHost, stamp: str) -> Step:
    """Start the sidecar once more, under a fresh timer: the VM had registered as it was, and its entry was deleted.

    Args:
        desired: What the host is configured as.
        stamp: When that was; the same one again starts nothing.
    """
    return Step(command=f"sh {HELPER} anew {digest(desired)} {shlex.quote(stamp)}")


def not_back(desired: DesiredHost, reason: str) -> Step:
    """Take the start of the sidecar back at once, since the mesh does not have the VM back; it fails, and says so.

    Args:
        desired: What the host is configured as.
        reason: Why, by what the mesh says.
    """
    return Step(command=f"sh {HELPER} not-back {digest(desired)}", stdin=reason)


def configuration(files: SidecarFiles, packages: Mapping[str, Package]) -> str:
    """Return what names a configuration to the mesh: where the packages come from makes no other one."""
    return _hash({"files": asdict(files), "packages": {kind: package.sha256 for kind, package in packages.items()}})


def digest(desired: DesiredHost) -> str:
    """Return what changes whenever the sidecar has to be looked at again: its files or its package."""
    return _hash({"files": asdict(desired.files), "packages": {k: asdict(v) for k, v in desired.packages.items()}})


def state_text(desired: DesiredHost) -> str:
    """Return what a VM is to become, as the host's program reads it: settings, then each line of each managed file.

    A line of a file bears its name: it needs no quoting, and a line of a diff says which file of which VM changes. The
    folders would be a third of what the engine keeps of a VM.

    Raises:
        ValueError: A setting is more than one line.
    """
    environment = _environment()
    files, port = desired.files, desired.istiod_port
    # A single address as the kernel shows it, with which the program compares.
    routes = [Route(to=route.to.removesuffix("/32"), via=route.via) for route in desired.routes]
    settings = [
        ("vm", desired.vm),
        ("address", desired.address),
        ("digest", digest(desired)),
        ("restart", _hash({"mesh": files.mesh_yaml, "env": files.cluster_env, "root": files.root_certificate})),
        ("istiod", desired.istiod_host),
        ("istiod-port", str(port)),
        ("istiod-at", _at(desired.istiod_address, port)),
        ("clock-at", _at(desired.istiod_address, desired.clock_port) if desired.clock_port else ""),
        ("istio-version", desired.istio_version),
        ("existing", "adopt" if desired.adopt else "refuse"),
        ("confirm-within", str(desired.confirm_within)),
        *(
            ("package", f"{kind} {package.sha256} {'copied' if package.file else 'url'} {_source(package)}")
            for kind, package in sorted(desired.packages.items())
        ),
        *(("route", f"{route.to} {route.via}") for route in routes),
    ]
    managed = {
        "/etc/istio/config/mesh": files.mesh_yaml,
        "/var/lib/istio/envoy/cluster.env": files.cluster_env,
        "/etc/certs/root-cert.pem": files.root_certificate,
        "/etc/hosts": files.hosts,
        _DROP_IN: environment.get_template(_DROP_IN.lstrip("/")).render(helper=HELPER),
    }
    if routes:
        unit = environment.get_template(_ROUTES.lstrip("/"))
        managed[_ROUTES] = unit.render(helper=HELPER, routes=routes)
    lines = [
        *(f"{key}: {_one_line(key, value)}" for key, value in settings if value),
        *(f"{path.rpartition('/')[2]}: {line}" for path, text in managed.items() for line in _lines(text)),
        "end",
    ]
    return "".join(f"{line}\n" for line in lines)


@functools.cache
def _environment() -> Environment:
    """Return what reads the templates; each is read once."""
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _at(address: str, port: int) -> str:
    """Return an address with a port as programs take it."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _source(package: Package) -> str:
    """Return where a VM gets a package from."""
    return package.copied if package.file else package.url or ""


def _one_line(key: str, value: str) -> str:
    """Return a setting's value, which must not look like settings more."""
    if "\n" in value:
        raise ValueError(f"{key}: not one line (got {value!r})")
    return value


def _lines(text: str) -> list[str]:
    """Return the lines of a text file; a last newline that is missing is added by the shell."""
    return text.removesuffix("\n").split("\n")


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
