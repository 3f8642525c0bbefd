"""``switchyard agents init | scan | test | publish | status | list | show | rescan``."""

import base64
import json as json_module
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli.exit import ExitStatus
from cli.output import JsonOption, note, print_facts, print_json, print_table
from models.errors import InvalidRequestError, NotFoundError, PlatformError

if TYPE_CHECKING:
    from models.manifest import AgentManifest
    from models.publishing import ReviewTestResult

MANIFEST = "manifest.json"

FINDING_COLUMNS = {
    "severity": "SEVERITY",
    "rule": "RULE",
    "place": "PLACE",
    "message": "FINDING",
    "remedy": "REMEDY",
}

_LISTING_COLUMNS = {
    "slug": "AGENT",
    "version": "VERSION",
    "category": "CATEGORY",
    "price": "PRICE",
    "stars": "RATING",
    "executions": "RUNS",
    "description": "DESCRIPTION",
}

_VERSION_COLUMNS = {
    "version_id": "ID",
    "slug": "AGENT",
    "version": "VERSION",
    "status": "STATUS",
    "violations": "VIOLATIONS",
    "warnings": "WARNINGS",
    "submitted_at": "SUBMITTED",
}


class AgentFolderError(InvalidRequestError):
    """A folder or archive named on the command line cannot be used as an agent."""

    code = "AGENT_FOLDER_UNUSABLE"


class NoSuchPathError(NotFoundError):
    """A path named on the command line does not exist."""

    code = "PATH_NOT_FOUND"

    def __init__(self, path: Path) -> None:
        super().__init__(f"There is no file or folder {path}. Name an agent's folder or its archive.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    agents = typer.Typer(help="Agents: write, scan, test, publish, find.", no_args_is_help=True)
    for name, command in (
        ("init", init),
        ("scan", scan),
        ("test", try_out),
        ("publish", publish),
        ("status", status),
        ("list", list_),
        ("show", show),
        ("rescan", rescan),
    ):
        agents.command(name)(command)
    app.add_typer(agents, name="agents", rich_help_panel="Agents")


def init(
    path: Annotated[Path, typer.Argument(help="Folder to make; its name becomes the slug.")],
    runtime: Annotated[
        Literal["python", "node"], typer.Option(help="The interpreter of the agent.")
    ] = "python",
) -> None:
    """Write a small working agent into a new folder."""
    from cli.agent_template import template
    from models.manifest import SLUG_PATTERN

    slug = path.resolve().name
    if re.match(SLUG_PATTERN, slug) is None:
        raise AgentFolderError(
            f"The folder's name '{slug}' cannot be a slug. Use lower case letters, digits and hyphens."
        )
    if path.exists() and any(path.iterdir()):
        raise AgentFolderError(f"{path} is not empty. Name a new folder.")
    path.mkdir(parents=True, exist_ok=True)
    for name, content in template(slug, runtime).items():
        (path / name).write_text(content, encoding="utf-8")
    note(f"Wrote {path}. Next: switchyard agents test {path} --inputs {path / 'inputs.json'}")


def scan(
    path: Annotated[Path, typer.Argument(help="An agent's folder or archive (tar.gz, tar, zip).")],
    json: JsonOption = False,
) -> None:
    """Scan as the platform will, offline. The status is 1 where the scan blocks, 0 otherwise."""
    from activities.scanning.process import scan_path
    from models.scanning import Verdict

    if not path.exists():
        raise NoSuchPathError(path)
    report = scan_path(path)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        findings = [*report.violations, *report.warnings]
        print_findings(finding.model_dump(mode="json") for finding in findings)
        note(
            f"{report.verdict}: {len(report.violations)} violation(s), {len(report.warnings)} warning(s) in "
            f"{report.files_scanned} file(s), rules {report.rule_set_version}."
        )
    if report.verdict is Verdict.BLOCK:
        raise typer.Exit(ExitStatus.FAILURE)


def try_out(
    path: Annotated[Path, typer.Argument(help="An agent's folder or archive (tar.gz, tar).")],
    inputs: Annotated[Path, typer.Option(help="JSON file with the inputs.")],
    config: Annotated[Path | None, typer.Option(help="JSON file with a deployment's configuration.")] = None,
    json: JsonOption = False,
) -> None:
    """Run an agent in the sandbox of this machine, without network. The status is 0 where it succeeds."""
    from models.json_schema import violations

    files = read_agent(path)
    manifest = _manifest_of(files)
    given = json_file(inputs)
    settings = json_file(config) if config is not None else {}
    for what, value, schema in (
        ("inputs", given, manifest.input_schema),
        ("config", settings, manifest.config_schema),
    ):
        broken = violations(value, schema)
        if broken:
            listed = "\n".join(f"  {each.field}: {each.message}. {each.remedy}" for each in broken)
            raise AgentFolderError(f"The {what} do not fit the manifest's {what} schema:\n{listed}")
    result = _run_here(files, manifest, given, settings)
    if json:
        print_json(result.model_dump(mode="json"))
    else:
        print_test_result(result.model_dump(mode="json"))
    if result.exit_reason != "success":
        raise typer.Exit(ExitStatus.FAILURE)


def publish(
    path: Annotated[Path, typer.Argument(help="The agent's folder or archive (tar.gz, tar).")],
    key: Annotated[
        str | None, typer.Option("--key", help="Idempotency-Key, to repeat a request whose answer was lost.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Submit an agent's version for scan and review."""
    from activities.scanning.archive import submission_of
    from cli.client import connect

    files = read_agent(path)
    manifest = _json_document(files[MANIFEST], MANIFEST) if MANIFEST in files else None
    if not isinstance(manifest, dict):
        raise AgentFolderError(f"{path} has no {MANIFEST} with a JSON object. See docs/publishing.md.")
    body = {
        **{name: str(manifest.get(name, "")) for name in ("name", "slug", "version")},
        "manifest": manifest,
        "code_base64": base64.b64encode(submission_of(files).canonical_bytes).decode(),
    }
    with connect() as client:
        try:
            made: dict[str, Any] = client.post("/agents/register", body, key=key)
        except PlatformError as refusal:
            found = refusal.details.get("violations")
            if isinstance(found, list):
                print_findings(found)  # pyright: ignore[reportUnknownArgumentType]
            raise
    if json:
        print_json(made)
    else:
        print_facts(made)
        note(f"Follow it: switchyard agents status {made['version_id']}")


def status(
    version: Annotated[str, typer.Argument(help="A version's id, or an agent's slug for its last version.")],
    json: JsonOption = False,
) -> None:
    """Show where a version stands, and what the scan found."""
    from cli.client import connect

    with connect() as client:
        version_id = version
        if not version.startswith("ver_"):
            found = next(client.items("/agent-versions", maximum=1, agent=version), None)
            if found is None:
                raise AgentFolderError(f"You have submitted no version of '{version}'.")
            version_id = found["version_id"]
        shown: dict[str, Any] = client.get(f"/agent-versions/{version_id}")
    if json:
        print_json(shown)
        return
    print_version(shown)


def list_(
    search: Annotated[str | None, typer.Argument(help="Words to look for.")] = None,
    category: Annotated[str | None, typer.Option(help="Only this category.")] = None,
    sort: Annotated[
        Literal["newest", "popular", "rating", "price", "name"], typer.Option(help="Order.")
    ] = "newest",
    mine: Annotated[bool, typer.Option("--mine", help="The versions you submitted instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50,
    json: JsonOption = False,
) -> None:
    """List the marketplace's agents."""
    from cli.client import connect

    with connect() as client:
        if mine:
            rows = list(client.items("/agent-versions", maximum=limit, mine="true"))
            columns = _VERSION_COLUMNS
        else:
            found = client.items("/agents", maximum=limit, q=search, category=category, sort=sort)
            rows = [{**row, "price": price(row["pricing"]), "stars": stars(row["rating"])} for row in found]
            columns = _LISTING_COLUMNS
    if json:
        print_json(rows)
    else:
        print_table(columns, rows, empty="No agents found.")


def show(agent: Annotated[str, typer.Argument(help="Slug or agent id.")], json: JsonOption = False) -> None:
    """Show a published agent: what it takes and returns, costs and may reach, and its ratings."""
    from cli.client import connect

    with connect() as client:
        found: dict[str, Any] = client.get(f"/agents/{agent}")
    if json:
        print_json(found)
        return
    plain = ("agent_id", "name", "version", "category", "description", "author", "runtime", "timeout_ms")
    rate = found["success_rate"]
    print_facts(
        {
            **{name: found[name] for name in plain},
            "price": price(found["pricing"]),
            "rating": stars(found["rating"]),
            "success": "" if rate is None else f"{rate:.1%} of {found['executions']} runs",
            "versions": [each["version"] for each in found["versions"]],
            "hosts": found["hosts"],
            "inputs": found["input_schema"],
            "outputs": found["output_schema"],
            "config": found["config_schema"],
        }
    )
    for review in found["reviews"]:
        note(f"{'★' * review['rating']} {review['comment'] or ''}")


def rescan(json: JsonOption = False) -> None:
    """Scan published versions by the present rules (reviewers); new violations quarantine them."""
    from cli.client import connect

    with connect() as client:
        started = client.post("/rescans")
    if json:
        print_json(started)
    else:
        print_facts(started)


def read_agent(path: Path) -> Mapping[str, bytes]:
    """Read an agent's files from a folder or archive, as the platform would.

    Raises:
        NoSuchPathError: There is nothing at the path.
        InvalidArchiveError, ArchiveTooLargeError: The platform would not open it.
    """
    from activities.scanning.archive import read_folder, unpack

    if path.is_dir():
        return read_folder(path).files
    if not path.exists():
        raise NoSuchPathError(path)
    return unpack(path.read_bytes()).files


def _manifest_of(files: Mapping[str, bytes]) -> "AgentManifest":
    from models.manifest import parse_manifest

    if MANIFEST not in files:
        raise AgentFolderError(f"There is no {MANIFEST}. See docs/publishing.md.")
    return parse_manifest(_json_document(files[MANIFEST], MANIFEST))


def json_file(path: Path) -> Any:
    """Read a JSON file named on the command line.

    Raises:
        AgentFolderError: It cannot be read, or is not JSON.
    """
    try:
        return _json_document(path.read_bytes(), str(path))
    except OSError as error:
        raise AgentFolderError(f"{path} cannot be read: {error.strerror}.") from None


def _json_document(data: bytes, name: str) -> Any:
    try:
        return json_module.loads(data)
    except (ValueError, RecursionError) as error:
        raise AgentFolderError(f"{name} is not JSON: {error}") from None


def _run_here(
    files: Mapping[str, bytes], manifest: "AgentManifest", inputs: Any, config: Any
) -> "ReviewTestResult":
    import asyncio

    from activities.publishing import test_result
    from activities.sandbox.runner import SandboxRunner
    from activities.sandbox.settings import SandboxSettings
    from activities.scanning.archive import submission_of
    from models.sandbox import SandboxLimits, SandboxRequest
    from models.settings import load_settings

    settings = load_settings()
    request = SandboxRequest.model_validate(
        {
            "execution_id": f"local.{manifest.slug}"[:100],
            "runtime": manifest.runtime.value,
            "entry_point": manifest.entry_point,
            "code": submission_of(files).canonical_bytes,
            "inputs": inputs,
            "config": config,
            "limits": SandboxLimits(
                memory_mb=max(manifest.memory_mb, 64), timeout_ms=max(manifest.timeout_ms, 100)
            ),
        }
    )

    async def run() -> "ReviewTestResult":
        runner = SandboxRunner(
            SandboxSettings(
                docker_host=settings.docker_host,
                image=settings.sandbox_image,
                runtime=settings.sandbox_runtime,
                warm={},
            )
        )
        try:
            await runner.start()
            return test_result("local", await runner.run(request), manifest)
        finally:
            await runner.close()

    return asyncio.run(run())


def print_findings(findings: Iterable[Mapping[str, Any]]) -> None:
    """Print the scanner's findings, a line each."""
    rows = [
        {
            **finding,
            "place": f"{finding['file']}:{finding['line']}" if finding["line"] else finding["file"],
            "message": finding["message"]
            + (f" [{finding['decoded_value']}]" if finding.get("decoded_value") else ""),
        }
        for finding in findings
    ]
    print_table(FINDING_COLUMNS, rows, empty="The scan found nothing.")


def print_version(version: Mapping[str, Any]) -> None:
    """Print where a version stands, and the scan's findings."""
    names = (
        *("version_id", "agent_id", "slug", "version", "status", "developer_id", "submitted_at"),
        *("reviewed_by", "reviewed_at", "review_reason", "code_hash", "code_size", "rule_set_version"),
    )
    print_facts({name: version[name] for name in names if version[name] is not None})
    report = version["scan_report"]
    if report is not None:
        print_findings([*report["violations"], *report["warnings"]])


def print_test_result(result: Mapping[str, Any]) -> None:
    """Print how a test run ended: facts and log on standard error, the output on standard output."""
    for line in str(result["stderr"]).splitlines():
        note(f"| {line}")
    note(f"{result['exit_reason']} after {result['duration_ms']} ms. {result['detail']}".rstrip())
    for each in result["output_violations"]:
        note(f"  {each['field']}: {each['message']}")
    if result["outputs"] is not None:
        print_json(result["outputs"])


def price(pricing: Mapping[str, Any]) -> str:
    """Return a price as people read it."""
    if pricing["model"] == "free":
        return "free"
    return f"{pricing['amount'] / 100:.2f} {pricing['currency']}"


def stars(rating: Mapping[str, Any]) -> str:
    """Return a rating as people read it."""
    return f"{rating['average']:.1f} ({rating['count']})" if rating["count"] else ""
