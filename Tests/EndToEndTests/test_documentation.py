"""docs/conformance.md names statements, files and tests: all of them exist, and no statement that the sources name lacks."""

import re

import pytest

from dunlin import ROOT

PAGE = (ROOT / "docs/conformance.md").read_text()
STATEMENT = r"MQTT3?-\d+(?:\.\d+)+-\d+"
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if re.match(rf"\| {STATEMENT} \|", line)
]


def source_files(*folders):
    return [path for folder in folders for path in (ROOT / folder).rglob("*.swift")]


SOURCES = source_files("Sources/Protocol", "Sources/LocalBroker", "Sources/Cluster", "Sources/node")
TESTS = {}
for path in [*source_files("Tests"), *(ROOT / "Tests/EndToEndTests").glob("*.py")]:
    # Two modules may have a file of the same name.
    TESTS[path.stem] = TESTS.get(path.stem, "") + path.read_text()


def test_each_statement_has_one_row():
    statements = [row[0] for row in ROWS]
    assert len(statements) > 300
    assert [name for name in set(statements) if statements.count(name) > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_whole(row):
    assert len(row) == 4
    _statement, words, where, shown_by = row
    assert words and shown_by
    # What needs no implementation says why in the place of the test.
    assert where or "`" not in shown_by


def test_the_files_named_exist():
    names = {path.name for path in SOURCES}
    named = {name for row in ROWS for name in re.findall(r"`([^`]+\.swift)`", row[2])}
    assert named - names == set()


def exists(reference):
    file, name = reference.split("::", 1)
    text = TESTS.get(file, "")
    return f"def {name}(" in text if file.startswith("test_") else f'"{name}"' in text or f"func `{name}`" in text


def test_the_tests_named_exist():
    named = set(re.findall(r"`(\w+::[^`]+)`", PAGE))
    assert len(named) > 50
    assert [reference for reference in sorted(named) if not exists(reference)] == []


def test_the_statements_that_the_sources_name_are_there():
    # Those of clients stand in a paragraph of their own.
    known = set(re.findall(STATEMENT, PAGE))
    named = {f"{path.name}: {statement}" for path in SOURCES for statement in re.findall(STATEMENT, path.read_text())}
    assert sorted(use for use in named if use.split(": ")[1] not in known) == []
