"""The page: one HTML file with everything in it, made from the raw figures."""

import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
D3 = "/usr/share/nodejs/d3/dist/d3.min.js"


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(report, path):
    """False, and nothing written, where d3 is not installed."""
    if not os.path.exists(D3):
        return False
    parts = {"/*STYLE*/": _read(os.path.join(HERE, "page.css")),
             "/*D3*/": _read(D3).replace("</script", "<\\/script"),
             "/*DATA*/": json.dumps(report).replace("</", "<\\/"),
             "/*THREADS*/": _read(os.path.join(HERE, "page_threads.js")),
             "/*COUNTED*/": _read(os.path.join(HERE, "page_counted.js")),
             "/*MALLOC*/": _read(os.path.join(HERE, "page_malloc.js")),
             "/*SCRIPT*/": _read(os.path.join(HERE, "page.js"))}
    text = _read(os.path.join(HERE, "page.html"))
    for mark, part in parts.items():
        text = text.replace(mark, part, 1)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return True
