"""The authority that istiod is to sign with: what is refused of it, in exact words, and what is warned of."""

import datetime
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from authorities import NOW, make, put
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from settings_samples import ENCRYPTED_PEM

from settings import parse
from settings.authority import authority_of, key_of

ROOT = make("Root")
MIDDLE = make("Middle", ROOT)
OWN = make("Own", MIDDLE)
CHAIN = OWN.pem + MIDDLE.pem
Problems = Callable[..., list[str]]


@pytest.fixture
def told(stack: dict[str, Any], problems: Problems, tmp_path: Path) -> Callable[..., list[str]]:
    """What is said of an authority's files, their folder left out."""

    def say(**files: Any) -> list[str]:
        stack["istio"]["caSecret"] = put(tmp_path, **{"certificate": OWN, "root": ROOT.pem, "chain": CHAIN, **files})
        return [re.sub(r" \(got [^)]*\)", "", line) for line in problems(stack)]

    return say


def test_a_right_one_is_read(stack: dict[str, Any], project: Path, tmp_path: Path) -> None:
    stack["istio"]["caSecret"] = put(tmp_path, certificate=OWN, root=ROOT.pem, chain=f"comment\n{CHAIN}")
    found = parse(stack, project_dir=project).authority
    assert found is not None
    assert (found.certificate, found.chain, found.root, found.anchor) == (OWN.pem, CHAIN, ROOT.pem, ROOT.pem)
    assert "BEGIN PRIVATE KEY" in found.key.get_secret_value()
    assert key_of(OWN.certificate, found.key.get_secret_value()) == found.key.get_secret_value()
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize("chain", ["", ROOT.pem])
def test_a_root_that_signs_itself_needs_no_chain(
    stack: dict[str, Any], project: Path, tmp_path: Path, chain: str
) -> None:
    stack["istio"]["caSecret"] = put(tmp_path, certificate=ROOT, root=ROOT.pem, chain=chain)
    found = parse(stack, project_dir=project).authority
    assert found is not None
    assert found.chain == ROOT.pem


def test_a_chain_may_end_with_its_root_and_the_roots_may_be_several(told: Callable[..., list[str]]) -> None:
    assert told(chain=CHAIN + ROOT.pem) == []
    assert told(root=make("Other").pem + ROOT.pem) == []
    assert told(certificate=MIDDLE, chain="") == []


OTHER = make("Root")
LEAF = make("Leaf", ROOT, ca=False)
MUTE = make("Mute", ROOT, signs=False)
OLD = make("Old", ROOT, days=-1, now=NOW)
TIGHT = make("Tight", pathlen=0)
UNDER_TIGHT = make("Under", make("Between", TIGHT))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"root": OTHER.pem},
            "chain: CN=Middle is not signed by CN=Root, the root that signed it, or the certificates "
            "between them in istio.caSecret.chain",
        ),
        (
            {"chain": ""},
            "certificate: CN=Own is not signed by CN=Root, the root that signed it, or the "
            "certificates between them in istio.caSecret.chain",
        ),
        (
            {"chain": MIDDLE.pem},
            "chain: begins with CN=Middle, not with istio.caSecret.certificate, the certificate first, "
            "then those between it and the root, each signed by the next",
        ),
        (
            {"chain": OWN.pem + OTHER.pem + MIDDLE.pem},
            "chain: CN=Own is not signed by the next one, CN=Root, the certificate first, then those "
            "between it and the root, each signed by the next",
        ),
        (
            {"certificate": LEAF, "chain": ""},
            "certificate: CN=Leaf is no CA (basicConstraints), the certificate of an authority (CA:TRUE)",
        ),
        (
            {"certificate": MUTE, "chain": ""},
            "certificate: CN=Mute may not sign certificates (keyUsage), one with keyCertSign",
        ),
        (
            {"certificate": OLD, "chain": ""},
            "certificate: CN=Old expired on 2026-11-20, a valid one",
        ),
        (
            {"certificate": UNDER_TIGHT, "root": TIGHT.pem, "chain": ""},
            "certificate: CN=Under is not signed by CN=Tight, the root that signed it, or the "
            "certificates between them in istio.caSecret.chain",
        ),
        (
            {"certificate": make("Last", MIDDLE), "root": ROOT.pem, "chain": "", "key": OWN.key},
            "key: is not the key of the certificate, the private key that belongs to it",
        ),
        (
            {"root": "nothing"},
            "root: holds no certificate that can be read, PEM certificates (BEGIN CERTIFICATE)",
        ),
        (
            {"key": ENCRYPTED_PEM},
            "key: is encrypted with a passphrase, a key without one (ssh-keygen -p), kept as a stack secret",
        ),
    ],
)
def test_what_is_wrong_with_one(told: Callable[..., list[str]], files: dict[str, Any], expected: str) -> None:
    assert f"istio.caSecret.{expected}" in told(**files)


def test_an_authority_that_may_not_have_one_below_it(told: Callable[..., list[str]]) -> None:
    between = make("Between", TIGHT)
    own = make("Own", between)
    assert told(certificate=own, chain=own.pem + between.pem, root=TIGHT.pem) == [
        "istio.caSecret.chain: CN=Tight allows 0 authorities below it (pathlen), and there are 2, an "
        "authority that it allows"
    ]


def test_a_certificate_file_holds_one(told: Callable[..., list[str]]) -> None:
    assert told(text=CHAIN) == [
        "istio.caSecret.certificate: holds 2 certificates, the authority's own; all others belong into "
        "istio.caSecret.chain"
    ]


def test_a_key_that_istiod_cannot_sign_with(told: Callable[..., list[str]]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert told(key=text) == ["istio.caSecret.key: is neither an RSA nor an ECDSA key, a key that istiod can sign with"]


def test_one_that_is_not_valid_yet() -> None:
    early = make("Early", since=2, days=9, now=NOW)
    with pytest.raises(Exception, match="CN=Early is not valid before 2026-11-23 12:00 UTC"):
        authority_of(early.certificate, [early.certificate], [early.certificate], NOW)


def test_the_first_that_runs_out_is_warned_of() -> None:
    root = make("Root", days=20, now=NOW)
    own = make("Own", root, days=300, now=NOW)
    found = authority_of(own.certificate, [own.certificate], [root.certificate], NOW)
    assert found.warning(NOW) == (
        "istio.caSecret: runs out on 2026-12-11, in 20 days, and with it every certificate of the mesh: replace it "
        "before (docs/control-plane.md)"
    )
    assert found.warning(NOW - datetime.timedelta(days=11)) == ""


def test_the_curve_of_a_key_may_stand_before_it() -> None:
    """As openssl writes it; istiod would take the curve for the key."""
    made = make("Own", key=ec.generate_private_key(ec.SECP384R1()))
    text = "-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n" + made.key
    assert key_of(made.certificate, text).startswith("-----BEGIN PRIVATE KEY-----\n")


def test_the_examples_of_the_documentation(stack: dict[str, Any], project: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/control-plane.md").read_text()
    install, existing = (yaml.safe_load(part.split("```")[0]) for part in text.split("```yaml\n")[1:])
    folder = tmp_path / "project"
    shutil.copytree(project, folder)
    (folder / "charts/cni").mkdir()
    (folder / "charts/cni/Chart.yaml").touch()
    (folder / "values").mkdir()
    for name in ("all-clusters", "prod"):
        (folder / f"values/{name}.yaml").touch()
    put(folder / "ca", certificate=OWN, root=ROOT.pem, chain=CHAIN)
    for key, name in (("certificate", "ca-cert"), ("key", "ca-key"), ("root", "root-cert"), ("chain", "cert-chain")):
        (folder / "ca" / key).rename(folder / f"ca/{name}.pem")
    stack["istio"] = {"charts": "charts", **install["istio-vm-mesh:istio"]}
    found = parse(stack, project_dir=folder)
    assert found.authority is not None
    assert (found.istio.preset, found.istio.cni.enabled) == ("minimal", True)
    stack["istio"] = existing["istio-vm-mesh:istio"]
    assert parse(stack, project_dir=folder).istio.allow_patches is True
