"""The conformance corpus, where one is present: ``CONFORMANCE_CORPUS`` names its folder."""

import os
from pathlib import Path

import pytest

from tests.conformance.bpmn import run_bpmn, through_json

CORPUS = os.environ.get("CONFORMANCE_CORPUS", "")
needs_corpus = pytest.mark.skipif(not CORPUS, reason="CONFORMANCE_CORPUS is not set")


@needs_corpus
def test_every_case_that_does_not_contradict_itself_passes():
    report = run_bpmn(Path(CORPUS))
    assert [result for result in report.results if not result.passed and not result.unwritten] == []


@needs_corpus
def test_every_case_passes_when_its_state_is_cut_and_reloaded_after_every_event():
    plain, cut = run_bpmn(Path(CORPUS)), run_bpmn(Path(CORPUS), through_json)
    assert cut.results == plain.results
