"""Check that what is generated is what the notebooks give: uqphys/*.py, README.md and its pictures, clean notebooks.

The work happens in a temporary copy; the project's own files are only read. Each file that differs is named with its
first differing line; exit status 1 then. `make export` brings everything into step.

    python tools/drift.py
"""
import difflib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ["nbs", "uqphys", "tools", "settings.ini", "setup.py", "README.md"]
GENERATED = ["nbs/*.ipynb", "nbs/images/readme_*", "uqphys/*.py", "README.md"]
SKIPPED = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")


def copy(to):
    "The part of the project that takes part in generating, without the modules: an orphan must not survive."
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, symlinks=True, ignore=SKIPPED)
        elif source.exists():
            shutil.copy(source, to / name)
    shutil.copy(ROOT / "_quarto.yml", to)
    for module in (to / "uqphys").glob("*.py"):
        if module.name != "__init__.py":
            module.unlink()


def generate(where):
    "Clean the notebooks, export the modules, write the README."
    here = Path(sys.executable).parent
    for command in ([here / "nbdev_clean"], [here / "nbdev_export"], [sys.executable, "tools/readme.py", "--root", "."]):
        run = subprocess.run([str(word) for word in command], cwd=where, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"drift: {Path(command[0]).name} failed:\n{run.stdout}{run.stderr}")


def files(where):
    "The generated files: relative path -> bytes."
    found = {path for pattern in GENERATED for path in where.glob(pattern)}
    return {path.relative_to(where).as_posix(): path.read_bytes() for path in sorted(found)}


def difference(stored, fresh):
    "One line about how two versions of a file differ."
    if stored is None:
        return "is not stored"
    if fresh is None:
        return "comes from no notebook"
    old, new = (data.decode("utf-8", "replace").splitlines() for data in (stored, fresh))
    lines = [line for line in difflib.unified_diff(old, new, lineterm="", n=0) if line[:1] in "+-"][2:]
    return f"differs: {len(lines)} lines, first {lines[0][:100]!r}" if lines else "differs in its line ends"


def main():
    "Compare; print what differs."
    with tempfile.TemporaryDirectory(prefix="uqphys-drift-") as folder:
        where = Path(folder).resolve()
        copy(where)
        generate(where)
        stored, fresh = files(ROOT), files(where)
    wrong = [name for name in sorted({*stored, *fresh}) if stored.get(name) != fresh.get(name)]
    for name in wrong:
        print(f"drift: {name} {difference(stored.get(name), fresh.get(name))}")
    print(f"drift: {len(fresh) - len(wrong)} files agree with the notebooks, {len(wrong)} do not")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
