"""gc/api/options.def, read by a program: the rows as the library lists them.

The words here (forms, defaults) repeat what gc/api/options.c makes of the same
rows; tests/docs/check_options.py compares the two, line by line.
"""

import re
from collections import namedtuple

Row = namedtuple("Row", "name form initial meaning")
Ignored = namedtuple("Ignored", "name meaning")

VALUES = {"SIZE_MAX": 2**64 - 1, "UINT32_MAX": 2**32 - 1}


def calls(text, macro):
    """The argument lists of `macro(...)` at the start of a line."""
    pattern = rf"^{macro}\(((?:[^()\"]|\"[^\"]*\")*)\)"
    for hit in re.finditer(pattern, text, re.M):
        parts = re.findall(r"(?:\"[^\"]*\"\s*)+|[^,\"]+", hit[1])
        parts = [part.strip() for part in parts]
        yield [unquote(part) for part in parts if part]


def unquote(part):
    """Neighbouring string literals as one text; anything else as it is."""
    if not part.startswith('"'):
        return part
    return "".join(re.findall(r'"([^"]*)"', part))


def size(number):
    for unit in ("", "KiB", "MiB", "GiB"):
        if number == 0 or number % 1024 or unit == "GiB":
            return f"{number}{unit}"
        number //= 1024
    return None


def form(kind, least, most, words):
    ranged = f"from {least} to {most}"
    listed = " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return {
        "SIZE": "bytes, as 512M or 2GiB"
                + (f", at least {size(least)}" if least else ""),
        "COUNT": f"a number {ranged}",
        "PERCENT": f"a percentage {ranged}",
        "BOOL": "on or off",
        "CHOICE": listed,
        "FLAGS": f"{listed}, several with commas between",
        "NAMES": "names with commas between, or all",
        "PATH": "the name of a file",
    }[kind]


def initial(kind, value, words):
    if kind in ("CHOICE", "FLAGS"):
        return next((word for word, of in words if of == value), "")
    number = VALUES.get(value) or int(value)
    return {
        "SIZE": size(number),
        "COUNT": str(number),
        "PERCENT": f"{number}%",
        "BOOL": "on" if number else "off",
        "NAMES": "",
        "PATH": "",
    }[kind]


def read(path):
    """The rows and the ignored names of the options.def at `path`."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    words = list(calls(text, "WORD"))
    rows = []
    for _, name, kind, start, least, most, meaning in calls(text, "OPTION"):
        own = [(word, value) for of, word, value in words if of == name]
        least, most = (VALUES.get(n) or int(n) for n in (least, most))
        rows.append(Row(name,
                        form(kind, least, most, [word for word, _ in own]),
                        initial(kind, start, own), meaning))
    return rows, [Ignored(*parts) for parts in calls(text, "IGNORED")]
