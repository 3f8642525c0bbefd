"""``make bench``: every measurement, one after the other. Name some to take only those."""

import argparse
import subprocess
import sys

MEASUREMENTS = {
    "execution": "starts beside bare Temporal starts, throughput, memory of the idle stack",
    "sandbox": "containers beside `docker run`",
    "events": "appends beside pgbench",
    "event_streams": "memory, fan-out, storms and delay of live streams",
    "monitoring": "the dashboard over a million runs and ten million events",
    "payouts": "claiming payouts from two million rows of revenue",
    "receipts": "verifying receipts",
    "receipt_appends": "issuing receipts, on one chain and over many",
    "settles": "settling beside bare workflows, stripes beside single rows, a limit in a crowd",
    "payout_run": "a payout run of 20 000 developers through Temporal",
    "scanner_corpus": "the scanner on much-used packages, and on 10 MB of code",
    "feel": "FEEL expressions",
    "bpmn_core": "the interpreter beside SpiffWorkflow",
    "process": "processes on Temporal beside the same tasks written by hand; many items; cold start",
}


def main() -> int:
    """Run the named measurements, each in a process of its own; 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"default: all of {list(MEASUREMENTS)}")
    names: list[str] = parser.parse_args().names or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"there is no measurement {unknown[0]!r}")
    failed: list[str] = []
    for name in names:
        print(f"\n== {name}: {MEASUREMENTS[name]}", flush=True)
        if subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
