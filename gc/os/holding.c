#include "os/holding.h"

#include "base/check.h"
#include "os/lock.h"

// H4: kept with all bits turned over.
struct holding_veiled {
    uintptr_t start, end;
};

static struct {
    struct lock lock; // of who changes it
    uint32_t changes; // so many; its last bit says which list counts; atomic
    size_t counts[2]; // atomic
    struct holding_veiled lists[2][HOLDING_MOST]; // atomic
} holdings;

static struct holding holding_get(size_t which, size_t index) {
    const struct holding_veiled *veiled = &holdings.lists[which][index];
    return (struct holding){
        ~__atomic_load_n(&veiled->start, __ATOMIC_ACQUIRE),
        ~__atomic_load_n(&veiled->end, __ATOMIC_ACQUIRE),
    };
}

// Appends to the list that does not count.  The order of release keeps these
// stores behind the one that ended the last change (H3).
static void holding_push(size_t which, struct holding holding) {
    size_t count = holdings.counts[which];
    ASSERT(count < HOLDING_MOST);
    struct holding_veiled *veiled = &holdings.lists[which][count];
    __atomic_store_n(&veiled->start, ~holding.start, __ATOMIC_RELEASE);
    __atomic_store_n(&veiled->end, ~holding.end, __ATOMIC_RELEASE);
    __atomic_store_n(&holdings.counts[which], count + 1, __ATOMIC_RELEASE);
}

// Begins a change: the list that counts, and the other one, empty.
static size_t holding_begin(void) {
    lock_acquire(&holdings.lock);
    size_t now = holdings.changes & 1;
    __atomic_store_n(&holdings.counts[1 - now], 0, __ATOMIC_RELEASE);
    return now;
}

static void holding_end(bool done) {
    if (done) {
        __atomic_store_n(&holdings.changes, holdings.changes + 1,
                         __ATOMIC_RELEASE); // H3
    }
    lock_release(&holdings.lock);
}

bool holding_add(uintptr_t start, uintptr_t end) {
    ASSERT(start < end);
    size_t now = holding_begin();
    size_t count = holdings.counts[now];
    struct holding added = {start, end};
    size_t before = 0; // the extents wholly below
    while (before < count && holding_get(now, before).end < start) {
        holding_push(1 - now, holding_get(now, before++));
    }
    size_t after = before; // the first wholly above
    for (; after < count; after++) {
        struct holding there = holding_get(now, after);
        if (there.start > end) {
            break;
        }
        added.start = there.start < added.start ? there.start : added.start;
        added.end = there.end > added.end ? there.end : added.end;
    }
    bool fits = count - (after - before) < HOLDING_MOST;
    if (fits) {
        holding_push(1 - now, added); // H1
        for (; after < count; after++) {
            holding_push(1 - now, holding_get(now, after));
        }
    }
    holding_end(fits);
    return fits;
}

// What is left of one extent: two parts, of which either may be empty.
static void holding_cut(size_t to, struct holding there, struct holding removed,
                        bool full) {
    struct holding low = {there.start, removed.start};
    struct holding high = {removed.end, there.end};
    bool has_low = low.start < low.end;
    bool has_high = high.start < high.end;
    if (full && has_low && has_high) {
        has_low = low.end - low.start >= high.end - high.start;
        has_high = !has_low;
    }
    if (has_low) {
        holding_push(to, low);
    }
    if (has_high) {
        holding_push(to, high);
    }
}

void holding_remove(uintptr_t start, uintptr_t end) {
    ASSERT(start < end);
    size_t now = holding_begin();
    size_t count = holdings.counts[now];
    struct holding removed = {start, end};
    for (size_t index = 0; index < count; index++) {
        struct holding there = holding_get(now, index);
        if (there.end <= start || there.start >= end) {
            holding_push(1 - now, there);
        } else {
            holding_cut(1 - now, there, removed, count == HOLDING_MOST);
        }
    }
    holding_end(true);
}

size_t holding_read(struct holding *list) {
    uint32_t changes = __atomic_load_n(&holdings.changes, __ATOMIC_ACQUIRE);
    for (;;) {
        size_t now = changes & 1;
        size_t count = __atomic_load_n(&holdings.counts[now], __ATOMIC_ACQUIRE);
        for (size_t index = 0; index < count; index++) {
            list[index] = holding_get(now, index);
        }
        uint32_t then = changes;
        changes = __atomic_load_n(&holdings.changes, __ATOMIC_ACQUIRE);
        if (changes == then) {
            return count;
        }
    }
}

void holding_forked(void) {
    holdings.lock.word = 0; // who held it is not here, nor is its change
}
