"""TLS to a Qdrant server: whom it is trusted by, and what is said where the two sides do not understand each other."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from small_server import SmallServer, ok

from clip_qdrant.errors import ConfigError, StoreUnavailable
from clip_qdrant.settings import Settings
from clip_qdrant.store.calls import call
from clip_qdrant.store.connect import connect


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that its own key signed, with that key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[str]:
    """The address, without its scheme, of a server that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = SmallServer(lambda _: ok({"collections": []}))
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    server._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # handshakes fail here on purpose
    with server.running():
        yield server.url.removeprefix("http://")


def ask(url: str, *, ca_file: Path | None = None) -> None:
    client = connect(url, ca_file=ca_file)
    try:
        call(client.get_collections, what="list", patience=120)  # what is never tried again does not wait so long
    finally:
        client.close()


def test_a_server_is_trusted_by_the_certificate_of_a_private_authority(tls_server: str, certificate: Path) -> None:
    ask(f"https://{tls_server}", ca_file=certificate)


def test_so_it_is_by_the_variable_of_openssl(
    tls_server: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    ask(f"https://{tls_server}")


def test_the_setting_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIP_QDRANT_CA_FILE", "~/ca.pem")
    assert Settings.load(dotenv=None).ca_file == Path("~/ca.pem").expanduser()


def test_an_unknown_authority_is_told_at_once_with_the_ways_to_name_it(tls_server: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"not trusted .*CLIP_QDRANT_CA_FILE, .*ca_file=.*SSL_CERT_FILE"):
        ask(f"https://{tls_server}")


def test_a_certificate_for_another_host_is_told_as_such(tls_server: str, certificate: Path) -> None:
    with pytest.raises(
        StoreUnavailable, match=r"not trusted .*is its clock, its certificate and the address right"
    ) as no:
        ask(f"https://{tls_server.replace('127.0.0.1', 'localhost')}", ca_file=certificate)
    assert "CA_FILE" not in str(no.value)


def test_https_to_a_server_without_tls_says_http() -> None:
    with (
        SmallServer(lambda _: ok({"collections": []})).running() as server,
        pytest.raises(StoreUnavailable, match=r"does not speak TLS .*write http:// in place of https://"),
    ):
        ask(server.url.replace("http://", "https://"))


def test_http_to_a_server_with_tls_says_https() -> None:
    """A Qdrant server answers a request without TLS by a record of TLS that says so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"\x15\x03\x03\x00\x02\x02\x32")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(StoreUnavailable, match=r"speaks TLS, .*write https:// in place of http://"):
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join(10)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_certificates_is_refused_before_anything_is_sent(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"ca_file .*ca\.pem' holds no certificate"):
        connect("https://127.0.0.1:1", ca_file=path)
