"""Render the site from the notebooks into _site/, then look at it: pages, headings, pictures, links, formulas.

Quarto renders where it is installed; otherwise smalldocs renders the same _quarto.yml, with the KaTeX that lies in
tools/katex/, so that the pages need no network. Either way nbdev first makes a page of each notebook in _proc/ (hidden
cells, signatures, links to symbols), and the page of 00_models.ipynb is called models.html.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
PROC, SITE, KATEX = ROOT / "_proc", ROOT / "_site", ROOT / "tools" / "katex"
NUMBER = re.compile(r"(?<![\w./])\d+[a-z0-9]*_(\w+\.ipynb)")  # 00_models.ipynb -> models.ipynb
METHOD = re.compile(r"(\w+\.html#\w+)\.\w+")  # a method is described under its class: phi4.from_mass -> phi4
CDN = re.compile(r'https://cdn\.jsdelivr\.net/npm/katex@[^/"]+/dist/')


def pages():
    "Let nbdev make the pages in _proc/, and drop the numbers from their names and links."
    from nbdev.config import get_config
    from nbdev.serve import proc_nbs

    os.chdir(ROOT)
    shutil.rmtree(PROC, ignore_errors=True)
    try:
        proc_nbs("nbs", n_workers=0, force=True)
    except Exception as error:  # often an import that shares its cell with other code
        sys.exit(f"docs: nbdev makes no page. {error}\n{error.__cause__!r}")
    config = get_config()
    own, source = f"{config.doc_host}{config.doc_baseurl}/", f"]({config.git_url}/blob/{config.branch}/"
    for path in [*PROC.rglob("*.ipynb"), PROC / "_quarto.yml"]:
        text = NUMBER.sub(r"\1", path.read_text(encoding="utf-8"))
        if path.suffix == ".ipynb":  # links: to our symbols within the site, to the project's files in its repository
            text = re.sub(r'^.*"output-file: .*\n', "", text.replace(own, "").replace("](../", source), flags=re.M)
            text = METHOD.sub(r"\1", text)
        path.write_text(text, encoding="utf-8")
        path.rename(path.with_name(NUMBER.sub(r"\1", path.name)))


def render():
    "Render _proc/ with Quarto or smalldocs; returns what was used."
    quarto, smalldocs = shutil.which("quarto"), Path(sys.executable).with_name("smalldocs")
    if not (quarto or smalldocs.exists()):
        sys.exit("docs: neither Quarto nor smalldocs (Python >= 3.11) is installed")
    command = [quarto, "render"] if quarto else [str(smalldocs), "render", "--quiet"]
    name = "Quarto" if quarto else "smalldocs (Quarto is not installed)"
    if subprocess.run([*command, str(PROC)]).returncode:
        sys.exit(f"docs: {name} failed")
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.move(PROC / "_site", SITE)
    return name


def own_katex():
    "Put KaTeX into the site, and point every page to it."
    shutil.copytree(KATEX, SITE / "site_libs" / "katex")
    for page in SITE.rglob("*.html"):
        up = "../" * len(page.relative_to(SITE).parent.parts)
        page.write_text(CDN.sub(f"{up}site_libs/katex/", page.read_text(encoding="utf-8")), encoding="utf-8")


class Page(HTMLParser):
    "What one HTML page holds: headings, pictures, ids, links."

    def __init__(self, path):
        super().__init__()
        self.headings, self.pictures, self.ids, self.links = 0, 0, set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.headings += tag in ("h1", "h2")
        self.pictures += tag in ("img", "svg")
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        self.links += [found[key] for key in ("href", "src") if found.get(key)]


def faults():
    "What is wrong with the site, one line each."
    site = {path.relative_to(SITE).as_posix(): Page(path) for path in SITE.rglob("*.html")}
    for book in sorted((ROOT / "nbs").glob("*.ipynb")):
        name = NUMBER.sub(r"\1", book.name).replace(".ipynb", ".html")
        cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
        stored = sum("image/png" in out.get("data", {}) for cell in cells for out in cell.get("outputs", []))
        if name not in site:
            yield f"{book.name} has no page"
        elif not site[name].headings or site[name].pictures < stored:
            yield f"{name} has {site[name].headings} headings, {site[name].pictures} of {stored} pictures"
    for name, page in site.items():
        for link in page.links:
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z][a-z0-9+.-]*:|//", link):
                continue
            target = os.path.normpath(os.path.join(os.path.dirname(name), path.partition("?")[0])) if path else name
            target = os.path.join(target, "index.html") if (SITE / target).is_dir() else target
            if not (SITE / target).exists():
                yield f"{name} links to {link}, which does not exist"
            elif anchor and target in site and anchor not in site[target].ids:
                yield f"{name} links to {link}, where there is no such place"


def main():
    "Render and check."
    pages()
    name = render()
    if name != "Quarto":
        own_katex()
    wrong = sorted(set(faults()))
    pages_made = len(list(SITE.rglob("*.html")))
    print("\n".join([*wrong, f"docs: {pages_made} pages in _site/, rendered by {name}; {len(wrong)} faults"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
