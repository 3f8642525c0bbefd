"""Cases of the corpus on the real servers; ``python -m tests.conformance.run … --temporal`` runs all."""

import asyncio
import json

from tests.bpmn.test_conformance import CORPUS, needs_corpus
from tests.conformance.temporal import CaseRunner
from tests.process.world import ProcessWorld

EVERY = 9


@needs_corpus
async def test_cases_of_the_corpus_pass_on_temporal(processes: ProcessWorld) -> None:
    folder = CORPUS / "bpmn"
    cases = json.loads(await asyncio.to_thread((folder / "cases.json").read_text))
    runner = CaseRunner(processes.services, processes.temporal, processes.scripts)
    chosen = [case for case in cases[::EVERY] if not case["delay_ms"]]
    results = await asyncio.gather(*(runner.run(folder, case) for case in chosen))
    assert [result for result in results if not result.passed and not result.unwritten] == []
    assert len(results) >= 6
