#ifndef _GNU_SOURCE
#define _GNU_SOURCE // getauxval
#endif

#include "os/segments.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/loader.h"
#include "os/mapping.h"
#include "os/memory.h"
#include "os/suspend.h"

#include <elf.h>
#include <sys/auxv.h>

struct segments_visitor {
    segments_visit *visit;
    void *data;
    bool careful; // what the loader says may be out of date
};

#define SEGMENTS_TABLE_LIMIT 65536u // modules of a thread; more is garbage

// How far the blocks of thread-local variables reach, as of the last walk.
static struct {
    bool measured;
    bool exact;           // else static_bytes is an upper bound
    size_t static_bytes;  // from the thread pointer to the farthest block
    size_t largest_bytes; // of the blocks that are not there
    size_t modules;       // the last one's number in a thread's table
    size_t control_bytes; // a control block has no more; 0: not known
} segments_tls;

static void segments_nothing(const void *start, const void *end, void *data) {
    (void)start;
    (void)end;
    (void)data;
}

// Visits the whole words in [start, start + bytes).
static void segments_give(const struct segments_visitor *visitor,
                          uintptr_t start, size_t bytes) {
    if (visitor->careful) {
        bytes = mapping_readable(start, bytes);
    }
    uintptr_t end = bits_round_down(start + bytes, WORD_BYTES); // G3
    start = bits_round_up(start, WORD_BYTES);
    if (start < end) {
        visitor->visit((const void *)start, (const void *)end, visitor->data);
    }
}

// Whether the module is ThreadSanitizer's own library: fifty megabytes of books
// that it keeps, where no object of the program is held.  (clang's is a part of
// the program, and read with it.)
#if SUSPEND_COOPERATIVE
void __tsan_init(void);

static bool segments_is_sanitizer(const struct loader_module *module) {
    uintptr_t inside = (uintptr_t)__tsan_init - module->bias;
    for (size_t index = 0; index < module->count; index++) {
        const Elf64_Phdr *part = &module->parts[index];
        if (part->p_type == PT_LOAD && inside - part->p_vaddr < part->p_memsz) {
            return module->parts_at != getauxval(AT_PHDR);
        }
    }
    return false;
}
#else
static bool segments_is_sanitizer(const struct loader_module *module) {
    (void)module;
    return false;
}
#endif

static void segments_give_module(const struct loader_module *module,
                                 const struct segments_visitor *visitor) {
    if (segments_is_sanitizer(module)) {
        return;
    }
    for (size_t index = 0; index < module->count; index++) {
        const Elf64_Phdr *part = &module->parts[index];
        // What becomes read-only after relocation is a part of such a
        // segment, so it comes along (G1).
        if (part->p_type == PT_LOAD && (part->p_flags & PF_W) != 0) {
            segments_give(visitor, module->bias + part->p_vaddr, part->p_memsz);
        }
    }
}

// --- How far thread-local blocks reach -------------------------------------

#if defined(__x86_64__)
#define SEGMENTS_TLS_BELOW 1
#else
#define SEGMENTS_TLS_BELOW 0
#endif

// More static blocks than modules need: of libraries that went, and room kept.
#define SEGMENTS_TLS_SLACK ((size_t)4096)

static size_t segments_max(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t segments_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static void segments_begin_tls(void) {
    segments_tls.measured = true;
    segments_tls.exact = true;
    segments_tls.static_bytes = 0;
    segments_tls.largest_bytes = 0;
    segments_tls.modules = 0;
}

// Without the loader's own figures: all blocks may be static, or none.
static void segments_bound_tls(const Elf64_Phdr *part) {
    segments_tls.exact = false;
    segments_tls.modules = SEGMENTS_TABLE_LIMIT;
    segments_tls.static_bytes += part->p_memsz + part->p_align;
    segments_tls.largest_bytes =
        segments_max(segments_tls.largest_bytes, part->p_memsz);
}

static void segments_measure_tls(const struct loader_module *module) {
    const Elf64_Phdr *part = loader_find_part(module, PT_TLS);
    struct loader_place place;
    if (part == NULL || part->p_memsz == 0) {
        return;
    }
    if (!segments_tls.exact || !loader_find_place(module, &place)) {
        segments_bound_tls(part);
        return;
    }
    segments_tls.modules = segments_max(segments_tls.modules, place.number);
    if (place.bytes == 0) {
        segments_tls.largest_bytes =
            segments_max(segments_tls.largest_bytes, part->p_memsz);
    } else {
        size_t reach = place.bytes;
        reach += SEGMENTS_TLS_BELOW ? 0 : part->p_memsz;
        segments_tls.static_bytes =
            segments_max(segments_tls.static_bytes, reach);
    }
}

// --- The kernel's list -----------------------------------------------------

// A module whose mappings come now.
struct segments_image {
    struct loader_module module;
    uintptr_t end;          // beyond all its segments; 0: none yet
    uint64_t inode, device; // its file
};

// A module may lie in a hole of another, so there are two.
struct segments_scan {
    struct segments_visitor visitor;
    struct segments_image outer, inner;
    uintptr_t program; // where the program's table is; 0: seen
};

// Makes the mapping an image's first, if a module's file begins there.
static void segments_begin_image(struct segments_scan *scan,
                                 struct segments_image *image,
                                 const struct mapping *mapping) {
    struct loader_module *module = &image->module;
    image->end = 0;
    if (!loader_read(module, mapping->start)) {
        return;
    }
    module->map = NULL;
    image->inode = mapping->inode;
    image->device = mapping->device;
    for (size_t index = 0; index < module->count; index++) {
        const Elf64_Phdr *part = &module->parts[index];
        if (part->p_type == PT_LOAD) {
            uintptr_t end = module->bias + part->p_vaddr + part->p_memsz;
            image->end = segments_max(image->end, end);
        }
    }
    segments_measure_tls(module);
    if (segments_is_sanitizer(module)) {
        module->count = 0; // nothing to be given
    }
    if (module->parts_at == scan->program) {
        scan->program = 0;
    }
}

// Visits what a mapping has of an image's writable segment: pages of its file,
// which may have been cut short, or the zero memory behind them.
static void segments_give_mapped(struct segments_visitor *visitor,
                                 const struct segments_image *image,
                                 const struct mapping *mapping,
                                 const Elf64_Phdr *part) {
    uintptr_t start = image->module.bias + part->p_vaddr;
    uintptr_t end = segments_min(start + part->p_memsz, mapping->end);
    bool is_file = mapping->inode != 0;
    if (is_file &&
        (mapping->inode != image->inode || mapping->device != image->device ||
         mapping->start - mapping->offset != start - part->p_offset)) {
        return;
    }
    start = segments_max(start, mapping->start);
    if (start < end) {
        visitor->careful = is_file;
        segments_give(visitor, start, end - start);
    }
}

static void segments_give_image(struct segments_visitor *visitor,
                                const struct segments_image *image,
                                const struct mapping *mapping) {
    for (size_t i = 0; image->end != 0 && i < image->module.count; i++) {
        const Elf64_Phdr *part = &image->module.parts[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_W) != 0) {
            segments_give_mapped(visitor, image, mapping, part); // G6
        }
    }
}

static bool segments_mapping(const struct mapping *mapping, void *data) {
    struct segments_scan *scan = data;
    if (mapping->is_shared || !mapping->is_readable) {
        return true;
    }
    struct segments_image *outer = &scan->outer;
    struct segments_image *inner = &scan->inner;
    if (mapping->inode != 0 && mapping->offset == 0) {
        if (mapping->start >= outer->end) {
            inner->end = 0;
            segments_begin_image(scan, outer, mapping);
        } else if (mapping->start >= inner->end &&
                   (mapping->inode != outer->inode ||
                    mapping->device != outer->device)) {
            // Of the same file it is a segment that begins in the first page.
            segments_begin_image(scan, inner, mapping);
        }
    }
    segments_give_image(&scan->visitor, outer, mapping);
    segments_give_image(&scan->visitor, inner, mapping);
    return true;
}

bool segments_each_mapped(segments_visit *visit, void *data) {
    int saved = error_save();
    struct segments_scan scan;
    scan.visitor = (struct segments_visitor){visit, data, false};
    scan.outer.end = scan.inner.end = 0;
    scan.program = getauxval(AT_PHDR);
    segments_begin_tls();
    bool told = mapping_each(segments_mapping, &scan);
    if (told && scan.program != 0) { // its file is not mapped from the start
        struct loader_module *program = &scan.outer.module;
        loader_of_program(program);
        segments_measure_tls(program);
        scan.visitor.careful = true;
        segments_give_module(program, &scan.visitor);
    }
    error_restore(saved);
    return told;
}

// --- The walk --------------------------------------------------------------

static void segments_module(const struct loader_module *module, void *data) {
    segments_measure_tls(module);
    segments_give_module(module, data);
}

void segments_each(segments_visit *visit, void *data) {
    int saved = error_save();
    struct segments_visitor visitor = {visit, data, false};
    segments_begin_tls();
    if (loader_each(segments_module, &visitor) != LOADER_DONE &&
        !segments_each_mapped(visit, data)) {
        visitor.careful = true;
        loader_each_doubtful(segments_module, &visitor); // G5
    }
    error_restore(saved);
}

// --- Thread-local blocks ---------------------------------------------------

// How far from the thread pointer its control block may reach.  The C library
// does not tell its size (2.3 KiB in glibc 2.36), so what is read is what is
// mapped, up to here.
#define SEGMENTS_CONTROL_BYTES ((size_t)4096)
#define SEGMENTS_CONTROL_LEAST ((size_t)1024) // less is nobody's

// glibc's table of a thread's blocks: pairs of an address and another that is
// of no interest here.  The pair before the first has their number; the first
// is the table's age; number n is of the module with that number.

struct segments_entry {
    uintptr_t block; // UINTPTR_MAX: not there
    uintptr_t other;
};

#if defined(__x86_64__)
#define SEGMENTS_TABLE_WORD 1 // of the control block: where the table is
uintptr_t segments_thread_pointer(void) {
    uintptr_t pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer)); // the ABI stores it there
    return pointer;
}
#else
#define SEGMENTS_TABLE_WORD 0
uintptr_t segments_thread_pointer(void) {
    return (uintptr_t)__builtin_thread_pointer();
}
#endif

// What can be read of [from, to) downwards from `to`.
static uintptr_t segments_clip_below(uintptr_t from, uintptr_t to) {
    size_t page_bytes = memory_page_bytes();
    uintptr_t at = bits_round_down(to, page_bytes);
    while (at > from && memory_is_readable((const void *)(at - WORD_BYTES))) {
        at -= page_bytes;
    }
    return at > from ? at : from;
}

// What can be read of [from, to) upwards from `from`, whose page is there.
static uintptr_t segments_clip_above(uintptr_t from, uintptr_t to) {
    size_t page_bytes = memory_page_bytes();
    uintptr_t at = bits_round_down(from, page_bytes) + page_bytes;
    while (at < to && memory_is_readable((const void *)at)) {
        at += page_bytes;
    }
    return at < to ? at : to;
}

// How much of the control block above a thread pointer is to be read.  It is as
// long in each thread, and all there: so it is no longer than what can be read
// where least can.  In most threads it ends with the stack's mapping, and from
// the second on the page behind, which is not there, is not asked for.
NO_SANITIZE static size_t segments_control(uintptr_t pointer) {
    size_t bytes = segments_tls.control_bytes;
    bytes = bytes == 0 ? SEGMENTS_CONTROL_BYTES : bytes;
    size_t there = segments_clip_above(pointer, pointer + bytes) - pointer;
    const uintptr_t *words = (const uintptr_t *)pointer;
    if (there >= SEGMENTS_CONTROL_LEAST && words[0] == pointer &&
        words[2] == pointer) { // of a thread made by the library
        segments_tls.control_bytes = there;
    }
    return there;
}

// Visits the control block and the static blocks on the other side of the
// thread pointer, and tells where they begin and end.
static void segments_near(const struct segments_visitor *visitor,
                          uintptr_t pointer, uintptr_t *start, uintptr_t *end) {
    size_t bytes = segments_tls.static_bytes;
    bool exact = segments_tls.exact;
    bytes += exact ? 0 : SEGMENTS_TLS_SLACK;
    if (SEGMENTS_TLS_BELOW) {
        *start = pointer - bytes;
        if (!exact) {
            *start = segments_clip_below(*start, pointer);
        }
        *end = pointer + segments_control(pointer);
    } else {
        *start = segments_clip_below(pointer - SEGMENTS_CONTROL_BYTES, pointer);
        *end = pointer + 2 * WORD_BYTES + bytes; // two are the pointer's own
        if (!exact) {
            *end = segments_clip_above(pointer, *end);
        }
    }
    segments_give(visitor, *start, *end - *start);
}

// Visits the blocks that the table at `table` names, but those that lie in
// [start, end).  A thread about to die may have freed its table, so each of its
// pages is asked for; an entry, aligned to its size, lies in one.
NO_SANITIZE static void segments_far(const struct segments_visitor *visitor,
                                     const struct segments_entry *table,
                                     uintptr_t start, uintptr_t end) {
    size_t page_bytes = memory_page_bytes();
    const struct segments_entry *entry = table - 1;
    size_t count = 0;
    uintptr_t known = 0; // a page that is there
    for (size_t number = 0; number <= count; number++) {
        uintptr_t page = bits_round_down((uintptr_t)entry, page_bytes);
        if (page != known && !memory_is_readable(entry)) {
            return;
        }
        known = page;
        if (number == 0) {
            count = segments_min(entry->block, segments_tls.modules);
            entry = table + 1;
            continue;
        }
        uintptr_t block = entry->block;
        if (block != 0 && block != UINTPTR_MAX &&
            (block < start || block >= end)) {
            segments_give(visitor, block, segments_tls.largest_bytes);
        }
        entry++;
    }
}

NO_SANITIZE void segments_each_tls(uintptr_t thread_pointer,
                                   segments_visit *visit, void *data) {
    // The stack of a thread that has all but ended, and its control block with
    // it, may be unmapped while the kernel still lists the thread.
    if (thread_pointer == 0 || thread_pointer % WORD_BYTES != 0 ||
        !memory_is_readable((const void *)thread_pointer)) {
        return;
    }
    int saved = error_save();
    if (!segments_tls.measured) {
        segments_each(segments_nothing, NULL);
    }
    struct segments_visitor visitor = {visit, data, false};
    uintptr_t start, end;
    segments_near(&visitor, thread_pointer, &start, &end);
#if defined(__GLIBC__)
    const uintptr_t *control = (const uintptr_t *)thread_pointer;
    visitor.careful = true;
    uintptr_t table = control[SEGMENTS_TABLE_WORD];
    if (table % sizeof(struct segments_entry) == 0) {
        segments_far(&visitor, (const struct segments_entry *)table, start,
                     end); // G2
    }
#endif
    error_restore(saved);
}

// --- Questions -------------------------------------------------------------

struct segments_search {
    uintptr_t address;
    bool found;
};

static void segments_compare(const void *start, const void *end, void *data) {
    struct segments_search *search = data;
    if (search->address >= (uintptr_t)start &&
        search->address < (uintptr_t)end) {
        search->found = true;
    }
}

bool segments_check_tls(const void *variable) {
    struct segments_search search = {(uintptr_t)variable, false};
    segments_each_tls(segments_thread_pointer(), segments_compare, &search);
    return search.found;
}
