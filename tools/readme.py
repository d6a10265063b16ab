"""README.md from nbs/index.ipynb, with nbconvert (nbdev's own command needs Quarto).

Cells marked `#| hide` or `#| include: false` are dropped, `#| echo: false` drops the code, `#| output: false` the
output. Pictures go to nbs/images/readme_*.png. The same notebook always gives the same bytes.

    python tools/readme.py [--root FOLDER]
"""
import argparse
import re
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

MARK = "<!-- Generated from nbs/index.ipynb by tools/readme.py: edit the notebook. -->\n\n"
DIRECTIVE = re.compile(r"^#\|[ \t]*(\S[^\n]*?)[ \t]*$\n?", re.M)
LINK = re.compile(r"(\]\()(?![a-z][a-z+.-]*:|[/#])([^)\s]+)")
ORDER = ["text/markdown", "image/svg+xml", "image/png", "text/html", "text/plain"]


def directives(cell):
    "The `#|` lines at the top of a code cell, as a set such as {'hide', 'echo: false'}."
    return {re.sub(r":\s*", ": ", d).lower() for d in DIRECTIVE.findall(cell.source)}


def visible(cell):
    "The cell as a reader of the README sees it, or None where it is hidden."
    if cell.cell_type != "code":
        return cell
    marks = directives(cell)
    cell.source = DIRECTIVE.sub("", cell.source).strip()
    if marks & {"hide", "include: false"} or not (cell.source or cell.outputs):
        return None
    if "output: false" in marks:
        cell.outputs = []
    cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    if "echo: false" in marks:
        cell.source = ""
    return cell


def pictures_and_links(body, resources, root):
    "Store the pictures, and let every relative link start from the project's top folder."
    images = root / "nbs" / "images"
    for old in images.glob("readme_*"):
        old.unlink()
    for number, (name, data) in enumerate(sorted((resources.get("outputs") or {}).items())):
        images.mkdir(exist_ok=True)
        stored = f"images/readme_{number}{Path(name).suffix}"
        (root / "nbs" / stored).write_bytes(data)
        body = body.replace(f"]({name})", f"]({stored})").replace("![png]", "![figure]").replace("![svg]", "![figure]")
    return LINK.sub(lambda m: m[1] + (m[2][3:] if m[2].startswith("../") else "nbs/" + m[2]), body)


def readme(root):
    "The text of README.md."
    nb = nbformat.read(root / "nbs" / "index.ipynb", 4)
    nb.cells = [cell for cell in map(visible, nb.cells) if cell is not None]
    nb.metadata.language_info = {"name": "python"}
    config = Config()
    config.NbConvertBase.display_data_priority = ORDER
    body, resources = MarkdownExporter(config=config).from_notebook_node(nb)
    body = re.sub(r"```python\n\s*```\n", "", body)  # a cell without its code
    body = re.sub(r"<style[^>]*>.*?</style>\n?", "", body, flags=re.S)
    body = pictures_and_links(body, resources, root)
    body = re.sub(r"[ \t]+$", "", body, flags=re.M)
    return MARK + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def main():
    "Write README.md, where there is a nbs/index.ipynb."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the project's folder")
    root = parser.parse_args().root
    if not (root / "nbs" / "index.ipynb").exists():
        print("readme: there is no nbs/index.ipynb")
        return
    text = readme(root)
    (root / "README.md").write_text(text, encoding="utf-8")
    print(f"readme: README.md, {len(text.splitlines())} lines")


if __name__ == "__main__":
    main()
