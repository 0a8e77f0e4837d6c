"""The book of Loam: read by Sphinx.

The pages are MyST Markdown.  Two directives are ours:

    ```{options}          the table of gc/api/options.def
    ```{ledger}           every invariant, by the header that states it
"""

import os
import re
import sys

from docutils import nodes
from docutils.parsers.rst import Directive

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
sys.path.insert(0, os.path.join(HERE, "tools"))
import options_def  # noqa: E402


def project_version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as file:
        return re.search(r"project\(loam VERSION ([\d.]+)", file.read())[1]


project = "Loam"
author = copyright = "the Loam authors"
release = version = project_version()
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["build", "man", "tools"]
nitpicky = True
language = "en"

myst_enable_extensions = ["deflist", "smartquotes"]
myst_heading_anchors = 3
smartquotes = False
highlight_language = "c"
pygments_style = "friendly"

html_theme = "alabaster"
html_title = f"Loam {release}"
html_static_path = ["_static"]
templates_path = ["_templates"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "description": "Automatic memory for C",
    "fixed_sidebar": True,
    "page_width": "72rem",
    "sidebar_width": "15rem",
    "body_max_width": "48rem",
    "font_family": "Charter, 'Bitstream Charter', 'Source Serif 4', "
                   "Georgia, serif",
    "head_font_family": "system-ui, 'DejaVu Sans', sans-serif",
    "font_size": "1.05rem",
    "code_font_size": "0.86em",
}
html_sidebars = {"**": ["about.html", "searchbox.html", "contents.html"]}


def cell(*children):
    entry = nodes.entry()
    paragraph = nodes.paragraph()
    paragraph += children
    entry += paragraph
    return entry


def table(titles, widths, rows):
    """A table of rows of lists of nodes."""
    frame = nodes.table(classes=["wide"])
    group = nodes.tgroup(cols=len(titles))
    frame += group
    group += [nodes.colspec(colwidth=width) for width in widths]
    head, body = nodes.thead(), nodes.tbody()
    group += [head, body]
    for into, line in [(head, [[nodes.Text(one)] for one in titles]),
                       *((body, row) for row in rows)]:
        row = nodes.row()
        row += [cell(*parts) for parts in line]
        into += row
    return frame


def literal(text):
    return nodes.literal(text, text)


class Options(Directive):
    def run(self):
        path = os.path.join(ROOT, "gc", "api", "options.def")
        self.state.document.settings.record_dependencies.add(path)
        rows = [[[literal(row.name)], [nodes.Text(row.form)],
                 [literal(row.initial)] if row.initial else [nodes.Text("—")],
                 [nodes.Text(row.meaning + ".")]]
                for row in options_def.read(path)[0]]
        return [table(["Variable", "Form", "Default", "Meaning"],
                      [22, 22, 10, 46], rows)]


# As tests/house reads them: `//   S1  name  sentence`, and lines that go on.
INVARIANT = re.compile(
    r"^//   ([A-Z]{1,3}(?:\d  |\d\d  ?))"
    r"(\S+(?: \S+){0,2}(?=  )|\S+(?= \S)) +(.*\n(?://     .*\n)*)", re.M)


class Ledger(Directive):
    def run(self):
        out = []
        for floor in self.floors():
            folder = os.path.join(ROOT, "gc", floor)
            if not os.path.isdir(folder):
                continue
            for name in sorted(os.listdir(folder)):
                if name.endswith(".h"):
                    out += self.module(floor, name, os.path.join(folder, name))
        return out

    @staticmethod
    def floors():
        with open(os.path.join(ROOT, "gc", "floors"), encoding="utf-8") as f:
            lines = [re.split(r"[#:=]", line)[0] for line in f]
        return " ".join(lines).split()

    def module(self, floor, name, path):
        self.state.document.settings.record_dependencies.add(path)
        with open(path, encoding="utf-8") as file:
            found = INVARIANT.findall(file.read())
        if not found:
            return []
        rows = []
        for tag, word, text in found:
            text = " ".join(re.sub(r"^//", "", text, flags=re.M).split())
            rows.append([[literal(tag.strip())], [nodes.Text(word)],
                         [nodes.Text(text)]])
        title = nodes.paragraph()
        title += nodes.strong("", f"{floor}/{name}")
        return [title, table(["Number", "Name", "Law"], [8, 16, 76], rows)]


def setup(app):
    app.add_directive("options", Options)
    app.add_directive("ledger", Ledger)
    app.add_css_file("loam.css")
