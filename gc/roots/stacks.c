#include "roots/stacks.h"

#include "base/bits.h"
#include "heap/blockmap.h"
#include "os/mapping.h"
#include "os/memory.h"
#include "os/stack.h"
#include "os/tracer.h"
#include "roots/fiber.h"
#include "roots/mutator.h"

// What the visits of one thread need to know.
struct stacks_call {
    stacks_visit *visit;
    void *data;
    const struct record *all; // all threads, or NULL
};

static void stacks_words(const struct stacks_call *call, uintptr_t start,
                         uintptr_t end) {
    start = bits_round_up(start, WORD_BYTES);
    end = bits_round_down(end, WORD_BYTES);
    if (start < end) {
        call->visit((const uintptr_t *)start, (const uintptr_t *)end,
                    call->data);
    }
}

// Where the readable memory that holds `address` ends, at most `limit`.
static uintptr_t stacks_end(uintptr_t address, uintptr_t limit) {
    struct mapping mapping;
    if (mapping_find(address, &mapping)) {
        uintptr_t end = mapping.is_readable ? mapping.end : address;
        return end < limit ? end : limit;
    }
    // The system does not tell: page by page.
    size_t page = memory_page_bytes();
    uintptr_t at = bits_round_down(address, page);
    while (at < limit && memory_is_readable((const void *)at)) {
        at += page;
    }
    return at < limit ? at : limit;
}

// Where the readable memory below `end` begins, at least `lowest`.
static uintptr_t stacks_start(uintptr_t lowest, uintptr_t end) {
    size_t page = memory_page_bytes();
    uintptr_t at = end;
    while (at > lowest) {
        struct mapping mapping;
        if (!mapping_find(at - 1, &mapping)) {
            uintptr_t below = bits_round_down(at - 1, page);
            if (!memory_is_readable((const void *)below)) {
                return at; // Y3
            }
            at = below;
        } else if (!mapping.is_readable) {
            return at;
        } else if (lowest == 0) {
            return mapping.start; // a stack that grows is one mapping
        } else {
            at = mapping.start;
        }
    }
    return lowest;
}

static bool stacks_is_own(const struct mutator *mutator, uintptr_t hot_end) {
    uintptr_t cold_end = (uintptr_t)mutator->cold_end;
    if (mutator->lowest != NULL) {
        return (uintptr_t)mutator->lowest <= hot_end && hot_end < cold_end;
    }
    if (hot_end >= cold_end) {
        return false;
    }
    struct mapping mapping;
    return mapping_find(hot_end, &mapping)
               ? mapping.end >= cold_end
               : stack_is_whole((const void *)hot_end, mutator->cold_end);
}

// Y2: all of the stack that a thread was born with.
static void stacks_all_of_own(const struct mutator *mutator,
                              const struct stacks_call *call) {
    uintptr_t cold_end = (uintptr_t)mutator->cold_end;
    stacks_words(call, stacks_start((uintptr_t)mutator->lowest, cold_end),
                 cold_end);
}

// Where a thread stopped; 0: it was never seen to stop anywhere.
static uintptr_t stacks_hot_end(const struct record *record) {
    const struct mutator *mutator = record->mutator;
    if (record->stop == RECORD_SELF) {
        return (uintptr_t)mutator->hot_end;
    }
    if (record->stop == RECORD_HELD) {
        return (uintptr_t)(mutator->hot_end != NULL ? mutator->hot_end
                                                    : mutator->stopped_at);
    }
    return (uintptr_t)record->hot_end;
}

// Visits what can be read from `from` on, but for what lies below the hot ends
// of threads on their own stacks (Y6): one that is held hears signals.
static void stacks_words_in_use(const struct stacks_call *call, uintptr_t from,
                                uintptr_t end) {
    while (from < end) {
        uintptr_t gap = end, after = end;
        for (const struct record *r = call->all; r != NULL; r = r->next) {
            const struct mutator *m = r->mutator;
            uintptr_t lowest = m == NULL ? 0 : (uintptr_t)m->lowest;
            if (from <= lowest && lowest < gap) {
                uintptr_t hot_end = stacks_hot_end(r);
                if (lowest <= hot_end && hot_end < (uintptr_t)m->cold_end &&
                    fiber_find(hot_end) == NULL) {
                    gap = lowest;
                    after = hot_end;
                }
            }
        }
        stacks_words(call, from, gap);
        from = after;
    }
}

// Whether it is on the signal stack on which it was last seen to stop.
static bool stacks_is_alternate(const struct record *record,
                                uintptr_t hot_end) {
    return (uintptr_t)record->alternate_lowest <= hot_end &&
           hot_end < (uintptr_t)record->alternate_end;
}

// A stack that nobody told us of, from hot_end on; it ends at `limit` at the
// latest.
static void stacks_foreign(const struct record *record, uintptr_t hot_end,
                           uintptr_t limit, const struct stacks_call *call) {
    struct place place;
    if (blockmap_object(hot_end, &place) != NULL) {
        // In an object, which is kept for as long.
        call->visit(&hot_end, &hot_end + 1, call->data);
        limit = place.start + place.bytes;
    }
    if (stacks_is_alternate(record, hot_end)) {
        limit = (uintptr_t)record->alternate_end;
    }
    stacks_words_in_use(call, hot_end, stacks_end(hot_end, limit));
}

static void stacks_mutator(const struct record *record, uintptr_t hot_end,
                           const struct stacks_call *call) {
    const struct mutator *mutator = record->mutator;
    struct fiber *fiber = fiber_find(hot_end);
    if (fiber != NULL) {
        fiber_note(fiber, hot_end);
        uintptr_t from =
            fiber_visit_native(&mutator->seat, call->visit, call->data);
        if (from != 0) {
            stacks_words(call, from, (uintptr_t)mutator->cold_end);
            return;
        }
        stacks_all_of_own(mutator, call);
        return;
    }
    if (stacks_is_own(mutator, hot_end)) {
        if (stacks_is_alternate(record, hot_end)) {
            // An array in a frame: what was interrupted lies below it.
            stacks_all_of_own(mutator, call); // Y2
        } else {
            stacks_words(call, hot_end, (uintptr_t)mutator->cold_end); // Y1
        }
        return;
    }
    // A fiber that was interrupted is read as one that runs nowhere: whole.
    stacks_foreign(record, hot_end, UINTPTR_MAX, call);
    stacks_all_of_own(mutator, call);
}

static void stacks_stranger(const struct record *record, uintptr_t hot_end,
                            const struct stacks_call *call) {
    // The library's control block usually ends the stack of its thread; it is
    // in the middle of none.  What comes behind it in the same mapping may be
    // another thread's, which hears signals while it is held, and writes.
    uintptr_t pointer = record->thread_pointer;
    struct fiber *fiber = fiber_find(hot_end);
    if (fiber != NULL) {
        fiber_note(fiber, hot_end);
    } else {
        // The usual case is one of ten thousand, and no neighbour is asked for.
        struct stacks_call alone = {call->visit, call->data, NULL};
        bool ends = pointer > hot_end;
        stacks_foreign(record, hot_end, ends ? pointer : UINTPTR_MAX,
                       ends ? &alone : call);
    }
    // Of one that was traced nobody knows whether it is on a signal's.
    struct mapping mapping;
    bool elsewhere = fiber != NULL || record->alternate_end != NULL;
    bool doubtful = elsewhere || record->stop == RECORD_TRACED;
    if (doubtful && pointer != 0 && mapping_find(pointer, &mapping) &&
        mapping.is_readable &&
        (elsewhere || hot_end < mapping.start || hot_end >= mapping.end)) {
        stacks_words(call, mapping.start, mapping.end); // Y2
    }
}

// Y4
static void stacks_file(const struct tracer_file *file,
                        const struct stacks_call *call) {
    uintptr_t general = (uintptr_t)file->general;
    stacks_words(call, general, general + file->general_count * WORD_BYTES);
    uintptr_t vector = (uintptr_t)file->vector;
    stacks_words(call, vector, vector + file->vector_count * WORD_BYTES);
}

static void stacks_one(const struct record *record,
                       const struct stacks_call *call) {
    const struct mutator *mutator = record->mutator;
    uintptr_t hot_end = stacks_hot_end(record);
    if (record->stop == RECORD_HELD) {
        uintptr_t saved = (uintptr_t)mutator->registers;
        stacks_words(call, saved, saved + sizeof mutator->registers);
    } else if (record->stop == RECORD_TRACED) {
        stacks_file(record->file, call);
    }
    if (hot_end == 0) {
        return;
    }
    if (mutator != NULL) {
        stacks_mutator(record, hot_end, call);
    } else {
        stacks_stranger(record, hot_end, call);
    }
}

void stacks_each(const struct record *record, stacks_visit *visit, void *data) {
    struct stacks_call call = {visit, data, NULL};
    stacks_one(record, &call);
}

// The conductor's frames, and what older ones left below, are no part of the
// program; but a stranger's stack is read to the end of its mapping, which may
// hold the conductor's too.
struct stacks_cut {
    stacks_visit *visit;
    void *data;
    const uintptr_t *from, *end;
};

static void stacks_words_but(const uintptr_t *start, const uintptr_t *end,
                             void *data) {
    const struct stacks_cut *cut = data;
    const uintptr_t *low_end = end < cut->from ? end : cut->from;
    const uintptr_t *high = start > cut->end ? start : cut->end;
    if (start < low_end) {
        cut->visit(start, low_end, cut->data);
    }
    if (high < end) {
        cut->visit(high, end, cut->data);
    }
}

static struct stacks_cut stacks_cut_own(const struct record *r) {
    while (r->stop != RECORD_SELF) {
        r = r->next;
    }
    const struct mutator *self = r->mutator;
    const void *hot_end = self->hot_end;
    // A fiber may lie in the middle of the thread's own stack.
    bool own = self->lowest != NULL && self->lowest <= hot_end &&
               hot_end < self->cold_end &&
               fiber_find((uintptr_t)hot_end) == NULL;
    return (struct stacks_cut){.from = own ? self->lowest
                                           : __builtin_frame_address(0),
                               .end = hot_end};
}

void stacks_all(const struct record *records, stacks_visit *visit, void *data) {
    struct stacks_cut cut = stacks_cut_own(records);
    cut.visit = visit;
    cut.data = data;
    struct stacks_call call = {stacks_words_but, &cut, records};
    for (const struct record *r = records; r != NULL; r = r->next) {
        stacks_one(r, &call);
    }
}

uint32_t stacks_nearest(const struct record *records, const void *at) {
    uintptr_t nearest = 0;
    uint32_t thread = 0;
    for (const struct record *r = records; r != NULL; r = r->next) {
        uintptr_t hot_end = stacks_hot_end(r);
        if (nearest < hot_end && hot_end <= (uintptr_t)at) {
            nearest = hot_end;
            thread = r->thread;
        }
    }
    return thread;
}

// How far down what a thread stopped on goes, as far as that is known.
static uintptr_t stacks_lowest(const struct record *record, uintptr_t hot_end) {
    const struct mutator *mutator = record->mutator;
    if (stacks_is_alternate(record, hot_end)) {
        return (uintptr_t)record->alternate_lowest;
    }
    const struct fiber *fiber = fiber_find(hot_end);
    if (fiber != NULL) {
        return fiber->lowest;
    }
    bool own = mutator != NULL && mutator->lowest != NULL &&
               hot_end < (uintptr_t)mutator->cold_end;
    return own ? (uintptr_t)mutator->lowest : hot_end;
}

bool stacks_is_dead(const struct record *records, const void *at) {
    for (const struct record *r = records; r != NULL; r = r->next) {
        uintptr_t hot_end = stacks_hot_end(r);
        if ((uintptr_t)at < hot_end &&
            stacks_lowest(r, hot_end) <= (uintptr_t)at) {
            return true;
        }
    }
    return false;
}

void stacks_each_pointer(const struct record *records, stacks_pointer *visit,
                         void *data) {
    for (const struct record *r = records; r != NULL; r = r->next) {
        uintptr_t pointer =
            r->mutator != NULL ? r->mutator->thread_pointer : r->thread_pointer;
        if (pointer != 0) {
            visit(pointer, data);
        }
    }
}
