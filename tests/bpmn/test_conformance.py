"""The conformance corpus, where one is present: beside the checkout, or where ``CONFORMANCE_CORPUS`` says."""

import os
from pathlib import Path

import pytest

from tests.conformance.bpmn import run_bpmn, through_json

CORPUS = Path(os.environ.get("CONFORMANCE_CORPUS", "../shared/conformance"))
needs_corpus = pytest.mark.skipif(
    not (CORPUS / "bpmn" / "cases.json").exists(), reason="no corpus of BPMN cases at hand"
)


@needs_corpus
def test_every_case_that_does_not_contradict_itself_passes():
    report = run_bpmn(CORPUS)
    assert [result for result in report.results if not result.passed and not result.unwritten] == []


@needs_corpus
def test_every_case_passes_when_its_state_is_cut_and_reloaded_after_every_event():
    plain, cut = run_bpmn(CORPUS), run_bpmn(CORPUS, through_json)
    assert cut.results == plain.results
