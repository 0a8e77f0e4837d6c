// loader — the program and its libraries, as the loader has recorded them.
//
// The loader knows every module that it mapped.  Its own function for asking
// takes its lock; another thread that was stopped while it loaded a library
// holds that lock.  But there is a second way, made for debuggers, who ask when
// everything stands still: a list of records at a known place, and beside it a
// word that says whether the loader is just changing it.
//
//     program's dynamic section
//        DT_DEBUG -> [ state | list | next namespace ]
//                                |
//                   [ program ] -> [ libc.so ] -> [ libz.so ] -> ...
//                        |
//                        +-> table of segments, in the mapped file
//
// A record shows where the module was mapped.  That the table of segments is
// known too, debuggers are not told: they read it from the file.  glibc keeps
// its address further on in the record; where, is found by comparing the
// program's record with what the kernel told of the program.  Elsewhere the
// table is looked for in memory.
//
// Invariants:
//   LD1  each   every module that is loaded in any namespace is visited, the
//               loader itself at least once, with the bias and the table that
//               dl_iterate_phdr would give
//   LD2  steady loader_each reads nothing but what cannot go away while no
//               thread runs in the loader, or what it has asked for before;
//               while the loader changes its list it says no
//   LD3  quiet  no call here allocates, takes a lock or enters the loader
//   LD4  doubt  loader_read believes nothing: false for all that is not the
//               beginning of a mapped file with a table
//
// In a stop, or where no library is loaded or unloaded meanwhile.
// Design, alternatives and measurements: docs/design/os/loader.md

#ifndef OS_LOADER_H
#define OS_LOADER_H

#include "base/defs.h"

#include <link.h>

#define LOADER_PARTS 32u // entries of a table that is copied

// A program or library: its address in memory less that in its file, and the
// table of its segments, in place or copied.
struct loader_module {
    uintptr_t bias;
    const Elf64_Phdr *parts;
    size_t count;
    uintptr_t parts_at;         // where in memory they came from
    const struct link_map *map; // the loader's record; NULL: it has none
    Elf64_Phdr copy[LOADER_PARTS];
};

// Is given one module, which lives until it returns.
typedef void loader_visit(const struct loader_module *module, void *data);

// What became of a walk.
enum loader_answer {
    LOADER_DONE,     // every module was visited
    LOADER_CHANGING, // the list is being changed; nothing was visited
    LOADER_BLIND     // some module's table was not found
};

// Visits the modules of all namespaces; in a program without a loader, itself.
enum loader_answer loader_each(loader_visit *visit, void *data);

// The same while the list is being changed: no table is believed that the
// record alone names.  What a visit gets may be gone: ask before it is read.
void loader_each_doubtful(loader_visit *visit, void *data);

// The program itself, as the kernel told of it.
void loader_of_program(struct loader_module *module);

// The module whose file is mapped at `base`; false if none is (LD4).
bool loader_read(struct loader_module *module, uintptr_t base);

// The first entry of a type (PT_...) in a module's table, or NULL.
const Elf64_Phdr *loader_find_part(const struct loader_module *module,
                                   uint32_t type);

// Where the thread-local block of a module lies in each thread.
struct loader_place {
    size_t bytes;  // before the thread pointer (x86-64) or after it (aarch64);
                   // 0: not at the same place in each
    size_t number; // of the module, in each thread's table of blocks
};

// False when this loader does not tell.
bool loader_find_place(const struct loader_module *module,
                       struct loader_place *place);

#endif
