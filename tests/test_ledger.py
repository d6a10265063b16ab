"The record of long tests: it forgets as soon as anything changes on which a result can depend, and only then."
import json
import subprocess
import sys

import pytest

from tests import ledger

FILES = {
    "constraints.txt": "numpy==2",
    "uqphys/low.py": '"Low."\ndef f():\n    "What."\n    return 1  # one\n',
    "uqphys/high.py": "from .low import f\n",
    "uqphys/sampling.py": "",
    "uqphys/clusters.py": "METHODS = {}\n",
    "uqphys/other.py": "x = 1\n",
    "studies/walk.json": "{}",
    "studies/walk.py": "z = 1\n",
    "studies/run.py": "z = 1\n",
    "tests/common.py": "y = 1\n",
    "tests/test_it.py": "from tests import common\nfrom uqphys.high import f\nimport uqphys.sampling\nSTUDY = 'studies/walk.json'\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    "A small project."
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(ledger, "ROOT", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget():
    ledger.meaning.cache_clear()
    ledger.imported.cache_clear()


def test_what_a_test_depends_on(root):
    found = {str(path.relative_to(root)) for path in ledger.sources(root / "tests/test_it.py")}
    assert found == set(FILES) - {"uqphys/other.py", "studies/run.py"}


def test_what_is_imported_by_name():
    "sampling() finds the modules of some methods by their names; nothing else of the package does so, but for files of weights and a study's black box."
    from uqphys import sampling

    assert {f"uqphys.{home}" for home in sampling._ABOVE.values()} == set(ledger.BY_NAME["uqphys/sampling.py"])
    asking = {path.name for path in (ledger.ROOT / "uqphys").glob("*.py") if "import_module(" in path.read_text()}
    assert asking == {"sampling.py", "training.py", "studies.py"}


@pytest.mark.parametrize("name, old, new, same", [
    ("uqphys/low.py", "return 1", "return 2", False),
    ("uqphys/low.py", "# one", "# a one", True),
    ("uqphys/low.py", '"What."', '"Something else."', True),
    ("uqphys/high.py", "from .low import f", "from .low import f, f as g", False),
    ("uqphys/clusters.py", "{}", "{1: 2}", False),
    ("uqphys/other.py", "1", "2", True),
    ("studies/walk.json", "{}", "[]", False),
    ("studies/walk.py", "1", "2", False),
    ("studies/run.py", "1", "2", True),
    ("constraints.txt", "2", "3", False),
    ("tests/common.py", "1", "2", False),
    ("tests/test_it.py", "'studies", "f'studies", False),
])
def test_it_forgets_what_may_have_changed(root, name, old, new, same):
    test, file = root / "tests/test_it.py", root / "passed.json"
    ledger.write({test: {"test_slow": 10.0, "test_quick": 0.1}}, file)
    assert ledger.known(test, file) == {"test_slow"}
    text = (root / name).read_text()
    assert old in text
    (root / name).write_text(text.replace(old, new))
    forget()
    assert ledger.known(test, file) == ({"test_slow"} if same else set())


@pytest.mark.parametrize("text", ["", "[]", "{", "\0", '{"test_it.py": {"sources": "0", "passed": {"test_slow": 9}}}'])
def test_without_a_good_record_everything_runs(root, text):
    (root / "passed.json").write_text(text)
    assert ledger.known(root / "tests/test_it.py", root / "passed.json") == set()


def test_a_test_of_whatever_is_there_always_runs(root):
    test, file = root / "tests/test_it.py", root / "passed.json"
    test.write_text("PAGES = 'nbs'\n")
    ledger.write({test: {"test_slow": 10.0}}, file)
    assert ledger.known(test, file) == set()


def test_a_new_run_adds_to_the_same_sources_and_replaces_others(root):
    test, file = root / "tests/test_it.py", root / "passed.json"
    ledger.write({test: {"test_a": 10.0}}, file)
    ledger.write({test: {"test_b": 20.0}}, file)
    assert ledger.known(test, file) == {"test_a", "test_b"}
    (root / "uqphys/low.py").write_text("def f(): return 3\n")
    forget()
    ledger.write({test: {"test_b": 20.0}}, file)
    assert ledger.known(test, file) == {"test_b"} and json.loads(file.read_text())["test_it.py"]["passed"] == {"test_b": 20.0}


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "with workers"])
def test_pytest_enters_skips_and_runs_again(tmp_path, workers):
    "In a small project with this conftest: the first run takes all and enters the long one that passed, the second skips it."
    (tmp_path / "tests").mkdir()
    for name in ("conftest.py", "ledger.py"):
        (tmp_path / "tests" / name).write_text((ledger.ROOT / "tests" / name).read_text())
    (tmp_path / "studies").mkdir()
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    test = "import time\ndef test_long(): time.sleep(3.1)\ndef test_bad(): time.sleep(3.1); assert 0\ndef test_short(): pass\n"
    (tmp_path / "tests/test_it.py").write_text(test)
    run = lambda *args: subprocess.run([sys.executable, "-m", "pytest", "-q", *workers, *args], cwd=tmp_path, capture_output=True, text=True).stdout
    first, second = run("--all"), run()
    assert "1 failed, 2 passed" in first and "1 failed, 1 passed, 1 skipped" in second, first + second
    assert "1 skipped: passed before with exactly these sources" in second
    assert set(json.loads((tmp_path / "tests/passed.json").read_text())["test_it.py"]["passed"]) == {"test_long"}
    (tmp_path / "tests/test_it.py").write_text(test.replace("test_short(): pass", "test_short(): assert True"))
    assert "1 failed, 2 passed" in run()
