"""The way out of a container, tried from inside it against real servers on loopback."""

import asyncio
import datetime
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from activities.sandbox.egress_policy import EgressSettings
from activities.sandbox.runner import SandboxRunner
from activities.sandbox.settings import SandboxSettings
from models.manifest import CredentialInjection, HttpMethod, NetworkHost, Runtime
from models.sandbox import SandboxResult
from tests.sandbox.agents import request_of, run_node, run_python

HOST = "api.example.com"
SECRET = "s3cret-of-the-user"


@dataclass
class Upstream:
    """Servers that answer with what they received."""

    http: int = 0
    https: int = 0
    seen: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.seen.append(head)
            lengths = [line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
            length = int(lengths[0]) if lengths else 0
            body = await reader.readexactly(length)
            size = int(head.split("size=")[1].split()[0]) if "size=" in head else 0
            answer = json.dumps(
                {"line": head.split("\r\n")[0], "body": body.decode(), "pad": "x" * size}
            ).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer
            )
            await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


def certificate(folder: Path) -> Path:
    """A self-signed certificate with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "server.pem"
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
async def upstream(pem: Path) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    plain = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    secure = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, ssl=context)
    upstream.http = plain.sockets[0].getsockname()[1]
    upstream.https = secure.sockets[0].getsockname()[1]
    yield upstream
    plain.close()
    secure.close()


@pytest.fixture(scope="module")
async def connected(
    sandbox_settings: SandboxSettings, runner: SandboxRunner, pem: Path
) -> AsyncIterator[SandboxRunner]:
    """A runner whose broker knows one public name, which leads to loopback."""

    async def resolve(host: str, _port: int) -> Sequence[str]:
        known = {HOST: ["127.0.0.1"], "inside.example.com": ["127.0.0.2"]}
        if host not in known:
            raise OSError("no such name")
        return known[host]

    egress = EgressSettings(
        permitted_addresses=frozenset({"127.0.0.1"}),
        tls=ssl.create_default_context(cafile=pem),
        resolve=resolve,
    )
    connected = SandboxRunner(sandbox_settings, egress)
    yield connected
    await connected.close()


PYTHON_GET = """
import json, ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def get(url, **options):
    try:
        request = urllib.request.Request(url, **options)
        with urllib.request.urlopen(request, timeout=5, context=context) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {"status": error.code, **json.loads(error.read())}
    except OSError as error:
        return {"failed": str(error)}
print(json.dumps([get(url, **options) for url, options in json.load(sys.stdin)]))
"""
NODE_GET = """
process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'; process.removeAllListeners('warning');
const calls = JSON.parse(require('fs').readFileSync(0));
Promise.all(calls.map(([url, options]) => fetch(url, options).then(a => a.json())
  .catch(error => ({ failed: String(error.cause || error) }))))
  .then(all => console.log(JSON.stringify(all)));
"""


async def answers(result: SandboxResult) -> Any:
    assert result.succeeded, (result.exit_reason, result.detail, result.stderr_tail)
    return json.loads(result.stdout)


@pytest.mark.parametrize("language", ["python", "node"])
async def test_stock_clients_reach_declared_hosts_only(
    connected: SandboxRunner, upstream: Upstream, language: str
) -> None:
    network = (NetworkHost(host=HOST, port=upstream.https), NetworkHost(host=HOST, port=upstream.http))
    urls = [
        f"https://{HOST}:{upstream.https}/tls", f"http://{HOST}:{upstream.http}/plain",
        f"https://evil.example.com:{upstream.https}/", "https://169.254.169.254/latest/meta-data",
    ]  # fmt: skip
    run, source = (run_python, PYTHON_GET) if language == "python" else (run_node, NODE_GET)
    result = await run(connected, source, inputs=[[url, {}] for url in urls], network=network)
    tls, plain, undeclared, metadata = await answers(result)
    assert tls["line"].startswith("GET /tls")
    assert plain["line"].startswith("GET /plain")
    for refused in (undeclared, metadata):
        assert "failed" in refused or refused["status"] == 403
    allowed = [decision for decision in result.egress if decision.allowed]
    assert {(decision.host, decision.address) for decision in allowed} == {(HOST, "127.0.0.1")}
    assert all(decision.bytes_received > 0 for decision in allowed)
    assert result.egress_refused == 2


@pytest.mark.parametrize("language", ["python", "node"])
async def test_the_broker_adds_the_credential_that_the_agent_never_sees(
    connected: SandboxRunner, upstream: Upstream, language: str
) -> None:
    rule = NetworkHost(
        host=HOST,
        port=upstream.https,
        methods=[HttpMethod.POST],
        alias="crm",
        credential=CredentialInjection(header="Authorization", config_key="token", prefix="Bearer "),
    )
    source = PYTHON_GET if language == "python" else NODE_GET
    options: dict[str, Any] = {"headers": {"Authorization": "forged"}, "method": "POST"}
    if language == "python":
        calls = [["http://egress/crm/leads?x=1", options], ["http://egress/crm/leads", {"method": "DELETE"}]]
    else:
        calls = [
            ["http://egress/crm/leads?x=1", {**options, "body": "hi"}],
            ["http://egress/crm/", {"method": "DELETE"}],
        ]
    upstream.seen.clear()
    request = request_of(source, Runtime(language), inputs=calls, network=(rule,))
    result = await connected.run(request, secrets={"token": SECRET})
    done, refused = await answers(result)
    assert done["line"] == "POST /leads?x=1 HTTP/1.1"
    assert refused["error"] == "EGRESS_REFUSED"
    assert f"Authorization: Bearer {SECRET}" in upstream.seen[0]
    assert "forged" not in upstream.seen[0]
    assert SECRET not in result.model_dump_json()
    assert "crm" in [decision.credential for decision in result.egress]


async def test_names_that_lead_inside_are_refused_after_resolution(
    connected: SandboxRunner, upstream: Upstream
) -> None:
    network = (
        NetworkHost(host="inside.example.com", port=upstream.https),
        NetworkHost(host="gone.example.com"),
    )
    urls = [f"https://inside.example.com:{upstream.https}/", "https://gone.example.com/"]
    result = await run_python(connected, PYTHON_GET, inputs=[[url, {}] for url in urls], network=network)
    assert [decision.reason for decision in result.egress] == [
        "the host resolves to no public address",
        "the host cannot be resolved",
    ]


async def test_bytes_are_capped(connected: SandboxRunner, upstream: Upstream) -> None:
    network = (NetworkHost(host=HOST, port=upstream.http, max_bytes=100_000),)
    call = [f"http://{HOST}:{upstream.http}/?size=1000000", {}]
    source = PYTHON_GET.replace("except OSError as error", "except Exception as error")
    result = await run_python(connected, source, inputs=[call], network=network)
    assert [(decision.allowed, decision.reason) for decision in result.egress] == [
        (False, "the host's byte limit is used up")
    ]
    assert result.egress[0].bytes_received < 300_000


async def test_without_a_declaration_there_is_no_way_out(
    connected: SandboxRunner, upstream: Upstream
) -> None:
    result = await run_python(connected, PYTHON_GET, inputs=[[f"http://{HOST}:{upstream.http}/", {}]])
    (only,) = await answers(result)
    assert "failed" in only
    assert result.egress == []


async def test_a_method_outside_the_declaration_cannot_ride_along(
    connected: SandboxRunner, upstream: Upstream
) -> None:
    network = (NetworkHost(host=HOST, port=upstream.http, methods=[HttpMethod.GET]),)
    source = f"""
import json, socket
sock = socket.create_connection(("127.0.0.1", 3128))
sock.sendall(b"GET http://{HOST}:{upstream.http}/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
             b"DELETE /all HTTP/1.1\\r\\n\\r\\n")
data = b""
while piece := sock.recv(65536): data += piece
print(json.dumps(data.count(b"HTTP/1.1 200")))
"""
    upstream.seen.clear()
    result = await run_python(connected, source, network=network)
    assert json.loads(result.stdout) == 1
    assert [head.split()[0] for head in upstream.seen] == ["GET"]


async def test_another_executions_socket_cannot_be_reached(
    connected: SandboxRunner, upstream: Upstream
) -> None:
    network = (NetworkHost(host=HOST, port=upstream.http),)
    source = (
        "import json, os\nprint(json.dumps([os.listdir('/run/egress'), os.access('/run/egress', os.W_OK)]))"
    )
    result = await run_python(connected, source, network=network)
    assert json.loads(result.stdout) == [["broker.sock"], False]


def test_addresses_cannot_be_declared() -> None:
    for host in ("10.0.0.1", "localhost", "*.example.com", str(ipaddress.IPv6Address(1))):
        with pytest.raises(ValueError, match="host"):
            NetworkHost(host=host)
