#include "roots/ranges.h"

#include <string.h>

#include "base/check.h"
#include "heap/meta.h"

// Room for one more of `bytes` in an array; the array moves, doubled.
static bool ranges_reserve(void **items, size_t *capacity, size_t count,
                           size_t bytes) {
    if (count < *capacity) {
        return true;
    }
    size_t grown = *capacity == 0 ? 16 : *capacity * 2;
    void *bigger = meta_make(grown * bytes);
    if (bigger == NULL) {
        return false;
    }
    if (count != 0) {
        memcpy(bigger, *items, count * bytes);
    }
    meta_free(*items, *capacity * bytes);
    *items = bigger;
    *capacity = grown;
    return true;
}

static bool ranges_grow(struct ranges *ranges) {
    void *items = ranges->extents;
    if (!ranges_reserve(&items, &ranges->capacity, ranges->count,
                        sizeof *ranges->extents)) {
        return false;
    }
    ranges->extents = items;
    return true;
}

// The first extent that ends at or after `address`.
static size_t ranges_find(const struct ranges *ranges, uintptr_t address) {
    size_t low = 0;
    size_t high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->extents[middle].end < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Replaces `removed` extents from `at` on by the `added` first of `by`.
static void ranges_splice(struct ranges *ranges, size_t at, size_t removed,
                          const struct extent *by, size_t added) {
    struct extent *place = &ranges->extents[at];
    size_t behind = ranges->count - at - removed;
    memmove(place + added, place + removed, behind * sizeof *place);
    if (added != 0) {
        memcpy(place, by, added * sizeof *place);
    }
    ranges->count = ranges->count - removed + added;
}

bool ranges_add(struct ranges *ranges, struct extent extent) {
    ASSERT(extent.start < extent.end);
    if (!ranges_grow(ranges)) {
        return false; // A4
    }
    size_t first = ranges_find(ranges, extent.start);
    size_t last = first;
    while (last < ranges->count && ranges->extents[last].start <= extent.end) {
        const struct extent *old = &ranges->extents[last];
        extent.start = old->start < extent.start ? old->start : extent.start;
        extent.end = old->end > extent.end ? old->end : extent.end;
        last++;
    }
    ranges_splice(ranges, first, last - first, &extent, 1); // A2
    return true;
}

bool ranges_remove(struct ranges *ranges, struct extent extent, bool *removed) {
    *removed = false;
    size_t first = ranges_find(ranges, extent.start + 1);
    size_t last = first;
    while (last < ranges->count && ranges->extents[last].start < extent.end) {
        last++;
    }
    if (first == last) {
        return true;
    }
    struct extent left = {ranges->extents[first].start, extent.start};
    struct extent right = {extent.end, ranges->extents[last - 1].end};
    struct extent kept[2];
    size_t count = 0;
    if (left.start < left.end) {
        kept[count++] = left;
    }
    if (right.start < right.end) {
        kept[count++] = right;
    }
    if (count > last - first && !ranges_grow(ranges)) {
        return false; // A4: only a piece taken from the middle needs room
    }
    *removed = true;
    ranges_splice(ranges, first, last - first, kept, count);
    return true;
}

void ranges_each_outside(const struct ranges *holes, struct extent extent,
                         ranges_visit *visit, void *data) {
    size_t at = ranges_find(holes, extent.start + 1);
    while (extent.start < extent.end) {
        if (at == holes->count || holes->extents[at].start >= extent.end) {
            visit(extent, data);
            return;
        }
        const struct extent *hole = &holes->extents[at];
        if (extent.start < hole->start) {
            visit((struct extent){extent.start, hole->start}, data);
        }
        extent.start = hole->end; // A3
        at++;
    }
}

static size_t ranges_find_scanner(const struct scanners *scanners,
                                  struct scanner scanner) {
    size_t i = 0;
    while (i < scanners->count &&
           (scanners->items[i].function != scanner.function ||
            scanners->items[i].data != scanner.data)) {
        i++;
    }
    return i;
}

bool ranges_add_scanner(struct scanners *scanners, struct scanner scanner) {
    if (ranges_find_scanner(scanners, scanner) < scanners->count) {
        return true;
    }
    void *items = scanners->items;
    if (!ranges_reserve(&items, &scanners->capacity, scanners->count,
                        sizeof *scanners->items)) {
        return false;
    }
    scanners->items = items;
    scanners->items[scanners->count++] = scanner;
    return true;
}

bool ranges_remove_scanner(struct scanners *scanners, struct scanner scanner) {
    size_t at = ranges_find_scanner(scanners, scanner);
    if (at == scanners->count) {
        return false;
    }
    scanners->items[at] = scanners->items[--scanners->count];
    return true;
}
