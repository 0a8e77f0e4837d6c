#include "roots/fiber.h"

#include <string.h>

#include "base/bits.h"
#include "base/check.h"
#include "heap/meta.h"
#include "os/memory.h"

#define FIBER_SLAB_RECORDS ((size_t)(LOAM_TINY ? 3 : 80))

// A main thread's stack is rarely deeper; if it is, it is read whole.
#define FIBER_NATIVE_BYTES (64 * MiB)

struct fiber_slab {
    struct fiber_slab *next; // made before it
    struct fiber records[FIBER_SLAB_RECORDS];
};

static struct {
    struct fiber *tree;       // by address, a heap by rank
    struct fiber *waiting;    // free records, by branch[0]
    struct fiber_slab *slabs; // the truth
    struct fiber nowhere;     // for a seat: on a stack that is not known
} fibers;

// --- The tree --------------------------------------------------------------

// A treap (Seidel and Aragon 1989): sorted by address from left to right and by
// rank from the root down.  Ranks are as good as random, which keeps it flat.
static uint64_t fiber_rank(const struct fiber *fiber) {
    uint64_t mixed = fiber->lowest * 0x9E3779B97F4A7C15u;
    mixed = (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93u;
    return mixed ^ (mixed >> 32);
}

static void fiber_insert(struct fiber *fiber) {
    uint64_t rank = fiber_rank(fiber);
    struct fiber **at = &fibers.tree;
    while (*at != NULL && fiber_rank(*at) >= rank) {
        at = &(*at)->branch[(*at)->lowest < fiber->lowest];
    }
    // What hung here is split in two: below the new record, and above it.
    struct fiber *rest = *at;
    struct fiber **ends[2] = {&fiber->branch[0], &fiber->branch[1]};
    while (rest != NULL) {
        size_t side = rest->lowest > fiber->lowest;
        *ends[side] = rest;
        ends[side] = &rest->branch[1 - side];
        rest = *ends[side];
    }
    *ends[0] = *ends[1] = NULL;
    *at = fiber;
}

static void fiber_remove(struct fiber *fiber) {
    struct fiber **at = &fibers.tree;
    while (*at != fiber) {
        CHECK(*at != NULL); // F2
        at = &(*at)->branch[(*at)->lowest < fiber->lowest];
    }
    struct fiber *low = fiber->branch[0];
    struct fiber *high = fiber->branch[1];
    while (low != NULL && high != NULL) {
        if (fiber_rank(low) >= fiber_rank(high)) {
            *at = low;
            at = &low->branch[1];
            low = *at;
        } else {
            *at = high;
            at = &high->branch[0];
            high = *at;
        }
    }
    *at = low != NULL ? low : high;
}

// The record with the highest area that begins at or below `address`.
static struct fiber *fiber_below(uintptr_t address) {
    struct fiber *best = NULL;
    struct fiber *at = fibers.tree;
    while (at != NULL) {
        bool below = at->lowest <= address;
        best = below ? at : best;
        at = at->branch[below];
    }
    return best;
}

struct fiber *fiber_find(uintptr_t address) {
    struct fiber *fiber = fiber_below(address);
    return fiber != NULL && address < fiber->end ? fiber : NULL; // F2
}

// --- Records ---------------------------------------------------------------

static void fiber_wait(struct fiber *fiber) {
    fiber->branch[0] = fibers.waiting;
    fibers.waiting = fiber;
}

static bool fiber_add_slab(void) {
    struct fiber_slab *slab = meta_make(sizeof *slab);
    if (slab == NULL) {
        return false;
    }
    slab->next = fibers.slabs;
    for (size_t i = FIBER_SLAB_RECORDS; i-- > 0;) {
        fiber_wait(&slab->records[i]);
    }
    __atomic_store_n(&fibers.slabs, slab, __ATOMIC_RELEASE);
    return true;
}

enum fiber_answer fiber_register(uintptr_t lowest, size_t bytes,
                                 struct fiber **fiber) {
    uintptr_t end;
    if (lowest == 0 || bytes == 0 || bits_add_overflows(lowest, bytes, &end)) {
        return FIBER_BAD;
    }
    const struct fiber *other = fiber_below(end - 1);
    if (other != NULL && other->end > lowest) {
        return FIBER_BAD; // F1
    }
    if (fibers.waiting == NULL && !fiber_add_slab()) {
        return FIBER_SHORT; // F7
    }
    struct fiber *made = fibers.waiting;
    fibers.waiting = made->branch[0];
    memset(&made->left, 0, sizeof made->left);
    made->end = end;
    made->noted = 0;
    __atomic_store_n(&made->lowest, lowest, __ATOMIC_RELEASE); // F8
    fiber_insert(made);
    *fiber = made;
    return FIBER_TAKEN;
}

void fiber_unregister(struct fiber *fiber, struct fiber_seat *seat) {
    CHECK(fiber_is_registered(fiber));
    if (seat != NULL && seat->running == fiber) {
        seat->running = &fibers.nowhere; // the record may be another's soon
    }
    fiber_remove(fiber);
    __atomic_store_n(&fiber->lowest, 0, __ATOMIC_RELEASE); // F8
    fiber_wait(fiber);
}

bool fiber_is_registered(const struct fiber *fiber) {
    return __atomic_load_n(&fiber->lowest, __ATOMIC_ACQUIRE) != 0;
}

// --- Switching -------------------------------------------------------------

// Whether the thread's own stack may hold the address.
static bool fiber_is_native(const struct fiber_leaving *leaving,
                            uintptr_t lowest) {
    uintptr_t hot = (uintptr_t)leaving->hot_end;
    return hot >= lowest && hot <= (uintptr_t)leaving->cold_end;
}

bool fiber_is_seated(const struct fiber_seat *seat,
                     const struct fiber_leaving *leaving) {
    uintptr_t hot = (uintptr_t)leaving->hot_end;
    const struct fiber *running = seat->running;
    if (running != NULL) {
        return hot > running->lowest && hot <= running->end;
    }
    uintptr_t lowest = (uintptr_t)leaving->lowest;
    uintptr_t end = (uintptr_t)leaving->cold_end;
    if (lowest == 0 && end > FIBER_NATIVE_BYTES) {
        lowest = end - FIBER_NATIVE_BYTES;
    }
    return fiber_is_native(leaving, lowest);
}

void fiber_reseat(struct fiber_seat *seat,
                  const struct fiber_leaving *leaving) {
    seat->running = fiber_find((uintptr_t)leaving->hot_end);
    if (seat->running == NULL &&
        !fiber_is_native(leaving, (uintptr_t)leaving->lowest)) {
        seat->running = &fibers.nowhere;
    }
}

void fiber_switch(struct fiber_seat *seat, const struct fiber_leaving *leaving,
                  struct fiber *to) {
    struct fiber *from = seat->running;
    // A stack that is entered is no longer where it was left; its registers may
    // still be the only copy, until the switch has been made.
    struct fiber_left *entered = to != NULL ? &to->left : &seat->native;
    entered->at = 0;
    if (to == from) {
        return;
    }
    if (from == NULL || fiber_is_registered(from)) {
        struct fiber_left *left = from != NULL ? &from->left : &seat->native;
        bool known = fiber_is_seated(seat, leaving);
        memcpy(left->registers, leaving->registers, sizeof left->registers);
        left->at = known ? (uintptr_t)leaving->hot_end : 0; // F5
    }
    seat->running = to;
}

// --- In a stop -------------------------------------------------------------

void fiber_note(struct fiber *fiber, uintptr_t stack_pointer) {
    ASSERT(stack_pointer >= fiber->lowest && stack_pointer < fiber->end);
    if (fiber->noted == 0 || stack_pointer < fiber->noted) {
        fiber->noted = stack_pointer;
    }
}

// The first address from `at` on that can be read: guard pages lie below.
static uintptr_t fiber_first_readable(uintptr_t at, uintptr_t end) {
    size_t page = memory_page_bytes();
    at = bits_round_up(at, WORD_BYTES);
    while (at < end && !memory_is_readable((const void *)at)) {
        at = bits_round_down(at, page) + page;
    }
    return at;
}

// Where to begin to read a stack that was left at `left`.
static uintptr_t fiber_start(uintptr_t lowest, uintptr_t left) {
    uintptr_t start = left - FIBER_SLACK_BYTES;
    return start < lowest || start > left ? lowest : start;
}

static void fiber_visit_left(const struct fiber_left *left, fiber_visit *visit,
                             void *data) {
    visit(left->registers, left->registers + STACK_REGISTERS, data);
}

static void fiber_visit_one(struct fiber *fiber, fiber_visit *visit,
                            void *data) {
    visit(&fiber->lowest, &fiber->lowest + 1, data); // F6
    uintptr_t start = fiber->noted;
    uintptr_t end = bits_round_down(fiber->end, WORD_BYTES);
    if (start == 0) { // F3: nobody runs here
        fiber_visit_left(&fiber->left, visit, data);
        start = fiber->lowest;
        uintptr_t at = fiber->left.at;
        if (at > fiber->lowest && at <= fiber->end) {
            start = fiber_start(fiber->lowest, at);
        }
        start = fiber_first_readable(start, end);
    }
    fiber->noted = 0;
    start = bits_round_down(start, WORD_BYTES);
    if (start < end) {
        visit((const uintptr_t *)start, (const uintptr_t *)end, data);
    }
}

void fiber_each(fiber_visit *visit, void *data) {
    for (struct fiber_slab *slab = fibers.slabs; slab != NULL;
         slab = slab->next) {
        for (size_t i = 0; i < FIBER_SLAB_RECORDS; i++) {
            if (slab->records[i].lowest != 0) {
                fiber_visit_one(&slab->records[i], visit, data);
            }
        }
    }
}

uintptr_t fiber_visit_native(const struct fiber_seat *seat, fiber_visit *visit,
                             void *data) {
    fiber_visit_left(&seat->native, visit, data);
    return seat->native.at == 0 ? 0 : fiber_start(1, seat->native.at); // F4
}

// --- After a fork ----------------------------------------------------------

void fiber_rebuild(void) {
    fibers.tree = fibers.waiting = NULL;
    for (struct fiber_slab *slab = fibers.slabs; slab != NULL;
         slab = slab->next) {
        for (size_t i = 0; i < FIBER_SLAB_RECORDS; i++) {
            struct fiber *fiber = &slab->records[i];
            fiber->noted = 0;
            if (fiber->lowest != 0) {
                fiber_insert(fiber);
            } else {
                fiber_wait(fiber);
            }
        }
    }
}

bool fiber_check(void) {
    for (struct fiber_slab *slab = fibers.slabs; slab != NULL;
         slab = slab->next) {
        for (size_t i = 0; i < FIBER_SLAB_RECORDS; i++) {
            struct fiber *fiber = &slab->records[i];
            if (fiber->lowest != 0 && (fiber->lowest >= fiber->end ||
                                       fiber_find(fiber->lowest) != fiber ||
                                       fiber_find(fiber->end - 1) != fiber)) {
                return false;
            }
        }
    }
    return true;
}
