#!/usr/bin/env python3
"""The manual page loam(7), made from the sources it describes.

    make_man.py ROOT VERSION > loam.7

The functions and their contracts come from include/loam.h (and loam/*.h),
the environment from gc/api/options.def, so that the page cannot say anything
else than they do.
"""

import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tools"))
import options_def  # noqa: E402

INTRODUCTION = """
.SH NAME
loam \\- automatic memory for C
.SH SYNOPSIS
.nf
.B #include <loam.h>
.PP
.BI "struct node *node = loam_alloc(sizeof *" node );
.PP
cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs loam)
.fi
.SH DESCRIPTION
"""

MORE = (("THREADS AND STACKS", "threads.h"), ("WEAK THINGS", "weak.h"),
        ("COUNTED OBJECTS", "rc.h"),
        ("CACHES", "cache.h"), ("COMPACT DATA", "data.h"),
        ("HEAPS", "heaps.h"), ("LAYOUTS", "typed.h"))

END = """
.SH SEE ALSO
.BR malloc (3)
.PP
The book of the project: the manual, what a conservative collector cannot see,
how to come from malloc or from another collector, and a chapter for each
module.
"""


def troff(text):
    """Plain text as troff reads it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def comment(block):
    """The text of a /* */ comment, its stars and margin taken off."""
    lines = block.strip()[2:-2].splitlines()
    lines = [re.sub(r"^\s*\* ?", "", line) for line in lines]
    return "\n".join(line.rstrip() for line in lines).strip()


def paragraphs(text):
    """Prose as paragraphs; lines that are indented are kept as they are, but
    for a list within a paragraph."""
    out = []
    text = re.sub(r"^(?! )(.*\n)(?=  \w+ {2,})", r"\1\n", text, flags=re.M)
    text = re.sub(r"^( {6,}.*\n)(?! )", r"\1\n", text, flags=re.M)
    for part in re.split(r"\n\s*\n", text):
        indented = all(line.startswith("  ") for line in part.splitlines())
        if re.match(r"  \w+ {2,}", part):
            out.append(conventions(part + "\n") + "\n.PP")
        elif indented:
            out.append(".PP\n.nf\n.RS 4\n" + troff(part) + "\n.RE\n.fi")
        else:
            flat = " ".join(line.strip() for line in part.splitlines())
            out.append(".PP\n" + troff(flat))
    return "\n".join(out)


def conventions(essay):
    """The header's list `  Word   sentence` as tagged paragraphs."""
    rows = re.findall(r"^  (\w+)\s{2,}((?:.*\n?)(?:^ {6,}.*\n?)*)", essay, re.M)
    return "\n".join(
        f".TP\n.B {word}\n" + troff(" ".join(text.split()))
        for word, text in rows)


def declaration(text):
    """A declaration as a person writes it: no attributes of ours."""
    text = re.sub(r"LOAM_ALLOC_SIZE\([^)]*\)|LOAM_MUST_USE|LOAM_API", "", text)
    text = re.sub(r"\bstatic inline\b", "", text)
    text = re.sub(r"\{.*\Z", ";", text, flags=re.S)
    text = " ".join(text.split())
    return re.sub(r"\*\s+", "*", re.sub(r"\s+;", ";", text))


def chunks(body):
    """(comment, code that follows it) for each comment at the left margin."""
    found = list(re.finditer(r"^/\*.*?\*/\n", body, re.M | re.S))
    for this, then in zip(found, found[1:] + [None]):
        code = body[this.end():then.start() if then else len(body)]
        yield comment(this[0]), code


def struct_fields(code):
    rows = re.findall(r"^\s+(?:\w+\s+)+(\w+);\s*/\* (.*?) \*/", code, re.M)
    return "\n".join(f".TP\n.B {name}\n{troff(what)}" for name, what in rows)


def enum_names(code):
    names = re.findall(r"\bLOAM_\w+", code[:code.index("}")])
    return ".PP\n" + ",\n".join(f"\\fB{name}\\fR" for name in names)


def named(code):
    """The name of the struct or enum that the code begins to define, and what
    it has; or None."""
    kind = re.match(r"(struct|enum) \w+(?= \{)", code)
    if not kind:
        return None
    has = struct_fields(code) if kind[1] == "struct" else enum_names(code)
    return (kind[0], has) if has else None


def functions(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    body = text[text.index('extern "C" {'):text.rindex("#ifdef __cplusplus")]
    out, waiting = [], ""
    for words, code in chunks(body):
        section = re.fullmatch(r"-+ (.*?) -+", words)
        if section:
            out.append(f".SS {troff(section[1])}")
            continue
        said = re.findall(
            r"^(?:LOAM_API[^;]*;|typedef [^;]*;|static inline [^{]*\{"
            r"|#define LOAM_\w+\([^)]*\)|#define LOAM_\w+_MAX +\d+)",
            code, re.M)
        thing = named(code)
        if not said and not thing:
            waiting = words if code.strip() == "" else ""
            continue
        if said:
            out.append(".PP\n.nf")
            out += [f".B \"{troff(declaration(one))}\"" for one in said]
            out.append(".fi\n.RS 4")
        else:
            out.append(f".PP\n.B {thing[0]}\n.RS 4")
        told = f"{waiting}\n\n{words}" if waiting else words
        out.append(paragraphs(told).removeprefix(".PP\n"))
        out.append(thing[1] if thing else "")
        out.append(".RE")
        waiting = ""
    return "\n".join(line for line in out if line)


def environment(rows):
    out = [".SH ENVIRONMENT", ".PP",
           troff("Read once, when the collector starts.  A value that is not "
                 "of the form stated, and a name that begins with LOAM_ and is "
                 "not known, is named in a warning and ignored; an empty value "
                 "is no value.")]
    for row in rows:
        out.append(f".TP\n.B {row.name}\n"
                   + troff(f"{row.meaning[0].upper()}{row.meaning[1:]}.")
                   + "\n" + troff(f"Form: {row.form}."))
        if row.initial:
            out.append(troff(f"Default: {row.initial}."))
    return "\n".join(out)


def page(root, version):
    header = os.path.join(root, "include", "loam.h")
    with open(header, encoding="utf-8") as file:
        essay = comment(re.match(r"/\*.*?\*/", file.read(), re.S)[0])
    prose, _, habits = essay.partition("Conventions of this header\n")
    prose = prose.split("\n", 1)[1]
    rows, _ = options_def.read(os.path.join(root, "gc", "api", "options.def"))
    return "\n".join([
        f".TH LOAM 7 \"\" \"loam {version}\" \"automatic memory for C\"",
        INTRODUCTION.strip(), paragraphs(prose.strip()),
        ".SS Conventions", conventions(habits),
        ".SH FUNCTIONS", functions(header),
        *(f".SH {title}\n.PP\n.B #include <loam/{name}>\n"
          + functions(os.path.join(root, "include", "loam", name))
          for title, name in MORE),
        environment(rows), END.strip(), ""])


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1], sys.argv[2]))
