#include "collect/collect.h"

#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "collect/verify.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/cache.h"
#include "heap/region.h"
#include "os/clock.h"
#include "os/output.h"
#include "os/stack.h"
#include "os/thread.h"
#include "roots/mutator.h"
#include "trace/audit.h"

bool collect_init(struct collector *collector, struct heap *heap,
                  struct mutator *mutator) {
    collector->heap = heap;
    collector->mutator = mutator;
    collector->resumed_ns = clock_now_ns();
    return mark_init(&collector->marker);
}

// One walk over the roots, by the marker or by the audit.
struct collect_walk {
    struct collector *collector;
    struct audit *audit; // NULL: the marker walks
    struct collect_report *report;
};

static void collect_walk_range(const struct collect_walk *walk,
                               const uintptr_t *start, const uintptr_t *end) {
    if (walk->audit != NULL) {
        audit_range(walk->audit, start, end);
    } else {
        mark_range(&walk->collector->marker, start, end);
    }
}

// A word beside `word`, which stands on a stack: if it leads to an object that
// `word` itself does not point into, that object is kept too.
static void collect_beside(const struct collect_walk *walk, uintptr_t word,
                           uintptr_t beside) {
    struct place place;
    if (blockmap_object(beside, &place) == NULL ||
        word - place.start < place.bytes) {
        return;
    }
    if (walk->audit != NULL) {
        audit_word(walk->audit, beside);
    } else if (!block_is_marked(place.block, place.cell)) {
        mark_word(&walk->collector->marker, beside);
        mark_drain(&walk->collector->marker);
        // The end of a large base-only object does not keep it.
        walk->report->neighbour_objects +=
            block_is_marked(place.block, place.cell);
    }
}

// Whether the end of the object at `word` may also be the end of what was asked
// for: where it never is, a pointer one past the end is still inside.
static bool collect_is_exact(uintptr_t word) {
    struct place place;
    return blockmap_find(word, &place) &&
           (block_get(place.block)->flags & BLOCK_EXACT) != 0;
}

// Whether anything beside the word may lie in the heap.
static bool collect_is_near(uintptr_t word) {
    return word + STACK_SLOP_BYTES - range.base <=
           range.frontier_bytes + 2 * STACK_SLOP_BYTES;
}

static NO_SANITIZE void collect_stack(const struct collect_walk *walk,
                                      const uintptr_t *start,
                                      const uintptr_t *end) {
    for (const uintptr_t *at = start; at < end; at++) {
        uintptr_t word = *at;
        if (!collect_is_near(word)) {
            continue;
        }
        // The end of an object is the start of a granule.
        if (word % GRANULE_BYTES == 0 && collect_is_exact(word - 1)) {
            collect_beside(walk, word, word - 1);
        }
        for (size_t by = GRANULE_BYTES; by <= STACK_SLOP_BYTES;
             by += GRANULE_BYTES) {
            collect_beside(walk, word, word - by);
            collect_beside(walk, word, word + by);
        }
    }
}

static void collect_root(const uintptr_t *start, const uintptr_t *end,
                         enum root_kind kind, void *data) {
    const struct collect_walk *walk = data;
    if (walk->audit == NULL) {
        walk->report->root_bytes += (size_t)(end - start) * WORD_BYTES;
    }
    collect_walk_range(walk, start, end);
    if (kind == ROOT_STACK && walk->collector->neighbours) {
        // Objects that are pointed into are marked first, so that only those
        // that nothing else keeps are counted as neighbours.
        if (walk->audit == NULL) {
            mark_drain(&walk->collector->marker);
        }
        collect_stack(walk, start, end);
    }
}

// The types of a scanner and of the function it is given: those of loam.h.
typedef void collect_push(void *cycle, const void *start, size_t bytes);
typedef void collect_scanner(collect_push *push, void *cycle, void *data);

static void collect_pushed(void *cycle, const void *start, size_t bytes) {
    struct collect_walk *walk = cycle;
    uintptr_t from = (uintptr_t)start;
    if (bytes != 0 && bytes <= UINTPTR_MAX - from) {
        roots_visit_pushed(&walk->collector->roots,
                           (struct extent){from, from + bytes}, collect_root,
                           walk);
    }
}

// A scanner that allocates in spite of what it was told must not meet a cache:
// it finds no mutator, and the door answers NULL.
static void collect_scanners(struct collect_walk *walk) {
    struct collector *collector = walk->collector;
    const struct scanners *scanners = &collector->roots.scanners;
    if (collector->here != NULL) {
        *collector->here = NULL;
    }
    for (size_t i = 0; i < scanners->count; i++) {
        collect_scanner *scan = (collect_scanner *)scanners->items[i].function;
        scan(collect_pushed, walk, scanners->items[i].data);
    }
    if (collector->here != NULL) {
        *collector->here = collector->mutator;
    }
}

static void collect_roots(struct collect_walk *walk, const void *hot_end) {
    struct collector *collector = walk->collector;
    roots_each(&collector->roots, collector->mutator, hot_end, collect_root,
               walk);
    collect_scanners(walk);
}

static COLD _Noreturn void collect_name_missed(size_t count,
                                               uintptr_t example) {
    char sentence[160];
    struct text text;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, "broken: LOAM_CHECK=mark: objects alive but not marked: ");
    text_add_number(&text, count);
    text_add(&text, "; one is at ");
    text_add_hex(&text, example);
    check_stop(sentence);
}

// Walks from the same roots with the other marker.  What it finds unmarked is a
// live object about to be lost: no program should run on.
static void collect_audit(struct collect_walk *walk, const void *hot_end) {
    struct audit audit;
    static const char short_of[] =
        "loam: LOAM_CHECK=mark: no memory for the check of this cycle\n";
    if (!audit_begin(&audit)) {
        output_write(short_of, sizeof short_of - 1);
        return;
    }
    walk->audit = &audit;
    collect_roots(walk, hot_end);
    audit_pinned(&audit);
    walk->audit = NULL;
    uintptr_t example;
    size_t missed = audit_compare(&audit, &example);
    if (missed != 0) { // C1
        collect_name_missed(missed, example);
    }
    walk->report->audited_objects = audit.object_count;
    if (!audit.complete) {
        output_write(short_of, sizeof short_of - 1);
    }
    audit_end(&audit);
}

// The cells of a tail count as used in the heap, and are no objects.
static void collect_tail_out(struct cache *cache, void *data) {
    struct collect_report *report = data;
    report->used_bytes -= cache_tail_bytes(cache);
    cache_tail_out(cache);
}

static void collect_tail_in(struct cache *cache, void *data) {
    cache_tail_in(cache, data);
}

static void collect_verify(const struct collector *collector) {
    if (collector->check_verify) {
        verify_heap(collector->heap, collector->mutator);
    }
}

// The conductor's part between stop and resume.
static void collect_stopped(struct collect_walk *walk) {
    struct collector *collector = walk->collector;
    const void *hot_end = collector->hot_end;
    struct marker *marker = &collector->marker;
    struct collect_report *report = walk->report;
    collect_verify(collector);
    collector->phase = COLLECT_ROOTS;
    mutator_each_cache(collector->mutator, collect_tail_out, report);
    heap_prepare(collector->heap);
    uint64_t began_ns = clock_now_ns();
    mark_begin(marker);
    collect_roots(walk, hot_end);
    mark_pinned(marker);
    collector->phase = COLLECT_MARK;
    mark_drain(marker);
    report->mark_ns = clock_now_ns() - began_ns;
    report->scanned_bytes = marker->scanned_bytes;
    if (collector->check_mark) {
        collect_audit(walk, hot_end);
    }
    collector->phase = COLLECT_FLIP;
    heap_flip(collector->heap, &report->census);
    mutator_each_cache(collector->mutator, collect_tail_in, collector->heap);
    collect_verify(collector);
    collector->phase = COLLECT_IDLE;
}

static void collect_pace(struct collector *collector, uint64_t stopped_ns,
                         const struct collect_report *report) {
    struct pacer_cycle cycle = {
        .live_bytes = report->census.live_bytes,
        // With the blocks that empty caches gave back at the end: the program
        // is likely to want as many again at once.
        .block_bytes = report->census.block_bytes,
        .other_bytes = report->root_bytes,
        .allocated_bytes = report->allocated_bytes,
        .mutator_ns = stopped_ns - collector->resumed_ns,
        .mark_ns = report->mark_ns,
    };
    collector->pacer.limit_bytes = collector->heap->region.limit_bytes;
    pacer_finish(&collector->pacer, &cycle);
}

static void collect_count(struct collector *collector,
                          const struct collect_report *report) {
    struct collect_figures *figures = &collector->figures;
    figures->cycles++;
    figures->pause_ns_total += report->pause_ns;
    figures->mark_ns_total += report->mark_ns;
    if (report->pause_ns > figures->pause_ns_max) {
        figures->pause_ns_max = report->pause_ns;
    }
    figures->last = *report;
}

// The cycle itself, with the registers of the program in memory.
static void collect_run(struct collector *collector,
                        enum collect_reason reason) {
    if (!stack_is_whole(collector->hot_end, collector->mutator->cold_end)) {
        check_stop("a collection was due on a stack that is not the thread's "
                   "own (a fiber's, a signal handler's); this version of Loam "
                   "cannot scan it");
    }
    uint64_t stopped_ns = clock_now_ns();
    struct collect_report report = {
        .number = collector->figures.cycles + 1,
        .reason = reason,
        .used_bytes = collector->heap->used_bytes,
        .allocated_bytes = (size_t)(collector->heap->allocated_bytes -
                                    collector->allocated_then),
    };
    struct collect_walk walk = {collector, NULL, &report};
    collect_stopped(&walk);
    collect_pace(collector, stopped_ns, &report);
    collector->heap->region.keep_bytes = collector->pacer.goal_bytes;
    region_trim(&collector->heap->region, false);
    report.heap_bytes = collector->heap->region.committed_bytes;
    report.goal_bytes = collector->pacer.goal_bytes;
    collector->resumed_ns = clock_now_ns();
    collector->allocated_then = collector->heap->allocated_bytes;
    report.pause_ns = collector->resumed_ns - stopped_ns;
    collect_count(collector, &report);
    if (collector->report != NULL) {
        collector->report(&report);
    }
    stack_clear_below();
}

struct collect_call {
    struct collector *collector;
    void (*body)(void *data);
    void *data;
};

static void collect_spilled(const void *hot_end, void *data) {
    const struct collect_call *call = data;
    const void *outer = call->collector->hot_end;
    call->collector->hot_end = hot_end;
    call->body(call->data);
    call->collector->hot_end = outer;
}

void collect_enter(struct collector *collector, void (*body)(void *data),
                   void *data) {
    struct collect_call call = {collector, body, data};
    stack_spill(collect_spilled, &call);
}

struct collect_begin {
    struct collector *collector;
    enum collect_reason reason;
};

static void collect_entered(void *data) {
    const struct collect_begin *begin = data;
    collect_run(begin->collector, begin->reason);
}

bool collect_cycle(struct collector *collector, enum collect_reason reason) {
    if (collector->phase != COLLECT_IDLE) { // C3
        return false;
    }
    if (!thread_is_alone()) {
        check_stop("a collection was due in a process with more than one "
                   "thread; this version of Loam serves programs of one "
                   "thread");
    }
    if (collector->hot_end == NULL) {
        struct collect_begin begin = {collector, reason};
        collect_enter(collector, collect_entered, &begin);
    } else {
        collect_run(collector, reason);
    }
    return true;
}

void collect_trim(struct collector *collector) {
    region_trim(&collector->heap->region, true);
}
