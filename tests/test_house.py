"""The house rules of the notebooks: floors, executed cells, pictures, docstrings, no side effects, links, formulas.

Everything is read from nbs/ and settings.ini, so that a new notebook is held to the rules as soon as it is there.
"""
import ast
import base64
import importlib
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
BOOKS = sorted(NBS.glob("*.ipynb"), key=lambda path: path.name.partition("_"))  # 10_ before 101_
CHAPTERS = [path for path in BOOKS if re.match(r"\d", path.name)]  # all but index.ipynb
MODULES = sorted(path for path in (ROOT / "uqphys").glob("*.py") if not path.name.startswith("_"))
MACHINE_PATH = re.compile(r"(?<![\w.:/-])(?:/home/|/root/|/work/|/tmp/|/Users/|/opt/|/mnt/|[A-Z]:\\\\?Users)[\w.-]*")
HEAVY = {"torch", "pyro", "gpytorch", "xarray", "numba", "pandas", "scipy", "matplotlib", "arviz", "pyerrors"}

books = pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
modules = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


# ---- reading notebooks

def cells(path, kind=None):
    "The cells of a notebook, of one kind."
    return [cell for cell in nbformat.read(path, 4).cells if kind in (None, cell.cell_type)]


def directive(cell, name):
    "The arguments of a `#| name` line in a cell, or None."
    found = re.search(rf"^#\|[ \t]*{name}\b:?[ \t]*(.*)$", cell.source, re.M)
    return found and found.group(1).strip()


def is_exported(cell):
    "Whether nbdev writes a code cell into the module."
    return any(directive(cell, name) is not None for name in ("export", "exporti", "exports"))


def exported(path):
    "The exported code cells of a notebook."
    return [cell for cell in cells(path, "code") if is_exported(cell)]


def outputs(path):
    "All stored outputs of a notebook."
    return [out for cell in cells(path, "code") for out in cell.outputs]


def floors():
    "Each module and the number of its notebook."
    found = {}
    for path in CHAPTERS:
        names = [directive(cell, "default_exp") for cell in cells(path, "code")]
        found.update({name: re.match(r"\d+", path.name).group() for name in names if name})
    return found


def imported(code):
    "The full names of the modules that a piece of code imports (also inside functions)."
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ("uqphys." if node.level else "") + (node.module or "")
            yield base
            yield from (f"{base.rstrip('.')}.{alias.name}" for alias in node.names)


def prose(cell):
    "The text of a markdown cell without code."
    text = re.sub(r"^(```|~~~).*?^\1[ \t]*$", "", cell.source, flags=re.M | re.S)
    return re.sub(r"(`+)(?!`).*?\1", "", text, flags=re.S)


# ---- the notebooks

def test_there_are_notebooks():
    assert CHAPTERS, "nbs/ holds no notebook"


@chapters
def test_a_notebook_imports_only_from_lower_floors(path):
    here, all_floors = re.match(r"\d+", path.name).group(), floors()
    for cell in exported(path):
        for name in imported(cell.source):
            module = name.partition("uqphys.")[2].partition(".")[0]
            if module in all_floors:
                assert all_floors[module] < here, f"floor {here} imports {module}, which stands on {all_floors[module]}"


@chapters
def test_exported_cells_are_short(path):
    for cell in exported(path):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= 25, f"an exported cell of {len(lines)} lines: {lines[1]!r}"
    assert len(exported(path)) <= 60, "more than 60 exported cells: split the notebook by meaning"


@books
def test_a_notebook_is_committed_executed_and_without_errors(path):
    for number, cell in enumerate(cells(path, "code")):
        kinds = [out.output_type for out in cell.outputs]
        assert "error" not in kinds, f"code cell {number} holds an error: show an expected one with try/except"
        if directive(cell, "eval") == "false" or not cell.source.strip():
            continue
        values = [getattr(node, "value", None) for node in ast.parse(cell.source).body]
        prints = any(isinstance(value, ast.Call) and getattr(value.func, "id", "") == "print" for value in values)
        assert cell.outputs or not prints, f"code cell {number} prints, but no output is stored: execute the notebook"


@chapters
def test_a_notebook_has_a_picture(path):
    assert any({"image/png", "image/svg+xml"} & set(out.get("data", {})) for out in outputs(path))


@chapters
def test_a_notebook_holds_something_against_a_known_answer(path):
    rest = "\n".join(cell.source for cell in cells(path, "code") if not is_exported(cell))
    assert re.search(r"^\s*assert\b|assert_allclose|test_eq|test_close", rest, re.M)


@chapters
def test_imports_stand_in_cells_of_their_own(path):
    # to make the pages nbdev runs the cells with an import, and no others: code beside the import would fail there
    for cell in cells(path, "code"):
        nodes = {type(node) for node in ast.walk(ast.parse(cell.source))}
        if not is_exported(cell) and nodes & {ast.Import, ast.ImportFrom}:
            assert not nodes & {ast.Expr, ast.Assign}, f"an import beside other code: {cell.source[:80]!r}"


@chapters
def test_what_is_exported_is_shown(path):
    # a function is called in a cell of the story; a class at least by the function that returns it
    shown = "\n".join(cell.source for cell in cells(path, "code") if not is_exported(cell))
    whole = "\n".join(cell.source for cell in cells(path, "code"))
    for cell in exported(path):
        for node in ast.parse(cell.source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                used = len(re.findall(rf"\b{node.name}\b", whole)) > 1 and isinstance(node, ast.ClassDef)
                assert used or re.search(rf"\b{node.name}\b", shown), f"{node.name} is exported, but never shown"


@books
def test_stored_outputs_are_light_and_clean(path):
    assert len(json.dumps(outputs(path))) < 400_000, "more than 400 kB of outputs"
    for out in outputs(path):
        assert out.get("name") != "stderr", f"a stored warning or progress bar: {out.text[:80]!r}"
        assert "application/vnd.jupyter.widget-view+json" not in out.get("data", {}), "a stored widget"


@books
def test_a_notebook_carries_no_metadata_noise(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert set(nb["metadata"]) <= {"kernelspec"}
    assert nb["metadata"]["kernelspec"] == {"display_name": "python3", "language": "python", "name": "python3"}
    assert all(not cell["metadata"] and cell.get("execution_count") is None for cell in nb["cells"]), "run make export"
    assert len({cell["id"] for cell in nb["cells"]}) == len(nb["cells"]), "two cells with one id"


@books
def test_a_notebook_names_no_path_of_a_machine(path):
    texts = [cell.source for cell in cells(path)]
    for out in outputs(path):
        data = {kind: text for kind, text in out.get("data", {}).items() if not kind.startswith("image/png")}
        texts += [out.get("text", ""), json.dumps(data)]
    assert not [found for text in texts for found in MACHINE_PATH.findall(text)]


@books
def test_a_notebook_begins_with_its_title_and_subtitle(path):
    first = cells(path)[0]
    begins = first.cell_type == "markdown" and re.match(r"# \S.*\n+> \S", first.source)
    assert begins, "begin with '# Title' and '> subtitle' in one markdown cell"


# ---- the modules

@modules
def test_a_module_names_no_path_of_a_machine(path):
    assert not MACHINE_PATH.findall(path.read_text(encoding="utf-8"))


def public(path):
    "Every public function, class and method of a module: (name, node, docstring)."
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            doc = ast.get_docstring(node) or ""
            yield node.name, node, doc
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and (inner.name == "__init__" or not inner.name.startswith("_")):
                    own = ast.get_docstring(inner) or ("" if inner.name != "__init__" else doc)
                    yield f"{node.name}.{inner.name}", inner, own


def documentable(node):
    "The parameters of a function, or the fields of a class: (name, last line)."
    if isinstance(node, ast.ClassDef):
        return [(item.target.id, item.end_lineno) for item in node.body if isinstance(item, ast.AnnAssign)]
    args = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [(arg.arg, arg.end_lineno) for arg in args if arg.arg not in ("self", "cls")]


def comments(path):
    "The numbers of the lines of a module that carry a comment."
    with path.open("rb") as file:
        return {token.start[0] for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT}


@modules
def test_public_names_are_documented(path):
    commented, missing = comments(path), []
    for name, node, doc in public(path):
        if not doc:
            missing.append(f"{name} has no docstring")
        for label, line in documentable(node):
            if not (label.startswith("_") or line in commented or re.search(rf"\b{label}\b", doc)):
                missing.append(f"{name}: {label} is not documented")
    assert not missing, "\n".join(missing)


@modules
def test_signatures_can_be_shown_on_a_page(path):
    from nbdev.showdoc import show_doc

    module = importlib.import_module(f"uqphys.{path.stem}")
    for name in getattr(module, "__all__", []):
        if callable(getattr(module, name)):
            show_doc(getattr(module, name))  # fails, for example, where an array is the default of a parameter


def python(code, *flags):
    "Run code in a fresh interpreter, and return what it printed."
    run = subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.skipif(not (ROOT / "uqphys" / "models.py").exists(), reason="no uqphys.models yet")
def test_models_is_light():
    loaded = json.loads(python("import json, sys, uqphys.models; print(json.dumps(sorted(sys.modules)))"))
    assert not HEAVY & set(loaded)
    clock = "import time; t = time.perf_counter(); import uqphys.models; print(time.perf_counter() - t)"
    assert min(float(python(clock)) for _ in range(3)) < 1.5


ALONE = """
import importlib, json, os, sys, warnings
import numpy, torch, matplotlib
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except ImportError:  # a name of a module, not a module
        pass


def state():
    legacy = numpy.random.get_state()
    return dict(numpy_random=(legacy[1].tobytes(), legacy[2:]), numpy_errors=numpy.geterr(),
                numpy_print=repr(numpy.get_printoptions()), torch_random=torch.get_rng_state().numpy().tobytes(),
                torch_dtype=torch.get_default_dtype(), torch_threads=torch.get_num_threads(),
                torch_grad=torch.is_grad_enabled(), torch_strict=torch.are_deterministic_algorithms_enabled(),
                warnings=list(warnings.filters), matplotlib=matplotlib.rcParams.copy())


def alone(module):
    "Import a module in a process of its own, which has all libraries but nothing of ours: what went wrong, or what changed."
    before = state()
    warnings.filterwarnings("error", category=SyntaxWarning)
    warnings.filterwarnings("error", category=DeprecationWarning, module="uqphys")
    during = list(warnings.filters)
    importlib.import_module(f"uqphys.{module}")
    after = dict(state(), warnings=before["warnings"] if warnings.filters == during else "changed")
    return [key for key in before if before[key] != after[key]]

found = {}
for module in sys.argv[2].split(","):
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            said = alone(module)
        except BaseException as error:
            said = [f"{type(error).__name__}: {error}"]
        os.write(write, json.dumps(said).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        found[module] = json.loads(pipe.read())
    os.wait()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def after_import():
    "For every module: what its import alone has changed, or why it failed. Libraries are imported once, before, and are not to blame."
    names = {name for path in MODULES for name in imported(path.read_text(encoding="utf-8")) if not name.startswith(("uqphys", "."))}
    names = sorted(name for name in names if not name.endswith("."))
    run = subprocess.run([sys.executable, "-c", ALONE, ",".join(names), ",".join(path.stem for path in MODULES)], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@modules
def test_importing_a_module_changes_nothing_global(path, after_import):
    assert after_import[path.stem] == []


# ---- the site

def sidebar_entries(contents):
    "All notebooks named in the sidebar."
    for entry in contents:
        if isinstance(entry, str):
            yield entry
        elif "href" in entry:
            yield entry["href"]
        else:
            yield from sidebar_entries(entry["contents"])


def test_the_sidebar_lists_the_notebooks():
    config = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))
    listed = list(sidebar_entries(config["website"]["sidebar"]["contents"]))
    assert listed == ["index.ipynb", *(path.name for path in CHAPTERS)], "index first, then in the order of the floors"
    assert (NBS / "_quarto.yml").read_text(encoding="utf-8") == (ROOT / "_quarto.yml").read_text(encoding="utf-8")


def relative_links(text):
    "The targets of the relative markdown links and pictures in a text."
    for target in re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", text):
        if not re.match(r"[a-z][a-z0-9+.-]*:|#|//", target):
            yield unquote(target.partition("#")[0])


@books
def test_links_of_a_notebook_resolve(path):
    for cell in cells(path, "markdown"):
        for target in relative_links(prose(cell)):
            assert (path.parent / target).exists(), f"{target} does not exist"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_documents_resolve(name):
    if not (ROOT / name).exists():
        pytest.skip(f"no {name} yet")
    for target in relative_links((ROOT / name).read_text(encoding="utf-8")):
        assert (ROOT / target).exists(), f"{target} does not exist"


@books
def test_the_prose_names_no_private_function(path):
    "A page links every exported name that stands in backticks, and a private one has no place on a page to link to."
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_modidx", ROOT / "uqphys" / "_modidx.py")
    index = module_from_spec(spec)
    spec.loader.exec_module(index)
    names = {name.rpartition(".")[2] for symbols in index.d["syms"].values() for name in symbols}
    private = {name for name in names if name.startswith("_") and not name.startswith("__")}
    for cell in cells(path, "markdown"):
        named = set(re.findall(r"`([\w.]+)(?:\(\))?`", cell.source)) & private
        assert not named, f"{sorted(named)} in {cell.source[:60]!r}"


@books
def test_formulas_are_closed(path):
    for cell in cells(path, "markdown"):
        text = re.sub(r"\\\$", "", prose(cell))
        blocks = text.split("$$")
        assert len(blocks) % 2, f"an open $$ in {cell.source[:60]!r}"
        assert all(part.strip() for part in blocks[1::2]), "an empty $$ $$"
        for paragraph in re.split(r"\n\s*\n", "".join(blocks[::2])):
            assert paragraph.count("$") % 2 == 0, f"an open $ in {paragraph[:80]!r}"
        for formula in blocks[1::2] + "".join(blocks[::2]).split("$")[1::2]:
            assert formula.count("{") == formula.count("}"), f"unbalanced braces in {formula!r}"


@books
def test_a_notebook_renders_to_html(path):
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter().from_filename(str(path))
    pictures = [out["data"]["image/png"] for out in outputs(path) if "image/png" in out.get("data", {})]
    titles = [title for cell in cells(path, "markdown") for title in re.findall(r"^#{1,4} .+", prose(cell), re.M)]
    assert len(re.findall(r"<h[1-4][ >]", body)) >= len(titles) >= 1
    assert len(re.findall(r"<img\b[^>]*data:image/png;base64", body)) == len(pictures)
    for picture in pictures:
        assert io.BytesIO(base64.b64decode(picture)).read(8) == b"\x89PNG\r\n\x1a\n"
