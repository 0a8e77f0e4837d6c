#ifndef _GNU_SOURCE
#define _GNU_SOURCE // mincore's number
#endif

#include "os/foreign.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/file.h"
#include "os/holding.h"
#include "os/kernel.h"
#include "os/mapping.h"
#include "os/memory.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#define FOREIGN_FILE    "/proc/self/pagemap"
#define FOREIGN_WORDS   ((size_t)(LOAM_TINY ? 512 : 8 * 1024))
#define FOREIGN_REGIONS ((size_t)(LOAM_TINY ? 2 : 128))
#define FOREIGN_PAGES   ((size_t)(LOAM_TINY ? 3 : 1024)) // asked for at a time

// Linux 6.7 and later; older headers lack it.
struct foreign_region {
    uint64_t start, end;
    uint64_t categories;
};

struct foreign_question {
    uint64_t bytes;
    uint64_t flags;
    uint64_t start, end;
    uint64_t walked; // to here
    uint64_t regions, region_count;
    uint64_t page_most;
    uint64_t inverted; // categories of which the contrary is wanted
    uint64_t all_of, any_of;
    uint64_t told; // categories by which regions differ
};
#define FOREIGN_SCAN _IOWR('f', 16, struct foreign_question)

// Categories of a page.
#define FOREIGN_OF_FILE ((uint64_t)1 << 2)
#define FOREIGN_PRESENT ((uint64_t)1 << 3)
#define FOREIGN_SWAPPED ((uint64_t)1 << 4)
#define FOREIGN_OF_ZERO ((uint64_t)1 << 5) // the one page of zeros

// Bits of an entry of the file.
#define FOREIGN_ENTRY_OF_FILE ((uint64_t)1 << 61)
#define FOREIGN_ENTRY_SWAPPED ((uint64_t)1 << 62)
#define FOREIGN_ENTRY_PRESENT ((uint64_t)1 << 63)

// How the kernel is asked which pages are there.
enum foreign_way { FOREIGN_BY_SCAN, FOREIGN_BY_READ, FOREIGN_BY_CORE };

// What is too much for a stack that may be small.
static struct {
    uintptr_t words[FOREIGN_WORDS]; // all zero between walks
    struct holding ours[HOLDING_MOST + 1];
    struct foreign_region regions[FOREIGN_REGIONS];
    uint64_t entries[FOREIGN_PAGES]; // of the file; or a byte a page
} foreign_room;

struct foreign_walk {
    foreign_visit *visit;
    void *data;
    const struct foreign_hole *holes;
    size_t hole, hole_count; // the first that is not wholly below
    size_t our, our_count;   // the same of foreign_room.ours
    size_t page_bytes;
    size_t used; // words of the buffer
    int file;    // the pagemap; -1: it cannot be had
    enum foreign_way way;
};

// --- Pages that are there --------------------------------------------------

// Visits words of pages that are there, or were until now.
static void foreign_copy(struct foreign_walk *walk, uintptr_t start,
                         uintptr_t end) {
    uintptr_t at = bits_round_up(start, WORD_BYTES);
    end = bits_round_down(end, WORD_BYTES);
    while (at < end) {
        size_t want = end - at;
        want =
            want > sizeof foreign_room.words ? sizeof foreign_room.words : want;
        size_t got = mapping_copy(foreign_room.words, at, want) / WORD_BYTES;
        walk->used = got > walk->used ? got : walk->used;
        if (got != 0) {
            walk->visit(foreign_room.words, foreign_room.words + got,
                        walk->data);
        }
        at += got * WORD_BYTES;
        if (got * WORD_BYTES < want) { // FN4
            at = bits_round_down(at, walk->page_bytes) + walk->page_bytes;
        }
    }
}

// The part of `count` pages from `first` on that lies in [start, end).
static void foreign_pages(struct foreign_walk *walk, uintptr_t start,
                          uintptr_t end, uintptr_t first, size_t count) {
    uintptr_t last = first + count * walk->page_bytes;
    foreign_copy(walk, first > start ? first : start, last < end ? last : end);
}

// Asks by PAGEMAP_SCAN; how far it came.
static uintptr_t foreign_by_scan(struct foreign_walk *walk, uintptr_t start,
                                 uintptr_t end) {
    struct foreign_question question = {
        .bytes = sizeof question,
        .start = bits_round_down(start, walk->page_bytes),
        .end = bits_round_up(end, walk->page_bytes),
        .regions = (uintptr_t)foreign_room.regions,
        .region_count = FOREIGN_REGIONS,
        .inverted = FOREIGN_OF_FILE | FOREIGN_OF_ZERO,
        .all_of = FOREIGN_OF_FILE | FOREIGN_OF_ZERO,
        .any_of = FOREIGN_PRESENT | FOREIGN_SWAPPED,
    };
    long count = kernel_call(SYS_ioctl, (uintptr_t)walk->file, FOREIGN_SCAN,
                             (uintptr_t)&question, 0);
    if (count < 0) {
        walk->way = FOREIGN_BY_READ;
        return start;
    }
    for (long index = 0; index < count; index++) {
        struct foreign_region region = foreign_room.regions[index];
        size_t pages = (size_t)(region.end - region.start) / walk->page_bytes;
        foreign_pages(walk, start, end, (uintptr_t)region.start, pages);
    }
    return (uintptr_t)question.walked > start ? (uintptr_t)question.walked
                                              : end;
}

// Visits the pages of a batch that `is_there` says are there.
static void foreign_batch(struct foreign_walk *walk, uintptr_t start,
                          uintptr_t end, size_t count,
                          bool (*is_there)(size_t index)) {
    uintptr_t first = bits_round_down(start, walk->page_bytes);
    for (size_t index = 0; index < count;) {
        size_t from = index;
        while (index < count && is_there(index)) {
            index++;
        }
        if (index > from) {
            foreign_pages(walk, start, end, first + from * walk->page_bytes,
                          index - from);
        } else {
            index++;
        }
    }
}

static bool foreign_is_entered(size_t index) {
    uint64_t entry = foreign_room.entries[index];
    return (entry & (FOREIGN_ENTRY_PRESENT | FOREIGN_ENTRY_SWAPPED)) != 0 &&
           (entry & FOREIGN_ENTRY_OF_FILE) == 0;
}

static bool foreign_is_in_core(size_t index) {
    return (((const unsigned char *)foreign_room.entries)[index] & 1) != 0;
}

// Asks for the next batch of pages, by reading the pagemap or by mincore; how
// far it came.
static uintptr_t foreign_by_page(struct foreign_walk *walk, uintptr_t start,
                                 uintptr_t end) {
    uintptr_t first = bits_round_down(start, walk->page_bytes);
    size_t count = bits_div_ceil(end - first, walk->page_bytes);
    count = count > FOREIGN_PAGES ? FOREIGN_PAGES : count;
    uintptr_t next = first + count * walk->page_bytes;
    if (walk->way == FOREIGN_BY_READ) {
        size_t bytes = count * sizeof foreign_room.entries[0];
        uintptr_t place =
            first / walk->page_bytes * sizeof foreign_room.entries[0];
        long got = kernel_call(SYS_pread64, (uintptr_t)walk->file,
                               (uintptr_t)foreign_room.entries, bytes, place);
        if (got != (long)bytes) {
            walk->way = FOREIGN_BY_CORE;
            return start;
        }
        foreign_batch(walk, start, end, count, foreign_is_entered);
    } else if (kernel_call(SYS_mincore, first, next - first,
                           (uintptr_t)foreign_room.entries, 0) == 0) {
        foreign_batch(walk, start, end, count, foreign_is_in_core);
    }
    return next;
}

// --- Which addresses -------------------------------------------------------

// A piece of a mapping that no hole touches.
static void foreign_piece(struct foreign_walk *walk, uintptr_t start,
                          uintptr_t end, bool is_file) {
    while (start < end) {
        if (walk->way == FOREIGN_BY_SCAN) {
            start = foreign_by_scan(walk, start, end);
        } else if (walk->way == FOREIGN_BY_CORE && is_file) {
            if (end - start <= FOREIGN_FILE_MOST) {
                foreign_copy(walk, start, end);
            }
            return;
        } else if (end - start > FOREIGN_BLIND_MOST) {
            return;
        } else {
            start = foreign_by_page(walk, start, end);
        }
    }
}

// Whether `at` lies in [start, end); if so it is moved behind, and if not,
// `stop` is brought down to the start.
static bool foreign_pass(uintptr_t start, uintptr_t end, uintptr_t *at,
                         uintptr_t *stop) {
    if (start <= *at) {
        *at = end;
        return true;
    }
    *stop = start < *stop ? start : *stop;
    return false;
}

static bool foreign_mapping(const struct mapping *mapping, void *data) {
    struct foreign_walk *walk = data;
    if (mapping->is_shared || !mapping->is_readable ||
        (!mapping->is_writable && mapping->inode != 0)) {
        return true;
    }
    for (uintptr_t at = mapping->start; at < mapping->end;) {
        while (walk->our < walk->our_count &&
               foreign_room.ours[walk->our].end <= at) {
            walk->our++;
        }
        while (walk->hole < walk->hole_count &&
               walk->holes[walk->hole].end <= at) {
            walk->hole++;
        }
        uintptr_t stop = mapping->end;
        if ((walk->our < walk->our_count &&
             foreign_pass(foreign_room.ours[walk->our].start,
                          foreign_room.ours[walk->our].end, &at, &stop)) ||
            (walk->hole < walk->hole_count &&
             foreign_pass(walk->holes[walk->hole].start,
                          walk->holes[walk->hole].end, &at, &stop))) {
            continue; // FN2
        }
        foreign_piece(walk, at, stop, mapping->inode != 0);
        at = stop;
    }
    return true;
}

// Loam's own, and this buffer; how many extents.
static size_t foreign_ours(void) {
    size_t count = holding_read(foreign_room.ours);
    uintptr_t self = (uintptr_t)&foreign_room;
    size_t index = count++;
    for (; index > 0 && foreign_room.ours[index - 1].start > self; index--) {
        foreign_room.ours[index] = foreign_room.ours[index - 1];
    }
    foreign_room.ours[index] =
        (struct holding){self, self + sizeof foreign_room};
    return count;
}

bool foreign_each(const struct foreign_hole *holes, size_t count,
                  foreign_visit *visit, void *data) {
    struct foreign_walk walk = {
        .visit = visit,
        .data = data,
        .holes = holes,
        .hole_count = count,
        .our_count = foreign_ours(),
        .page_bytes = memory_page_bytes(),
        .file = file_open(FOREIGN_FILE),
    };
    walk.way = walk.file < 0 ? FOREIGN_BY_CORE : FOREIGN_BY_SCAN;
    int saved = error_save();
    bool told = mapping_each(foreign_mapping, &walk);
    if (walk.file >= 0) {
        file_close(walk.file);
    }
    memset(foreign_room.words, 0, walk.used * WORD_BYTES); // FN5
    memset(foreign_room.ours, 0, walk.our_count * sizeof foreign_room.ours[0]);
    error_restore(saved);
    return told;
}
