#!/usr/bin/env python3
"""What is written with loam/rc.h and loam/rc.hpp compiles without a warning in
each dialect, by gcc and by clang, and what is wrong does not compile at all.
Usage: test_dialects.py INCLUDE"""

import os
import shutil
import subprocess
import sys

STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]

# A type with nothing but its size, and one with everything, in order.
TYPES = """
#include "loam/rc.h"
struct node { struct node *left, *right; };
void gone(void *object);
void visit(void *object, loam_slot_fn *slot, void *data);
static LOAM_TYPE(bare, struct node);
LOAM_TYPE(number, int);
static LOAM_TYPE(full, struct node, .flags = LOAM_TYPE_SHARED,
                 LOAM_OWNS(struct node, left, right), .visit = visit,
                 .destroy = gone, .finalize = gone);
static LOAM_TYPE(only, struct node, .destroy = gone);
int use(void);
int use(void) {
    return bare.slots == NULL && full.slots[1] == 8 && only.id == 0;
}
"""

# By hand, as an older C++ writes it; the headers alone.
BY_HAND = """
#include "loam/rc.h"
struct node { struct node *left, *right; };
static const uint32_t slots[] = {offsetof(node, left), offsetof(node, right)};
struct loam_type type = {"node", sizeof(node), 0, 2, slots, NULL, NULL, NULL,
                         0};
"""

SMART = """
#include "loam/rc.hpp"
struct node {
    loam::ref<node> left, right[2];
    template <class S> static void loam_slots(S &slot) {
        slot(&node::left)(&node::right);
    }
};
struct virtual_heir : node { virtual ~virtual_heir(); };
struct far : virtual node {};
struct second { int x; };
struct two : second, node {};
struct narrow {
    loam::ref<narrow> one;
    static void loam_slots(loam::slots<narrow> &slot) { slot(&narrow::one); }
};
struct heir : narrow { int more; };
class shy {
    loam::ref<shy> one;
    template <class S> static void loam_slots(S &slot) { slot(&shy::one); }
};
struct alignas(16) wide { int x; };
struct late { int x; };
struct raw { raw *next;
    template <class S> static void loam_slots(S &slot) { slot(&raw::next); }
};
template <> struct loam::traits<late> : loam::describe<LOAM_TYPE_DEFERRED> {};
"""

# What is added to SMART, and a word of the error; None: it is right.
ADDED = (
    (None, "loam::ref<node> f() { return loam::make<node>(); }"),
    (None, "loam::ref<const narrow> f() { return loam::make<narrow>(); }"),
    (None, "loam::ref<node> f(loam::ref<two>, node *q)"
           " { return q ? loam::ref<node>::borrow(q) : nullptr; }"),
    ("first byte", "loam::ref<node> f(loam::ref<two> p) { return p; }"),
    ("first byte", "loam::ref<node> f(loam::ref<virtual_heir> p)"
                   " { return p; }"),
    ("first byte", "loam::ref<node> f(loam::ref<far> p) { return p; }"),
    ("virtual base", "loam::ref<far> f() { return loam::make<far>(); }"),
    ("no template", "loam::ref<heir> f() { return loam::make<heir>(); }"),
    ("private", "loam::ref<shy> f() { return loam::make<shy>(); }"),
    ("aligned", "loam::ref<wide> f() { return loam::make<wide>(); }"),
    ("deferred", "loam::ref<late> f() { return loam::make<late>(); }"),
    ("match", "loam::ref<raw> f() { return loam::make<raw>(); }"),
    ("conver", "loam::ref<node> f(node *p) { return p; }"),
    ("conver", "loam::ref<node> f(loam::ref<const node> p) { return p; }"),
    ("conver", "loam::ref<node> f(loam::ref<raw> p) { return p; }"),
)


def compile(compiler, language, standard, text, *more):
    command = [compiler, f"-std={standard}", *STRICT, *more,
               f"-I{sys.argv[1]}", "-x", language, "-"]
    made = subprocess.run(command, input=text, capture_output=True, text=True,
                          check=False, env={**os.environ, "LC_ALL": "C"})
    return made.returncode, made.stderr


def require(compiler, language, standard, text, *more):
    failed, said = compile(compiler, language, standard, text, *more)
    if failed:
        sys.exit(f"{compiler} -std={standard}:\n{said}\nof\n{text}")


def refuse(compiler, standard, text, word):
    failed, said = compile(compiler, "c++", standard, text)
    if not failed or word not in said:
        sys.exit(f"{compiler} -std={standard} does not speak of '{word}':\n"
                 f"{said}\nof\n{text}")


def main():
    found = [c for c in ("gcc", "clang", "g++", "clang++") if shutil.which(c)]
    if not found:
        sys.exit(77)
    for c in found:
        if not c.endswith("++"):
            for standard in ("c11", "c17"):
                require(c, "c", standard, TYPES, "-Wconversion")
            continue
        require(c, "c++", "c++20", TYPES)
        for standard in ("c++11", "c++14", "c++17", "c++20"):
            require(c, "c++", standard, BY_HAND, "-Wno-invalid-offsetof")
        for standard in ("c++11", "c++20"):
            for word, text in ADDED:
                if word is None:
                    require(c, "c++", standard, SMART + text)
                    require(c, "c++", standard, SMART + text,
                            "-fno-exceptions", "-fno-rtti")
                elif standard == "c++11":
                    refuse(c, standard, SMART + text, word)
    print("compiled, or refused, by", *found)


main()
