"""The command: bad study files get one line, good ones a complete report, and the same seed the same bytes."""
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from uqphys.cli import _app, parse_study, prepare_folder, read_study
from uqphys.training import write_file
from uqphys.exact import enumerate_states

ROOT = Path(__file__).resolve().parents[1]
STUDIES = [ROOT / "studies" / name for name in ("too_simple.toml", "local_energy_16.toml")]
COLUMNS = {"surrogate", "predicted_bias", "low", "high", "corrected", "error", "exact_evaluations", "trust"}
GOOD = """seed = 3
temperature = 2.6
[model]
shape = [4, 4]
K = 0.2
[training]
n = 40
[surrogate]
kind = "pair-sum"
[ensemble]
draws = 400
burn_in = 100
[bias]
probes = 60
"""


def call(*words):
    "The command in this process: exit code, output, error lines."
    done = CliRunner().invoke(_app, [str(word) for word in words], prog_name="uqphys")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def run_study(text, folder):
    "Run a study given as text; the folder with its files."
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return call("bias", folder / "study.toml", "--out", folder / "out")


BAD = [  # what is replaced, by what, and what the line must name
    ("seed = 3", "", "seed: missing"),
    ("seed = 3", "seed = -1", "seed = -1"),
    ("seed = 3", "seed = true", "seed = true"),
    ("seed = 3", "seed = 3\nsede = 4", "sede"),
    ("temperature = 2.6", "", "beta, temperature"),
    ("temperature = 2.6", "temperature = 2.6\nbeta = 0.4", "beta, temperature"),
    ("temperature = 2.6", "temperature = 0", "temperature = 0"),
    ("temperature = 2.6", "temperature = 1e-320", "temperature = 1e-320"),
    ("temperature = 2.6", "beta = -0.4", "beta = -0.4"),
    ("temperature = 2.6", "beta = nan", "beta = NaN"),
    ("temperature = 2.6", 'beta = "cold"', 'beta = "cold"'),
    ("temperature = 2.6", "beta = 2024-01-01", "beta ="),
    ("shape = [4, 4]", "", "[model] shape: missing"),
    ("shape = [4, 4]", "shape = 4", "[model] shape = 4"),
    ("shape = [4, 4]", "shape = [4]", "[model] shape = [4]"),
    ("shape = [4, 4]", "shape = [4, 1]", "[model] shape = [4, 1]"),
    ("shape = [4, 4]", "shape = [4, 4.0]", "[model] shape = [4, 4.0]"),
    ("shape = [4, 4]", 'shape = [4, 4]\nkind = "potts"', '[model] kind = "potts"'),
    ("K = 0.2", "K = inf", "[model] K = Infinity"),
    ("K = 0.2", 'K = "0.2"', "[model] K"),
    ("K = 0.2", "k = 0.2", "[model] k: unknown"),
    ("n = 40", "n = 2", "[training] n = 2"),
    ("n = 40", "n = 40.0", "[training] n = 40.0"),
    ("n = 40", "n = 40\nbeta = -1", "[training] beta = -1"),
    ('kind = "pair-sum"', "", "[surrogate] kind: missing"),
    ('kind = "pair-sum"', 'kind = "oracle"', '[surrogate] kind = "oracle"'),
    ('kind = "pair-sum"', 'kind = "pair-sum"\nhidden = [0]', "[surrogate] hidden = [0]"),
    ('kind = "pair-sum"', 'kind = "pair-sum"\nhidden = 16', "[surrogate] hidden = 16"),
    ('kind = "pair-sum"', 'kind = "pair-sum"\nepochs = -5', "[surrogate] epochs = -5"),
    ("draws = 400", "draws = 0", "[ensemble] draws = 0"),
    ("burn_in = 100", 'burn_in = "long"', '[ensemble] burn_in = "long"'),
    ("burn_in = 100", "burn_in = 100\nchains = 0", "[ensemble] chains = 0"),
    ("probes = 60", "probes = 4", "[bias] probes = 4"),
    ("probes = 60", 'evidence = "hope"', '[bias] evidence = "hope"'),
    ("probes = 60", 'choice = "best"', '[bias] choice = "best"'),
    ("probes = 60", "draws = 10", "[bias] draws = 10"),
    ("probes = 60", 'estimator = "cumulant3"', '[bias] estimator = "cumulant3"'),
    ("probes = 60", 'observables = ["charge"]', "[bias] observables"),
    ("probes = 60", "observables = []", "[bias] observables = []"),
    ("[training]", "[trainings]", "[trainings]"),
    ("[training]", "[[training]]", "training"),
    ("[model]", "[model", "line 3"),
    ("seed = 3", "seed =", "line 1"),
    ("seed = 3", "seed = 3\nseed = 4", "line 2"),
]


@pytest.mark.parametrize("old, new, named", BAD, ids=[f"{new or 'no ' + old}".replace("\n", " ") for old, new, _ in BAD])
def test_a_bad_study_gets_one_line_that_names_the_key(old, new, named, tmp_path):
    assert GOOD.count(old) == 1
    code, shown, said = run_study(GOOD.replace(old, new), tmp_path)
    assert code == 2 and shown == "" and said.count("\n") == 1 and "Traceback" not in said
    assert named in said and "study.toml" in said
    assert not (tmp_path / "out").exists(), "the folder was made for nothing"


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"seed = \xff\xfe")
    (tmp_path / "empty.toml").write_text("")
    for name, named in (("absent.toml", "No such file"), ("binary.toml", "byte 7"), (".", "cannot be read"), ("empty.toml", "missing")):
        code, shown, said = call("bias", tmp_path / name, "--out", tmp_path / "out")
        assert code == 2 and shown == "" and said.count("\n") == 1 and named in said and "Traceback" not in said


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "study.toml").write_text(GOOD)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        for words in (("bias", tmp_path / "study.toml"), ("demo",)):
            code, shown, said = call(*words, "--out", out)
            assert code == 2 and shown == "" and said.count("\n") == 1 and str(out) in said
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(ValueError, match="--out"):
        prepare_folder(tmp_path / "file")


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
    write_file(tmp_path / "a", "old")
    with pytest.raises(ValueError, match="content="):
        write_file(tmp_path / "a", "new \udcff")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder"):
        write_file(tmp_path / "folder", "x")
    assert (tmp_path / "a").read_text() == "old" and sorted(p.name for p in tmp_path.iterdir()) == ["a", "folder"]


@pytest.mark.parametrize("words", [(), ("bias",), ("demo",)], ids=" ".join)
def test_help_shows_examples(words):
    code, shown, _ = call(*words, "--help")
    assert code == 0 and "Examples:" in shown and "uqphys demo" in shown + "uqphys demo" * ("bias" in words)


def test_the_installed_command_is_quick_and_knows_its_version():
    from uqphys import __version__

    command = [str(Path(sys.executable).parent / "uqphys")]
    seconds = []
    for words in (["--help"], ["--version"], ["--help"]):
        start = time.perf_counter()
        done = subprocess.run(command + words, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0 and done.stderr == ""
    assert min(seconds) < 1
    assert subprocess.run([*command, "--version"], capture_output=True, text=True).stdout == f"uqphys {__version__}\n"
    wrong = subprocess.run([*command, "bias", "absent.toml", "--out", "nowhere"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and wrong.stdout == ""


def test_both_example_studies_are_read():
    for path in STUDIES:
        study = read_study(path)
        assert study.exact.n_sites in (16, 256) and study.bias["evidence"] == "probe"


def test_the_small_example_leaves_a_complete_report(tmp_path):
    study = read_study(ROOT / "studies" / "too_simple.toml")
    code, shown, said = call("bias", ROOT / "studies" / "too_simple.toml", "--out", tmp_path)
    assert code == 0 and said == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bias.png", "report.json", "report.md"]
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert list(found["observables"]) == study.bias["observables"]
    for name, row in found["observables"].items():
        assert COLUMNS <= set(row) and row["exact_evaluations"] <= 100 and row["trust"] in ("yes", "with probes", "no")
        assert row["low"] <= row["predicted_bias"] <= row["high"] and row["verdict"]
        assert abs(row["surrogate"] - row["predicted_bias"] - row["corrected"]) < 1e-12
        assert f"| {name} |" in (tmp_path / "report.md").read_text(encoding="utf-8") and name in shown
    exact = enumerate_states(study.exact, study.beta).averages
    assert all(abs(found["observables"][name]["exact"] - exact[name]) < 1e-12 for name in ("energy", "abs_m", "m2"))
    assert parse_study(found["study"]) == study, "the report holds the study that made it"
    assert (tmp_path / "bias.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    text = GOOD.replace('"pair-sum"', '"local-energy-net"\nepochs = 30')
    for name in ("one", "two"):
        code, _, said = run_study(text, tmp_path / name)
        assert code == 0, said
    for file in ("report.json", "report.md", "bias.png"):
        one, two = ((tmp_path / name / "out" / file).read_bytes().replace(name.encode(), b"") for name in ("one", "two"))
        assert one == two, file
    run_study(text.replace("seed = 3", "seed = 4"), tmp_path / "other")
    assert (tmp_path / "other" / "out" / "report.json").read_bytes() != (tmp_path / "one" / "out" / "report.json").read_bytes()


def test_posterior_evidence_a_field_and_a_lattice_too_large_to_enumerate(tmp_path):
    text = GOOD.replace("n = 40", "n = 400").replace("shape = [4, 4]", "shape = [6, 6]\nh = 0.1").replace("probes = 60", 'evidence = "posterior"\nobservables = ["m"]')
    code, shown, said = run_study(text, tmp_path)
    assert code == 0 and "exact" not in shown.split("observable", 1)[1].splitlines()[0], said
    row = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["observables"]["m"]
    assert row["exact_evaluations"] == 0 and "exact" not in row and row["surrogate"] > 0


def test_exact_chains_as_evidence_and_another_choice_of_probes(tmp_path):
    for name, told in (("exact", 'evidence = "exact"\ndraws = 200'), ("active", 'choice = "active"\nprobes = 40'), ("spanning", 'choice = "spanning"\nprobes = 40')):
        code, shown, said = run_study(GOOD.replace("probes = 60", told), tmp_path / name)
        assert code == 0, said
        found = json.loads((tmp_path / name / "out" / "report.json").read_text(encoding="utf-8"))
        settings = found["settings"]
        assert settings["evidence"] == ("exact" if name == "exact" else "probe") and settings.get("choice", name) == name
        for row in found["observables"].values():
            sigma = (row["high"] - row["low"]) / 3.92
            assert abs(row["predicted_bias"] - row["exact_bias"]) < 4.5 * sigma and row["verdict"].startswith(row["trust"] + ": ")


def test_an_error_from_deeper_down_is_one_line(tmp_path):
    text = GOOD.replace("draws = 400", "draws = 12\nchains = 1").replace("shape = [4, 4]", "shape = [100000, 100000]")
    code, _, said = run_study(text, tmp_path)
    assert code == 2 and said.count("\n") == 1 and "Traceback" not in said


def test_the_demonstration(tmp_path):
    code, shown, said = call("demo", "--out", tmp_path / "demo", "--seed", 5)
    assert code == 0 and said == ""
    header = "observable      exact    surrogate  exact bias  predicted bias"
    assert shown.count(header) == 4 and "inside" in shown and "trust" in shown and "wrote" in shown
    cases = json.loads((tmp_path / "demo" / "report.json").read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 2
    for case in cases.values():
        assert set(case) == {"posterior", "probe"}
        for report in case.values():
            assert set(report["observables"]) == {"energy", "abs_m", "m2", "susceptibility"}
            assert all(COLUMNS | {"exact", "exact_bias", "inside"} <= set(row) for row in report["observables"].values())
    simple = next(iter(cases.values()))
    assert not any(row["trust"] == "yes" for row in simple["posterior"]["observables"].values())
    page = (tmp_path / "demo" / "report.md").read_text(encoding="utf-8")
    assert "![" in page and (tmp_path / "demo" / "bias.png").stat().st_size > 10_000


@pytest.mark.parametrize("asked, shown", [
    (["--systems", "ising 5x5"], "--systems ising 5x5: accepted are ising 4x4"), (["--methods", "net"], "--methods net: accepted are last layer"),
    (["--redo", "ising 4x4,GP"], "--redo ising 4x4,GP: expected SYSTEM,METHOD,NUMBER"), (["--redo", "a,b,-1"], "--redo a,b,-1"), (["--collect"], "holds no finished rows")])
def test_a_benchmark_that_cannot_be_run_is_one_line(tmp_path, asked, shown):
    code, _, said = call("benchmark", *asked, "--out", tmp_path / "rows")
    assert code == 2 and said.count("\n") == 1 and shown in said, said
    assert not list((tmp_path / "rows").glob("*")), "nothing was run"


def test_a_row_of_the_benchmark_from_the_command_line(tmp_path):
    asked = ("benchmark", "--systems", "ising 4x4", "--methods", "pair sum", "--repetitions", 1, "--out", tmp_path)
    code, shown, said = call(*asked)
    assert code == 0 and said == "" and "posterior" in shown and "coverage of all intervals" in shown
    before = (tmp_path / "benchmark.json").read_text(encoding="utf-8")
    assert call(*asked)[0] == 0 and (tmp_path / "benchmark.json").read_text(encoding="utf-8") == before, "nothing was left to do"
    assert call(*asked, "--redo", "ising 4x4,pair sum,0")[0] == 0
