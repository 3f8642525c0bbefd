"""Hostile and unusual files: a diagnostic or a graph, never anything else."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bpmn.builders import NAMESPACES, bpmn, errors, flows, run, tasks
from workflows.bpmn.deployment import check
from workflows.bpmn.diagnostics import Rule

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(12))
    + "]><definitions>&m;</definitions>"
)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", Rule.NOT_XML),
        (b"not xml", Rule.NOT_XML),
        (b"\x00\x01\x02\xff\xfe", Rule.NOT_XML),
        (b"<definitions>", Rule.NOT_XML),
        (b"<a/>", Rule.NOT_BPMN),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', Rule.NOT_XML),
        (b'<definitions xmlns="http://example.org/other"/>', Rule.NOT_BPMN),
        (f"<!DOCTYPE d><definitions {NAMESPACES}/>".encode(), Rule.DOCTYPE),
        (b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>', Rule.DOCTYPE),
        (b'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>', Rule.DOCTYPE),
        (b"x" * (5 * 1024 * 1024 + 1), Rule.TOO_LARGE),
        (b"<a>" * 200_000 + b"</a>" * 200_000, Rule.TOO_LARGE),
        (b"<a>" * 100_000 + b"</a>" * 100_000, Rule.TOO_DEEP),
        (b"<a>" * 300 + b"</a>" * 300, Rule.TOO_DEEP),
    ],
)
def test_a_file_that_is_no_bpmn_is_refused(data: bytes, rule: Rule):
    assert [found for found, _ in errors(data)] == [rule]


def test_an_entity_bomb_is_refused():
    assert next(found for found, _ in errors(BOMB.encode())) in (Rule.DOCTYPE, Rule.NOT_XML)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "windows-1252", "iso-8859-1"])
def test_files_of_other_encodings_are_read(encoding: str):
    text = bpmn(tasks("a").replace("/>", ' name="Prüfen"/>'), flows("s>a>e")).decode()
    declared = encoding.removesuffix("-le")
    data = f'<?xml version="1.0" encoding="{declared}"?>{text}'.encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    assert run(data).main.graph.nodes["a"].name == "Prüfen"


def test_deeply_nested_sub_processes_are_refused_and_moderately_nested_ones_run():
    def nested(depth: int) -> bytes:
        inside = tasks("a")
        for level in range(depth):
            inside = f'<subProcess id="u{level}">{inside}</subProcess>'
        return bpmn(inside, flows(f"s>u{depth - 1}>e"))

    assert run(nested(38)).log == ["a"]
    assert Rule.TOO_DEEP in {rule for rule, _ in errors(nested(100))}


def test_long_names_deep_expressions_and_huge_numbers_are_answered():
    deep = "(" * 5000 + "1" + ")" * 5000
    data = bpmn(
        f'<exclusiveGateway id="g"/><task id="{"x" * 100_000}" startQuantity="{"9" * 5000}"/>',
        flows("s>g", f"g>e: {deep}"),
    )
    assert errors(data)
    juel = "${" + "(" * 5000 + "1" + ")" * 5000 + "}"
    assert errors(bpmn('<exclusiveGateway id="g"/>', flows("s>g", f"g>e: {juel}")))
    nots = "${" + "!" * 5000 + "x}"
    assert errors(bpmn('<exclusiveGateway id="g"/>', flows("s>g", f"g>e: {nots}")))


MEMORY = """
import resource, sys
from workflows.bpmn.deployment import check
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = sys.stdin.buffer.read()
found = check(data)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) // 1024, len(found))
"""

_HEAD = f'<definitions {NAMESPACES}><process id="p" isExecutable="true">'
_TAIL = "</process></definitions>"


@pytest.mark.parametrize(
    "data",
    [
        _HEAD + "".join(f'<task id="t{i}"/>' for i in range(120_000)) + _TAIL,
        _HEAD + "".join(f'<task id="t{i}"/>' for i in range(9_900))
        + "".join(f'<sequenceFlow id="f{i}" sourceRef="t{i}" targetRef="t{i + 1}"/>' for i in range(9_800))
        + _TAIL,
        _HEAD + '<task id="a"/>' * 90_000 + _TAIL,
        _HEAD + "<x " + " ".join(f'a{i}="1"' for i in range(300_000)) + "/>" + _TAIL,
        _HEAD + "<documentation>" + "x" * 4_900_000 + "</documentation>" + _TAIL,
        BOMB,
    ],
    ids=["many-tasks", "largest-chain", "duplicates", "attributes", "text", "bomb"],
)  # fmt: skip
def test_no_file_takes_more_than_256_megabytes(data: str):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=data.encode(),
        capture_output=True,
        cwd=root,
        timeout=60,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (50, 50)),
    )
    grown, _ = map(int, done.stdout.split())
    assert grown < 256


def test_checking_never_raises_for_broken_copies_of_a_good_file():
    good = bpmn(tasks("a", "b"), flows("s>a>b>e"))
    for cut in range(0, len(good), 7):
        check(good[:cut])
        check(good[:cut] + b"<" + good[cut:])
        check(good[:cut] + good[cut + 5 :])


@pytest.mark.parametrize(
    "element",
    [
        '<task id="t{i}" isForCompensation="true"/>',
        '<intermediateThrowEvent id="t{i}"><linkEventDefinition name="L{i}"/></intermediateThrowEvent>'
        '<intermediateCatchEvent id="c{i}"><linkEventDefinition name="L{i}"/></intermediateCatchEvent>',
        '<inclusiveGateway id="t{i}"/><sequenceFlow id="f{i}" sourceRef="t{i}" targetRef="t{n}"/>'
        '<sequenceFlow id="g{i}" sourceRef="t{i}" targetRef="t{n}"/>',
        '<eventBasedGateway id="t{i}"/><receiveTask id="c{i}" messageRef="msg"/>'
        '<sequenceFlow id="f{i}" sourceRef="t{i}" targetRef="c{i}"/>',
    ],
)
def test_large_models_are_checked_in_time_that_grows_with_their_size(element: str):
    body = "".join(element.replace("{i}", str(i)).replace("{n}", str(i + 1)) for i in range(4000))
    begin = time.process_time()
    check(bpmn(body, '<inclusiveGateway id="t4000"/>' if "inclusive" in element else ""))
    assert time.process_time() - begin < 20
