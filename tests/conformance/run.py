"""``make conformance CORPUS=…``: run a corpus of BPMN and FEEL cases and report by group.

A corpus holds ``bpmn/cases.json`` or ``feel/cases.json`` or both; the last line is
``bpmn PASSED/TOTAL feel PASSED/TOTAL``.
"""

import argparse
import sys
from pathlib import Path

from tests.conformance.bpmn import Report as BpmnReport
from tests.conformance.bpmn import run_bpmn, through_json
from tests.conformance.feel import run_feel
from tests.conformance.temporal import run_bpmn_on_temporal


def main() -> int:
    """Run the corpus; 2 where there is none at the path, else 0: the report is the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument(
        "--cut", action="store_true", help="Serialise and reload the state of a process after every event."
    )
    parser.add_argument(
        "--temporal", action="store_true", help="Run the processes on real servers, cut wherever they rest."
    )
    arguments = parser.parse_args()
    corpus: Path = arguments.corpus
    if not any((corpus / name).exists() for name in ("bpmn/cases.json", "feel/cases.json", "cases.json")):
        parser.error(f"{corpus} holds neither bpmn/cases.json nor feel/cases.json")
    has_bpmn = (corpus / "bpmn" / "cases.json").exists()
    if not has_bpmn:
        bpmn = BpmnReport([])
    elif arguments.temporal:
        bpmn = run_bpmn_on_temporal(corpus)
    else:
        bpmn = run_bpmn(corpus, through_json if arguments.cut else None)
    feel = run_feel(corpus)
    for line in [*bpmn.lines()[:-1], *feel.lines()]:
        print(line)
    print(f"bpmn {bpmn.passed}/{bpmn.total} feel {feel.score}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
