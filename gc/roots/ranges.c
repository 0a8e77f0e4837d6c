#include "roots/ranges.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"

#define RANGES_FIRST ((size_t)(LOAM_TINY ? 2 : 16)) // extents

static size_t ranges_bytes(size_t capacity) {
    return sizeof(struct extents) + capacity * sizeof(struct extent);
}

static struct extents *ranges_make(size_t capacity) {
    struct extents *made = meta_make(ranges_bytes(capacity));
    if (made != NULL) {
        made->capacity = capacity;
    }
    return made;
}

static void ranges_unmake(struct extents *extents) {
    if (extents != NULL) {
        meta_free(extents, ranges_bytes(extents->capacity));
    }
}

static void ranges_publish(struct ranges *ranges, struct extents *version) {
    __atomic_store_n(&ranges->now, version, __ATOMIC_RELEASE); // A5
}

// Two buffers with room for one more extent: one that holds the list, and one
// in which the next version can be made, so that making it cannot fail.
static bool ranges_grow(struct ranges *ranges) {
    struct extents *old = ranges->now;
    size_t count = ranges_count(ranges);
    size_t capacity = old == NULL ? RANGES_FIRST : old->capacity;
    bool fits = old != NULL && count < capacity;
    if (fits && ranges->spare != NULL) {
        return true;
    }
    capacity = fits || old == NULL ? capacity : capacity * 2;
    struct extents *bigger = fits ? old : ranges_make(capacity);
    struct extents *spare = bigger == NULL ? NULL : ranges_make(capacity);
    if (spare == NULL) {
        if (!fits) {
            ranges_unmake(bigger);
        }
        return false;
    }
    struct extents *old_spare = ranges->spare;
    ranges->spare = NULL;
    if (!fits) {
        if (count != 0) {
            memcpy(bigger->items, old->items, count * sizeof *old->items);
        }
        bigger->count = count;
        ranges_publish(ranges, bigger);
        ranges_unmake(old);
    }
    ranges->spare = spare;
    ranges_unmake(old_spare);
    return true;
}

// The first extent that ends at or after `address`.
static size_t ranges_find(const struct ranges *ranges, uintptr_t address) {
    size_t low = 0;
    size_t high = ranges_count(ranges);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges_get(ranges, middle).end < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Replaces `removed` extents from `at` on by the `added` first of `by`; there
// is room, and a spare.
static void ranges_splice(struct ranges *ranges, size_t at, size_t removed,
                          const struct extent *by, size_t added) {
    struct extents *old = ranges->now;
    if (at == old->count && added == 1) {
        old->items[at] = by[0];
        __atomic_store_n(&old->count, at + 1, __ATOMIC_RELEASE); // A5
        return;
    }
    struct extents *next = ranges->spare;
    size_t behind = old->count - at - removed;
    memcpy(next->items, old->items, at * sizeof *by);
    memcpy(next->items + at, by, added * sizeof *by);
    memcpy(next->items + at + added, old->items + at + removed,
           behind * sizeof *by);
    next->count = at + added + behind;
    // Never both names for one buffer.
    __atomic_store_n(&ranges->spare, NULL, __ATOMIC_RELEASE);
    ranges_publish(ranges, next);
    __atomic_store_n(&ranges->spare, old, __ATOMIC_RELEASE);
}

bool ranges_add(struct ranges *ranges, struct extent extent) {
    ASSERT(extent.start < extent.end);
    if (!ranges_grow(ranges)) {
        return false; // A4
    }
    size_t first = ranges_find(ranges, extent.start);
    size_t last = first;
    while (last < ranges_count(ranges) &&
           ranges_get(ranges, last).start <= extent.end) {
        struct extent old = ranges_get(ranges, last);
        extent.start = old.start < extent.start ? old.start : extent.start;
        extent.end = old.end > extent.end ? old.end : extent.end;
        last++;
    }
    ranges_splice(ranges, first, last - first, &extent, 1); // A2
    return true;
}

bool ranges_remove(struct ranges *ranges, struct extent extent, bool *removed) {
    *removed = false;
    size_t first = ranges_find(ranges, extent.start + 1);
    size_t last = first;
    while (last < ranges_count(ranges) &&
           ranges_get(ranges, last).start < extent.end) {
        last++;
    }
    if (first == last) {
        return true;
    }
    struct extent left = {ranges_get(ranges, first).start, extent.start};
    struct extent right = {extent.end, ranges_get(ranges, last - 1).end};
    struct extent kept[2];
    size_t count = 0;
    if (left.start < left.end) {
        kept[count++] = left;
    }
    if (right.start < right.end) {
        kept[count++] = right;
    }
    // A4: only a piece taken from the middle needs room; and so does the first
    // change in a child, if the fork lost the spare.
    if ((count > last - first || ranges->spare == NULL) &&
        !ranges_grow(ranges)) {
        return false;
    }
    *removed = true;
    ranges_splice(ranges, first, last - first, kept, count);
    return true;
}

void ranges_each_outside(const struct ranges *holes, struct extent extent,
                         ranges_visit *visit, void *data) {
    size_t at = ranges_find(holes, extent.start + 1);
    while (extent.start < extent.end) {
        if (at == ranges_count(holes) ||
            ranges_get(holes, at).start >= extent.end) {
            visit(extent, data);
            return;
        }
        struct extent hole = ranges_get(holes, at);
        if (extent.start < hole.start) {
            visit((struct extent){extent.start, hole.start}, data);
        }
        extent.start = hole.end; // A3
        at++;
    }
}

// What leads to the scanner, or to the end of the list.
static struct scanner_link **ranges_find_scanner(struct scanners *scanners,
                                                 struct scanner scanner) {
    struct scanner_link **link = &scanners->first;
    while (*link != NULL && ((*link)->scanner.function != scanner.function ||
                             (*link)->scanner.data != scanner.data)) {
        link = &(*link)->next;
    }
    return link;
}

bool ranges_add_scanner(struct scanners *scanners, struct scanner scanner) {
    struct scanner_link **link = ranges_find_scanner(scanners, scanner);
    if (*link != NULL) {
        return true;
    }
    struct scanner_link *made = meta_make(sizeof *made);
    if (made == NULL) {
        return false;
    }
    made->scanner = scanner;
    __atomic_store_n(link, made, __ATOMIC_RELEASE); // A5
    return true;
}

bool ranges_remove_scanner(struct scanners *scanners, struct scanner scanner) {
    struct scanner_link **link = ranges_find_scanner(scanners, scanner);
    struct scanner_link *found = *link;
    if (found == NULL) {
        return false;
    }
    __atomic_store_n(link, found->next, __ATOMIC_RELEASE); // A5
    meta_free(found, sizeof *found);
    return true;
}
