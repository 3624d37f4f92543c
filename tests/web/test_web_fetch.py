"""Objects on the web: fetched within limits, from public hosts only, with errors that say whether to try again."""

from __future__ import annotations

import datetime
import ipaddress
import pickle
import socket
import ssl
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ports import unused_port
from web import Reply, WebSite

from clip_qdrant.errors import ImageTooLarge, SourceError
from clip_qdrant.images.load import Limits
from clip_qdrant.web.connections import is_public
from clip_qdrant.web.fetch import Fetcher
from clip_qdrant_ingestion.sources.archives.archive import ShardSource
from clip_qdrant_ingestion.sources.path_pattern import PathPattern, PatternedSource
from clip_qdrant_ingestion.sources.share import Share
from clip_qdrant_ingestion.sources.tables.manifest import ManifestSource
from clip_qdrant_ingestion.sources.web.http_index import HttpIndexSource

LIMITS = Limits(max_bytes=100_000)
CHECK = "clip_qdrant.web.connections.is_public"
OPEN = "127.0.0.9"  # stands for an address of the open internet, see `internet`


@pytest.fixture
def site() -> Iterator[WebSite]:
    with WebSite().running() as site:
        yield site


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    fetcher = Fetcher(allow_private=True, timeout=5)
    yield fetcher
    fetcher.close()


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebSite]:
    """A site at a loopback address that passes for a public one; every other loopback address does not."""
    monkeypatch.setattr(CHECK, lambda address: address == OPEN or is_public(address))
    with WebSite(OPEN).running() as site:
        yield site


@pytest.fixture
def strict() -> Iterator[Fetcher]:
    fetcher = Fetcher(timeout=5)
    yield fetcher
    fetcher.close()


def resolve(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Makes names resolve to addresses; gives the list of the names that were asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        found = [real(address, port, *args, **kwargs) for address in names.get(host, [host])]
        return [entry for entries in found for entry in entries]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def refusal(fetcher: Fetcher, url: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        fetcher.fetch(url, limits=LIMITS)
    return caught.value


def test_an_object_is_fetched_whole(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a.jpg"] = bytes(range(256)) * 300
    assert fetcher.fetch(f"{site.url}/a.jpg", limits=LIMITS) == bytes(range(256)) * 300


def test_threads_share_connections_that_stay_open(site: WebSite, fetcher: Fetcher) -> None:
    for number in range(40):
        site.pages[f"/{number}"] = str(number).encode()
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: fetcher.fetch(f"{site.url}/{n}", limits=LIMITS), range(40)))
    assert found == [str(number).encode() for number in range(40)]
    assert site.connections <= 4


def test_an_address_with_spaces_and_umlauts_is_escaped_and_what_is_escaped_stays(
    site: WebSite, fetcher: Fetcher
) -> None:
    site.pages["/a%20b/%C3%A4%2520.jpg?q=%C3%BC&x=1"] = b"here"
    assert fetcher.fetch(f"{site.url}/a b/ä%2520.jpg?q=ü&x=1#part", limits=LIMITS) == b"here"


def test_an_object_is_gone_only_if_the_server_says_so(site: WebSite, fetcher: Fetcher, strict: Fetcher) -> None:
    site.pages |= {"/a.jpg": b"a", "/busy.jpg": Reply(status=503)}
    assert fetcher.is_gone(f"{site.url}/a.jpg") is False
    assert fetcher.is_gone(f"{site.url}/b.jpg") is True
    assert fetcher.is_gone(f"{site.url}/busy.jpg") is None
    assert strict.is_gone(f"{site.url}/b.jpg") is None


def test_no_cookie_comes_back_to_the_server(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a"] = Reply(b"a", headers={"Set-Cookie": "id=1"})
    fetcher.fetch(f"{site.url}/a", limits=LIMITS)
    fetcher.fetch(f"{site.url}/a", limits=LIMITS)
    assert all("cookie" not in headers for _, _, headers in site.requests)


def test_a_fetcher_that_has_connections_open_can_be_sent_to_another_process(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a"] = b"a"
    fetcher.fetch(f"{site.url}/a", limits=LIMITS)
    sent = pickle.loads(pickle.dumps(fetcher))
    assert sent.fetch(f"{site.url}/a", limits=LIMITS) == b"a"
    assert site.connections == 2
    sent.close()


def test_sources_on_the_web_can_be_sent_to_another_process_after_use(site: WebSite, tmp_path: Path) -> None:
    site.pages |= {"/t.csv": b"file\na.jpg\n", "/": b'<a href="a.jpg">', "/a.jpg": b"image"}
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        (tmp_path / "a.jpg").write_bytes(b"image")
        archive.add(tmp_path / "a.jpg", "a.jpg")
    site.pages["/s.tar"] = (tmp_path / "s.tar").read_bytes()
    fetcher = Fetcher(allow_private=True, timeout=5)
    for source in (
        ManifestSource(f"{site.url}/t.csv", fetcher=fetcher),
        ShardSource(f"{site.url}/s.tar", fetcher=fetcher),
        HttpIndexSource(f"{site.url}/", fetcher=fetcher),
    ):
        used = Share(PatternedSource(source, PathPattern("{stem}.jpg")), 0, 1)
        (item,) = (item for page in used.pages() for item in page.objects)
        assert pickle.loads(pickle.dumps(used)).read(item, limits=LIMITS) == used.read(item, limits=LIMITS) == b"image"
    fetcher.close()


def test_a_proxy_in_the_environment_is_not_used(
    site: WebSite, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    site.pages["/a"] = b"a"
    assert fetcher.fetch(f"{site.url}/a", limits=LIMITS) == b"a"


@pytest.mark.parametrize(
    ("status", "transient"),
    [
        (404, False),
        (410, False),
        (403, False),
        (400, False),
        (501, False),
        (204, False),
        (429, True),
        (408, True),
        (500, True),
        (502, True),
        (503, True),
    ],
)
def test_a_status_says_whether_to_try_again(site: WebSite, fetcher: Fetcher, status: int, transient: bool) -> None:
    site.pages["/a"] = Reply(b"", status)
    error = refusal(fetcher, f"{site.url}/a")
    assert str(status) in str(error)
    assert error.transient is transient


def test_a_refused_connection_may_pass(fetcher: Fetcher) -> None:
    assert refusal(fetcher, f"http://127.0.0.1:{unused_port()}/a").transient


def test_a_name_that_nobody_has_is_final_and_a_resolver_that_fails_is_not(
    fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(code: int) -> Any:
        def getaddrinfo(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(code, "as the resolver says")

        return getaddrinfo

    monkeypatch.setattr(socket, "getaddrinfo", failing(socket.EAI_NONAME))
    assert not refusal(fetcher, "http://nobody.example/a").transient
    monkeypatch.setattr(socket, "getaddrinfo", failing(socket.EAI_AGAIN))
    assert refusal(fetcher, "http://nobody.example/a").transient


def test_a_connection_that_breaks_off_is_no_short_image(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a.jpg"] = Reply(b"only this", headers={"Content-Length": "5000", "Connection": "close"})
    assert refusal(fetcher, f"{site.url}/a.jpg").transient


def test_what_is_announced_too_large_is_not_read(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a.jpg"] = Reply(b"", headers={"Content-Length": "100001", "Connection": "close"})
    with pytest.raises(ImageTooLarge, match="100001 bytes; the limit is 100000"):
        fetcher.fetch(f"{site.url}/a.jpg", limits=LIMITS)


def test_a_body_without_end_is_cut_at_the_limit(site: WebSite, fetcher: Fetcher) -> None:
    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        request.close_connection = True
        while True:  # until the other side goes away
            request.wfile.write(b"1000\r\n" + bytes(0x1000) + b"\r\n")

    site.pages["/a.jpg"] = endless
    with pytest.raises(ImageTooLarge, match="more bytes than the limit of 100000"):
        fetcher.fetch(f"{site.url}/a.jpg", limits=LIMITS)


def test_a_body_that_unpacks_is_refused(site: WebSite, fetcher: Fetcher) -> None:
    site.pages["/a.jpg"] = Reply(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert "compressed (gzip)" in str(refusal(fetcher, f"{site.url}/a.jpg"))


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_slow_drip_ends_with_the_time_limit(site: WebSite, part: str) -> None:
    stop = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        request.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 9999\r\n\r\n" if part == "body" else b""))
        for _ in range(200):
            request.wfile.write(b"X: 1\r\n")
            if stop.wait(0.05):
                return

    site.pages["/a.jpg"] = drip
    fetcher = Fetcher(allow_private=True, timeout=0.3)
    error = refusal(fetcher, f"{site.url}/a.jpg")
    stop.set()
    fetcher.close()
    assert error.transient
    assert "longer than 0.3 s" in str(error)


def test_the_time_limit_counts_all_redirects_together(site: WebSite) -> None:
    def slow(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.15)
        request.send_response(302)
        request.send_header("Location", "/slow")
        request.send_header("Content-Length", "0")
        request.end_headers()

    site.pages["/slow"] = slow
    fetcher = Fetcher(allow_private=True, timeout=0.4, max_redirects=1000)
    assert "longer than 0.4 s" in str(refusal(fetcher, f"{site.url}/slow"))
    fetcher.close()


def test_redirects_are_followed_up_to_a_number(site: WebSite, fetcher: Fetcher) -> None:
    for number in range(6):
        site.pages[f"/{number}"] = Reply(b"", 302, {"Location": f"{number + 1}"})
    site.pages["/6"] = b"there"
    assert fetcher.fetch(f"{site.url}/1", limits=LIMITS) == b"there"
    error = refusal(fetcher, f"{site.url}/0")
    assert "more than 5 redirects" in str(error)
    assert not error.transient


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/"])
def test_a_redirect_to_another_scheme_is_refused(site: WebSite, fetcher: Fetcher, target: str) -> None:
    site.pages["/a"] = Reply(b"", 302, {"Location": target})
    error = refusal(fetcher, f"{site.url}/a")
    assert "only http and https" in str(error)
    assert not error.transient


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a", "//host/a", "photos/a.jpg", "http://[::1", ""])
def test_only_http_and_https_are_fetched(fetcher: Fetcher, url: str) -> None:
    assert not refusal(fetcher, url).transient


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "[ff02::1]",
        "240.0.0.1",
        "198.18.0.1",
        "192.0.0.8",
        "[::127.0.0.1]",
        "[fec0::1]",
        "[3fff::1]",
        "192.88.99.1",
    ],
)
def test_an_address_of_no_public_host_is_refused(site: WebSite, strict: Fetcher, host: str) -> None:
    error = refusal(strict, f"http://{host}:{site.port}/a")
    assert "no public address; --allow-private" in str(error)
    assert not error.transient
    assert site.connections == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("64:ff9b::5db8:d822", True),
        ("::ffff:93.184.216.34", True),
        ("fe80::1%eth0", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
    ],
)
def test_an_address_within_another_counts_as_itself(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_a_name_that_resolves_to_loopback_is_refused(
    site: WebSite, strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, {"photos.example": ["127.0.0.1"]})
    error = refusal(strict, f"http://photos.example:{site.port}/a")
    assert "photos.example resolves to 127.0.0.1, which is no public address" in str(error)
    assert site.connections == 0


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    internet: WebSite, strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, {"photos.example": [OPEN, "10.0.0.1"]})
    assert "10.0.0.1" in str(refusal(strict, f"http://photos.example:{internet.port}/a"))
    assert internet.connections == 0


def test_a_redirect_to_loopback_is_refused(
    site: WebSite, internet: WebSite, strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, {"inside.example": ["127.0.0.1"]})
    for host in ("127.0.0.1", "inside.example", "2130706433"):
        internet.pages["/a"] = Reply(b"", 302, {"Location": f"http://{host}:{site.port}/secret"})
        assert "no public address" in str(refusal(strict, f"{internet.url}/a"))
    assert len(internet.requests) == 3
    assert site.connections == 0


def test_a_name_is_resolved_once_for_a_connection(
    site: WebSite, internet: WebSite, strict: Fetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"photos.example": [OPEN]}
    asked = resolve(monkeypatch, answers)
    internet.pages["/a"] = b"outside"

    def rebound(address: str) -> bool:
        answers["photos.example"] = ["127.0.0.1"]  # what the next look-up would say
        return address == OPEN

    monkeypatch.setattr(CHECK, rebound)
    assert strict.fetch(f"http://photos.example:{internet.port}/a", limits=LIMITS) == b"outside"
    assert asked.count("photos.example") == 1


def test_the_next_address_of_a_host_is_tried(site: WebSite, fetcher: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, {"photos.example": ["127.0.0.77", "127.0.0.1"]})
    site.pages["/a"] = b"a"
    assert fetcher.fetch(f"http://photos.example:{site.port}/a", limits=LIMITS) == b"a"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return folder / "cert.pem", folder / "key.pem"


def test_a_certificate_is_checked_against_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = certificate(tmp_path, "photos.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    resolve(monkeypatch, {"photos.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]})
    fetcher = Fetcher(allow_private=True, timeout=5, ssl_context=ssl.create_default_context(cafile=str(cert)))
    unknowing = Fetcher(allow_private=True, timeout=5)
    with WebSite(tls=server).running() as site:
        site.pages["/a"] = b"a"
        assert fetcher.fetch(f"https://photos.example:{site.port}/a", limits=LIMITS) == b"a"
        for error in (
            refusal(fetcher, f"https://other.example:{site.port}/a"),
            refusal(unknowing, f"https://photos.example:{site.port}/a"),
        ):
            assert "certificate" in str(error)
            assert not error.transient
        fetcher.close()
        unknowing.close()


def test_a_user_is_told_to_its_own_host_alone_and_is_in_no_message(site: WebSite, fetcher: Fetcher) -> None:
    with WebSite().running() as other:
        site.pages["/a"] = Reply(b"", 302, {"Location": f"{other.url}/b"})
        error = refusal(fetcher, f"{site.url.replace('://', '://xaver:s3cret@')}/a")
        assert site.requests[0][2]["authorization"] == "Basic eGF2ZXI6czNjcmV0"
        assert "authorization" not in other.requests[0][2]
    assert "s3cret" not in str(error)
    assert "xaver" not in str(error)


def test_a_head_tells_version_size_and_time(site: WebSite, fetcher: Fetcher) -> None:
    headers = {"ETag": '"v1"', "Last-Modified": "Wed, 01 May 2024 10:00:00 GMT"}
    site.pages["/a"] = Reply(b"12345", headers=headers)
    version = fetcher.head(f"{site.url}/a")
    assert version is not None
    assert (version.etag, version.size, version.mtime) == ('"v1"', 5, 1714557600.0)
    site.pages["/b"] = Reply(b"1", headers={"Last-Modified": "yesterday"})
    version = fetcher.head(f"{site.url}/b")
    assert version is not None
    assert (version.etag, version.size, version.mtime) == (None, 1, None)


@pytest.mark.parametrize("status", [405, 501, 403, 400])
def test_a_server_that_refuses_head_may_still_give_the_object(site: WebSite, fetcher: Fetcher, status: int) -> None:
    site.pages["/a"] = Reply(b"", status)
    assert fetcher.head(f"{site.url}/a") is None


@pytest.mark.parametrize(("status", "transient"), [(404, False), (410, False), (503, True), (429, True)])
def test_a_head_of_what_is_not_there_fails(site: WebSite, fetcher: Fetcher, status: int, transient: bool) -> None:
    site.pages["/a"] = Reply(b"", status)
    with pytest.raises(SourceError) as caught:
        fetcher.head(f"{site.url}/a")
    assert caught.value.transient is transient


def test_the_addresses_that_are_private_are_those_of_the_registries() -> None:
    for network in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10", "::1/128"):
        assert not is_public(str(ipaddress.ip_network(network)[0]))
