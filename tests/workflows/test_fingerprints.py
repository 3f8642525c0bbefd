"""No workflow's commands change unnoticed.

``python -m tests.workflows.test_fingerprints`` writes the baseline anew.
"""

import json
from pathlib import Path

from tests.workflows.fingerprint import commands_of, fingerprint, workflow_classes

BASELINE = Path(__file__).with_name("fingerprints.json")


def present() -> dict[str, dict[str, object]]:
    return {
        each.__name__: {"fingerprint": fingerprint(each), "commands": commands_of(each)}
        for each in workflow_classes()
    }


def test_every_workflow_gives_the_commands_of_its_baseline() -> None:
    baseline = json.loads(BASELINE.read_text())
    changed = [name for name, facts in present().items() if baseline.get(name) != facts]
    gone = sorted(set(baseline) - set(present()))
    assert not changed, (
        f"The commands of {', '.join(changed)} changed. Runs in flight replay their history against this "
        "code: guard the change with `if workflow.patched('what-changed'):`, keep the old branch, and see "
        "that tests/histories still replays. Then write the baseline anew: "
        "python -m tests.workflows.test_fingerprints"
    )
    assert not gone, f"{', '.join(gone)} is gone; runs in flight need it. Remove it from the baseline last."


def test_a_moved_command_changes_the_fingerprint() -> None:
    names = {each.__name__ for each in workflow_classes()}
    assert "PublishReview" in names
    assert len({fingerprint(each) for each in workflow_classes()}) == len(names)


if __name__ == "__main__":
    BASELINE.write_text(json.dumps(present(), indent=1) + "\n")
