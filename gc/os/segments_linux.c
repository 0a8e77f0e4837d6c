#ifndef _GNU_SOURCE
#define _GNU_SOURCE // dl_iterate_phdr
#endif

#include "os/segments.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/memory.h"

#include <link.h>

// How far from the thread pointer its control block may reach.  The C library
// does not tell its size (2.3 KiB in glibc 2.36), so what is read is what is
// mapped, up to here.
#define SEGMENTS_CONTROL_BYTES ((size_t)4096)

struct segments_visitor {
    segments_visit *visit;
    void *data;
};

// Visits the whole words in [start, start + bytes).
static void segments_give(const struct segments_visitor *visitor,
                          uintptr_t start, size_t bytes) {
    uintptr_t end = bits_round_down(start + bytes, WORD_BYTES); // G3
    start = bits_round_up(start, WORD_BYTES);
    if (start < end) {
        visitor->visit((const void *)start, (const void *)end, visitor->data);
    }
}

static int segments_module(struct dl_phdr_info *info, size_t size,
                           void *visitor) {
    (void)size;
    for (size_t index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[index];
        // What becomes read-only after relocation is a part of such a
        // segment, so it comes along (G1).
        if (part->p_type == PT_LOAD && (part->p_flags & PF_W) != 0) {
            segments_give(visitor, info->dlpi_addr + part->p_vaddr,
                          part->p_memsz);
        }
    }
    return 0;
}

void segments_each(segments_visit *visit, void *data) {
    struct segments_visitor visitor = {visit, data};
    int saved = error_save();
    (void)dl_iterate_phdr(segments_module, &visitor);
    error_restore(saved);
}

static int segments_tls_module(struct dl_phdr_info *info, size_t size,
                               void *visitor) {
    if (size < offsetof(struct dl_phdr_info, dlpi_tls_data) + sizeof(void *) ||
        info->dlpi_tls_data == NULL) {
        return 0; // no such variables, or no memory for them here yet
    }
    for (size_t index = 0; index < info->dlpi_phnum; index++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[index];
        if (part->p_type == PT_TLS) {
            segments_give(visitor, (uintptr_t)info->dlpi_tls_data,
                          part->p_memsz);
        }
    }
    return 0;
}

// The thread pointer, and on which side of it the control block lies.
#if defined(__x86_64__)
#define SEGMENTS_CONTROL_ABOVE 1
uintptr_t segments_thread_pointer(void) {
    uintptr_t pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer)); // the ABI stores it there
    return pointer;
}
#else
#define SEGMENTS_CONTROL_ABOVE 0
uintptr_t segments_thread_pointer(void) {
    return (uintptr_t)__builtin_thread_pointer();
}
#endif

// The page of the thread pointer is there; its neighbour on the side of the
// block is asked for.
static void segments_control(const struct segments_visitor *visitor) {
    uintptr_t pointer = segments_thread_pointer();
    uintptr_t page = bits_round_down(pointer, memory_page_bytes());
    uintptr_t start, end;
    if (SEGMENTS_CONTROL_ABOVE) {
        start = pointer;
        end = pointer + SEGMENTS_CONTROL_BYTES;
        uintptr_t next = page + memory_page_bytes();
        if (end > next && !memory_is_readable((const void *)next)) {
            end = next;
        }
    } else {
        start = pointer - SEGMENTS_CONTROL_BYTES;
        end = pointer + 2 * WORD_BYTES;
        if (start < page &&
            !memory_is_readable((const void *)(page - WORD_BYTES))) {
            start = page;
        }
    }
    segments_give(visitor, start, end - start);
}

void segments_each_tls(segments_visit *visit, void *data) {
    struct segments_visitor visitor = {visit, data};
    int saved = error_save();
    (void)dl_iterate_phdr(segments_tls_module, &visitor);
    segments_control(&visitor); // G2
    error_restore(saved);
}
