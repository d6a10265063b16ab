"The longest files come first, so that no worker is left alone with one of them at the end; what passed with these sources is skipped."
import collections
from pathlib import Path

import pytest

from tests import ledger

LONG = ("test_maps.py", "test_survival.py", "test_gp.py", "test_lattice_kernels.py", "test_bias_coverage.py", "test_bias_maps.py", "test_sparse_gp.py",
        "test_pathwise.py", "test_hmc.py", "test_penalty.py", "test_variational.py", "test_last_layer.py", "test_deep_kernel.py", "test_mdn.py", "test_chains.py", "test_disorder.py", "test_training.py")
SKIPPED = "passed before with exactly these sources (tests/passed.json)"


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run also the long tests that passed with exactly these sources; enter those that pass")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if config.getoption("--all"):
        return
    known = {path: ledger.known(path) for path in {item.path for item in items}}
    for item in items:
        if item.name in known[item.path]:
            item.add_marker(pytest.mark.skip(reason=SKIPPED))


def pytest_terminal_summary(terminalreporter, config):
    reasons = collections.Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", []))
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count} skipped: {reason}")
    if config.getoption("--all"):
        enter(terminalreporter.stats)


def enter(stats):
    "Write the ledger: a test is long if its set-up and itself took long, and it has passed if all of it has."
    seconds, bad = collections.defaultdict(lambda: collections.defaultdict(float)), set()
    for reports in stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                path, name = ledger.ROOT / Path(report.nodeid.split("::")[0]), report.nodeid.split("::", 1)[1]
                seconds[path][name] += report.duration
                bad |= {(path, name)} if report.outcome != "passed" else set()
    ledger.write({path: {n: t for n, t in tests.items() if (path, n) not in bad} for path, tests in seconds.items()})
