"""What the README shows is true: its Python runs, and its commands exist."""
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.exists(), reason="no README.md yet")


def blocks(*languages):
    "The fenced blocks of the README in one of the languages, in order."
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    fences = re.findall(r"^```[ \t]*(\w+)[^\n]*\n(.*?)^```", text, re.M | re.S)
    return [body for language, body in fences if language in languages]


def commands():
    "The shell commands of the README, without prompts, comments and continued lines."
    lines = "\n".join(blocks("sh", "bash", "shell", "console")).replace("\\\n", " ").splitlines()
    words = [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines]
    return [command for command in words if command]


def environment():
    "The environment for a fresh process: pictures without a screen, our commands first."
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "MPLBACKEND": "agg", "PATH": path}


def run(*words, **options):
    "Run a command; its output if it succeeds, else a failure that shows what it said."
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=600, **options)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def test_the_readme_has_an_example_and_the_two_commands():
    assert blocks("python")
    assert {("make", "demo"), ("make", "test")} <= {tuple(command[:2]) for command in commands()}


def test_the_python_blocks_run_in_order(tmp_path):
    program = "import json, sys\nspace = {'__name__': '__main__'}\n"
    program += "for number, block in enumerate(json.load(open('blocks.json')), 1):\n"
    program += "    exec(compile(block, f'README.md, Python block {number}', 'exec'), space)\n"
    (tmp_path / "blocks.json").write_text(json.dumps(blocks("python")), encoding="utf-8")
    (tmp_path / "run.py").write_text(program, encoding="utf-8")
    run(sys.executable, "run.py", cwd=tmp_path)


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_a_command_exists(command, tmp_path):
    if command[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in (word for word in command[1:] if "=" not in word and not word.startswith("-")):
            assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"no target {target}"
    elif command[0] == "uqphys":
        subcommand = [word for word in command[1:2] if not word.startswith("-")]
        shown = run("uqphys", *subcommand, "--help", cwd=tmp_path)
        for option in (word.partition("=")[0] for word in command[1:] if word.startswith("--")):
            assert option in shown, f"uqphys {' '.join(subcommand)} has no option {option}"
        for study in (word for word in command[1:] if word.endswith(".toml")):
            assert (ROOT / study).exists(), f"{study} does not exist"
    else:
        assert command[0] in ("git", "cd", "pip", "python", "python3", "export"), f"unknown command {command[0]}"
