#ifndef _GNU_SOURCE
#define _GNU_SOURCE // struct link_map
#endif

#include "os/loader.h"

#include "base/bits.h"
#include "os/mapping.h"
#include "os/memory.h"

#include <elf.h>
#include <string.h>
#include <sys/auxv.h>

#define LOADER_NAMESPACES 64u             // more would be a circle
#define LOADER_SEARCH     ((size_t)16384) // pages before a dynamic section

// --- The table of a module's segments --------------------------------------

const Elf64_Phdr *loader_find_part(const struct loader_module *module,
                                   uint32_t type) {
    for (size_t index = 0; index < module->count; index++) {
        if (module->parts[index].p_type == type) {
            return &module->parts[index];
        }
    }
    return NULL;
}

// Copies the table of the module whose file is mapped at `base`; false if none
// is.  Nothing is believed: there may be anything, or nothing.
bool loader_read(struct loader_module *module, uintptr_t base) {
    Elf64_Ehdr header;
    if (mapping_copy(&header, base, sizeof header) < sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof *module->copy || header.e_phnum == 0 ||
        header.e_phnum > LOADER_PARTS) {
        return false;
    }
    size_t bytes = header.e_phnum * sizeof *module->copy;
    module->parts_at = base + header.e_phoff;
    module->parts = module->copy;
    module->count = header.e_phnum;
    if (mapping_copy(module->copy, module->parts_at, bytes) < bytes) {
        return false;
    }
    const Elf64_Phdr *first = loader_find_part(module, PT_LOAD);
    size_t page_bytes = memory_page_bytes();
    if (first == NULL || first->p_offset >= page_bytes) {
        return false;
    }
    module->bias = base - bits_round_down(first->p_vaddr, page_bytes);
    return true;
}

// Whether the table is that of the module which the loader has recorded.
static bool loader_is_of(const struct loader_module *module,
                         const struct link_map *map) {
    const Elf64_Phdr *dynamic = loader_find_part(module, PT_DYNAMIC);
    uintptr_t at = dynamic == NULL ? 0 : module->bias + dynamic->p_vaddr;
    return module->bias == map->l_addr && at == (uintptr_t)map->l_ld;
}

// Finds the table where it was mapped: at the module's first address, which is
// l_addr unless the file was made for another; else at the start of a page
// somewhere before its dynamic section.
static bool loader_search_header(struct loader_module *module,
                                 const struct link_map *map) {
    size_t page_bytes = memory_page_bytes();
    if (loader_read(module, map->l_addr) && loader_is_of(module, map)) {
        return true;
    }
    uintptr_t at = bits_round_down((uintptr_t)map->l_ld, page_bytes);
    for (size_t page = 0; page < LOADER_SEARCH && at != 0; page++) {
        if (loader_read(module, at) && loader_is_of(module, map)) {
            return true;
        }
        at -= page_bytes;
    }
    return false;
}

// --- The loader's records --------------------------------------------------

// The bias of a program whose table does not describe itself: the table follows
// the file's header, as it does nearly always.
static NOINLINE uintptr_t loader_bias_of_program(uintptr_t parts_at) {
    struct loader_module seen;
    return loader_read(&seen, parts_at - sizeof(Elf64_Ehdr)) &&
                   seen.parts_at == parts_at
               ? seen.bias
               : 0;
}

// The table of the program itself is told by the kernel.
void loader_of_program(struct loader_module *module) {
    module->map = NULL;
    module->parts_at = getauxval(AT_PHDR);
    module->parts = (const Elf64_Phdr *)module->parts_at;
    module->count = module->parts == NULL ? 0 : getauxval(AT_PHNUM);
    const Elf64_Phdr *own = loader_find_part(module, PT_PHDR);
    module->bias = own != NULL ? module->parts_at - own->p_vaddr
                               : loader_bias_of_program(module->parts_at);
}

#pragma weak _r_debug

// The list for debuggers: where the program's dynamic section says, which the
// loader has filled in.  NULL: there is no loader.
static const struct r_debug *
loader_find_debug(const struct loader_module *program) {
    const Elf64_Phdr *dynamic = loader_find_part(program, PT_DYNAMIC);
    const Elf64_Dyn *entry = NULL;
    if (dynamic != NULL) {
        entry = (const Elf64_Dyn *)(program->bias + dynamic->p_vaddr);
    }
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_DEBUG && entry->d_un.d_ptr != 0) {
            return (const struct r_debug *)entry->d_un.d_ptr;
        }
    }
    return &_r_debug != NULL && _r_debug.r_map != NULL ? &_r_debug : NULL;
}

// The list of the next namespace (dlmopen), or NULL.
static const struct r_debug *loader_next_debug(const struct r_debug *debug) {
    struct loader_extended {
        struct r_debug base;
        const struct r_debug *next;
    };
    return debug->r_version < 2 ? NULL
                                : ((const struct loader_extended *)debug)->next;
}

static bool loader_is_consistent(const struct r_debug *debug) {
    size_t limit = LOADER_NAMESPACES;
    for (; debug != NULL && limit != 0; limit--) {
        if (debug->r_state != RT_CONSISTENT) {
            return false;
        }
        debug = loader_next_debug(debug);
    }
    return true;
}

// Beyond what link.h shows, glibc's record has the address and the size of the
// table and, further on, of the thread-local template, and its place.  Where,
// is found by looking for values that are known otherwise.
#define LOADER_RECORD_WORDS 160u // 1 152 bytes in glibc 2.36, and some more

struct loader_record {
    size_t count; // words that could be read
    uintptr_t words[LOADER_RECORD_WORDS];
};

static void loader_read_record(struct loader_record *record,
                               const struct link_map *map) {
    record->count =
        mapping_copy(record->words, (uintptr_t)map, sizeof record->words) /
        WORD_BYTES;
}

// Word indices in a record; 0: not known, SIZE_MAX: there is no such place.
static size_t loader_table_place;    // table, entry point, number of parts
static size_t loader_template_place; // image, its bytes, bytes, alignment

static size_t loader_seek_table(const struct link_map *program) {
    struct loader_record record;
    loader_read_record(&record, program);
    uintptr_t table = getauxval(AT_PHDR);
    for (size_t at = 5; at + 2 < record.count; at++) {
        if (record.words[at] == table &&
            record.words[at + 1] == getauxval(AT_ENTRY) &&
            (record.words[at + 2] & 0xffff) == getauxval(AT_PHNUM)) {
            return at;
        }
    }
    return SIZE_MAX;
}

static size_t loader_seek_template(const struct loader_module *module,
                                   const Elf64_Phdr *part) {
    struct loader_record record;
    loader_read_record(&record, module->map);
    for (size_t at = 5; at + 6 < record.count; at++) {
        const uintptr_t *word = &record.words[at];
        if (word[0] == module->bias + part->p_vaddr &&
            word[1] == part->p_filesz && word[2] == part->p_memsz &&
            word[3] == part->p_align) {
            return at;
        }
    }
    return SIZE_MAX;
}

bool loader_find_place(const struct loader_module *module,
                       struct loader_place *place) {
    const Elf64_Phdr *part = loader_find_part(module, PT_TLS);
    if (module->map == NULL || part == NULL) {
        return false;
    }
    if (loader_template_place == 0) {
        loader_template_place = loader_seek_template(module, part);
    }
    if (loader_template_place == SIZE_MAX) {
        return false;
    }
    const uintptr_t *words =
        (const uintptr_t *)module->map + loader_template_place;
    // The first byte's offset within the alignment comes between; -1 and -2
    // mean, as 0 does, that it has none.
    place->bytes = words[5] >= UINTPTR_MAX - 1 ? 0 : words[5];
    place->number = words[6];
    return words[0] == module->bias + part->p_vaddr &&
           words[2] == part->p_memsz && words[6] != 0;
}

// The table of the module that the loader recorded in `map`; false if it is
// not found.
static bool loader_open(struct loader_module *module,
                        const struct link_map *map, bool doubtful) {
    if (loader_table_place != SIZE_MAX && !doubtful) {
        const uintptr_t *words = (const uintptr_t *)map;
        module->bias = map->l_addr;
        module->parts_at = words[loader_table_place];
        module->parts = (const Elf64_Phdr *)module->parts_at;
        module->count = words[loader_table_place + 2] & 0xffff;
        if (module->parts != NULL && loader_is_of(module, map)) {
            return true;
        }
    }
    return loader_search_header(module, map);
}

// Visits the modules of the lists, of which the first is the program, in
// `module` already; false if a table was not found.
static bool loader_walk(struct loader_module *module,
                        const struct r_debug *debug, bool doubtful,
                        loader_visit *visit, void *data) {
    const struct link_map *first = debug->r_map;
    uintptr_t loader = debug->r_ldbase;
    bool whole = true;
    size_t limit = LOADER_NAMESPACES;
    for (bool base = true; debug != NULL && limit != 0; limit--) {
        const struct link_map *map = debug->r_map;
        for (; map != NULL; map = map->l_next) {
            if (!base && map->l_addr == loader) {
                continue; // it is recorded in each, and is one
            }
            bool is_program = map == first && loader_is_of(module, map);
            if (is_program || loader_open(module, map, doubtful)) {
                module->map = map;
                visit(module, data);
            } else {
                whole = false;
            }
        }
        base = false;
        debug = loader_next_debug(debug);
    }
    return whole;
}

enum loader_answer loader_each(loader_visit *visit, void *data) {
    struct loader_module module;
    loader_of_program(&module);
    const struct r_debug *debug = loader_find_debug(&module);
    if (debug == NULL) {
        visit(&module, data);
        return LOADER_DONE;
    }
    if (!loader_is_consistent(debug)) {
        return LOADER_CHANGING; // LD2
    }
    if (loader_table_place == 0) {
        loader_table_place = loader_seek_table(debug->r_map);
    }
    return loader_walk(&module, debug, false, visit, data) ? LOADER_DONE
                                                           : LOADER_BLIND;
}

void loader_each_doubtful(loader_visit *visit, void *data) {
    struct loader_module module;
    loader_of_program(&module);
    const struct r_debug *debug = loader_find_debug(&module);
    if (debug != NULL) {
        (void)loader_walk(&module, debug, true, visit, data);
    }
}
