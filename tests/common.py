"""What several test files do alike."""
import importlib
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest


def row_name(table):
    "Names for parametrised rows (function, call, argument, value, accepted)."
    return lambda k: f"{table[k][0]}-{table[k][2]}-{table[k][3]}".replace("\\", "")


def assert_refused(call, things, argument, value, accepted):
    "One ValueError in one line, which names the argument, shows the value, and says what is accepted; nothing global changed."
    state = np.random.get_state()[1].tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a refusal comes before any arithmetic on bad numbers
        with pytest.raises(ValueError) as caught:
            call(things)
    message = str(caught.value)
    assert "\n" not in message and 10 < len(message) < 300, message
    assert re.search(rf"(?<![\w])({argument})(?![\w])", message), f"does not name the argument {argument}: {message}"
    assert re.search(value, message), f"does not show {value}: {message}"
    assert re.search(accepted, message), f"does not say what is accepted ({accepted}): {message}"
    assert np.random.get_state()[1].tobytes() == state


def rows_of(function, make, argument, values, accepted):
    "The same call, make(things, value), with one argument at several bad values; `values` are pairs of a value and how it is shown."
    return [(function, lambda t, value=value: make(t, value), argument, shown, accepted) for value, shown in values]


def assert_complete(modules, table, exempt):
    "Every public callable of the modules stands in the table or among the exemptions, and these name what exists."
    walked, public = {row[0] for row in table}, set()
    for module in modules:
        short = module.__name__.split(".")[-1]
        public |= {f"{short}.{name}" for name in module.__all__ if callable(getattr(module, name))}
    assert public - walked - set(exempt) == set()
    assert not walked & set(exempt), "a row makes the exemption needless"
    for name in walked | set(exempt):
        home, function = name.split(".")
        assert function in importlib.import_module(f"uqphys.{home}").__all__, name


def assert_threads_do_not_matter(code):
    "A program prints the same 64 characters in a process with one thread and in one with two."
    printed = set()
    for threads in ("1", "2"):
        environment = os.environ | {"NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        printed.add(done.stdout.strip())
    assert len(printed) == 1 and len(printed.pop()) == 64
