"""Certificates that nodes bring, shown to who asks for their names; the handshakes are in memory."""

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from emperor.router.sni import LOOK_S, Certificates
from emperor.router.subscriptions import Node
from tests.router.authority import Authority


class Scene:
    """A listener of the vassal ``shop``, whose own certificate is for ``own``, and a node."""

    def __init__(self, root: Path) -> None:
        self.authority = Authority(root)
        self.key, self.crt = root / "node.key", root / "node.crt"
        self.nodes: dict[tuple[str, str], list[Node]] = {}
        self.said: list[str] = []
        self.now = 100.0
        found = Certificates(
            lambda vassal, name: self.nodes.get((vassal, name), []),
            lambda: self.now,
            lambda _key, _level, text: self.said.append(text),
        )
        self.context = self.authority.server("own")
        found.serve(self.context, "shop", "")
        self.bring("shop.test")

    def bring(self, name: str) -> None:
        private, mark, certificate = self.authority.certificate(name).partition("-----BEGIN CERTIFICATE")
        self.key.write_text(private)
        self.crt.write_text(mark + certificate)

    def joins(self, name: str, key: str = "", crt: str = "", vassal: str = "shop") -> None:
        node = Node(name, "127.0.0.1:1", sni_key=key or str(self.key), sni_crt=crt or str(self.crt))
        self.nodes[vassal, name] = [node]

    def shown(self, name: str | None) -> str:
        """Whose certificate a client sees that asks for this name."""
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        asking.check_hostname = False
        asking.load_verify_locations(cadata=self.authority.pem)
        client = asking.wrap_bio(to_client, to_server, server_hostname=name)
        server = self.context.wrap_bio(to_server, to_client, server_side=True)
        done = 0
        while done < 2:
            done = 0
            for each in (client, server):
                try:
                    each.do_handshake()
                    done += 1
                except ssl.SSLWantReadError:
                    pass
        certificate = client.getpeercert(binary_form=True)
        assert certificate is not None
        subject = x509.load_der_x509_certificate(certificate).subject
        return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_who_asks_for_a_nodes_name_sees_its_certificate(scene: Scene) -> None:
    assert scene.shown("shop.test") == "own"
    scene.joins("shop.test")
    scene.joins("other.test", vassal="blog")
    assert scene.shown("shop.test") == scene.shown("SHOP.test") == "shop.test"
    assert scene.shown("other.test") == scene.shown("nobody.test") == scene.shown(None) == "own"
    scene.nodes.clear()
    assert scene.shown("shop.test") == "own"
    assert scene.said == []


def test_files_that_are_others_are_read_again(scene: Scene) -> None:
    scene.joins("shop.test")
    assert scene.shown("shop.test") == "shop.test"
    scene.bring("renewed")
    scene.now += LOOK_S
    assert scene.shown("shop.test") == "renewed"


def test_key_and_certificate_may_be_one_file(scene: Scene, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(scene.authority.certificate("both"))
    scene.joins("shop.test", str(both), str(both))
    assert scene.shown("shop.test") == "both"


@pytest.mark.parametrize("what", ["missing", "a pipe", "no PEM", "of another key", "encrypted", "PEM itself"])
def test_what_cannot_be_used_leaves_the_listeners_own(scene: Scene, tmp_path: Path, what: str) -> None:
    bad = tmp_path / "bad"
    if what == "a pipe":
        os.mkfifo(bad)
    elif what == "of another key":
        bad.write_text(scene.authority.certificate("else").partition("-----BEGIN CERTIFICATE")[0])
    elif what == "encrypted":
        bad.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    elif what != "missing":
        bad.write_text("nothing")
    if what == "PEM itself":
        scene.joins("shop.test", scene.key.read_text(), scene.crt.read_text())
    else:
        scene.joins("shop.test", str(bad))
    assert scene.shown("shop.test") == scene.shown("shop.test") == "own"
    assert len(scene.said) == (what != "PEM itself")  # and not with each client
    assert all(str(bad) in text for text in scene.said)
    scene.joins("shop.test")
    assert scene.shown("shop.test") == "shop.test"
