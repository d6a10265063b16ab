"""A program of studies/ as a module: a new one each time, so that a test may change it."""
import importlib.util
from pathlib import Path

STUDIES = Path(__file__).resolve().parents[1] / "studies"


def load_study(
    file: str,  # its name, such as "plaquette.py"
):  # the module
    "Load a program of studies/."
    spec = importlib.util.spec_from_file_location(f"study_{Path(file).stem}", STUDIES / file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
