"""Long tests that have passed with exactly these sources, so that they need not run again before something changes.

A test of statistics repeats a simulation hundreds of times with fixed seeds: on the same code it gives the same numbers. What such a test
depends on is found in its file: the modules it imports, with all that these import, the studies it names, and the versions in
constraints.txt. tests/passed.json keeps, for each file, a digest of these sources and the seconds of its long tests that passed.
`make test` skips those, and only while the digest is the same; `make test-all` runs everything, and writes the file anew.
"""
import ast
import functools
import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "passed.json"
BY_NAME = {"uqphys/sampling.py": ("uqphys.multispin", "uqphys.clusters", "uqphys.fields", "uqphys.tempering")}  # imported when they are used
LONG = 3.0  # seconds of a test that is worth an entry


@functools.cache
def meaning(path):
    "What of a file can change a result: of Python everything but comments and docstrings."
    if path.suffix != ".py":
        return path.read_bytes()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            body[0].value.value = None
    return ast.dump(tree).encode()


@functools.cache
def imported(path):
    "The project's own files that a Python file imports, wherever in it, those that `sampling` finds by name among them."
    names = set(BY_NAME.get(path.relative_to(ROOT).as_posix(), ()))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (above, node.module)))
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    files = {ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in names if re.match(r"(uqphys|tests|studies)\.", name)}
    return {file for file in files if file.exists()}


def named(path):
    "The files of studies/ that a test names, each with its program or its result beside it."
    text, files = path.read_text(encoding="utf-8"), [file for file in (ROOT / "studies").iterdir() if file.is_file()]
    stems = {file.stem for file in files if re.search(rf"\b{re.escape(file.name)}\b", text)}
    return {file for file in files if file.stem in stems}


def sources(path):
    "All files on which the results of a test file depend, the file itself among them."
    found, left = {ROOT / "constraints.txt"}, [path, *named(path)]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += imported(file) if file.suffix == ".py" else []
    return sorted(found)


def digest(path):
    "Sixteen hexadecimal digits that change whenever one of the sources does."
    total = hashlib.sha256()
    for file in sources(path):
        total.update(f"{file.relative_to(ROOT)}\0".encode() + hashlib.sha256(meaning(file)).digest())
    return total.hexdigest()[:16]


def read(file=FILE):
    "What is known to have passed: name of a test file -> its digest and the seconds of its long tests."
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def known(path, file=FILE):
    "The long tests of a test file that passed with the sources as they are now; none of a file that looks at whatever is there."
    if re.search(r"[\"']nbs|import_module", path.read_text(encoding="utf-8")):
        return set()
    entry = read(file).get(path.name, {})
    return set(entry["passed"]) if entry and entry["sources"] == digest(path) else set()


def write(seconds, file=FILE):
    "Enter the seconds of tests that passed, given by test file and name; entries of other sources are dropped."
    ledger = read(file)
    for path, tests in seconds.items():
        entry, now = ledger.get(path.name, {}), digest(path)
        old = entry["passed"] if entry and entry["sources"] == now else {}
        passed = old | {name: round(value, 1) for name, value in tests.items() if value >= LONG}
        ledger[path.name] = {"sources": now, "passed": dict(sorted(passed.items()))}
    ledger = {name: entry for name, entry in sorted(ledger.items()) if entry["passed"] and (ROOT / "tests" / name).exists()}
    file.write_text(json.dumps(ledger, indent=1) + "\n", encoding="utf-8")
