#include "collect/collect.h"

#include <string.h>

#include "base/check.h"
#include "base/text.h"
#include "collect/verify.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/region.h"
#include "os/clock.h"
#include "os/output.h"
#include "os/segments.h"
#include "os/stack.h"
#include "rc/others.h"
#include "roots/mutator.h"
#include "roots/reserve.h"
#include "roots/stacks.h"
#include "roots/world.h"
#include "trace/audit.h"

void collect_init(struct collector *collector, struct conductor *conductor,
                  struct heap *heap) {
    collector->conductor = conductor;
    collector->heap = heap;
    collector->resumed_ns = clock_now_ns();
}

// More than the frames of a cycle take, below where it began.
#define COLLECT_FRAMES_BYTES ((size_t)64 * KiB)

// One walk over the roots, by the marker or by the audit.
struct collect_walk {
    struct collector *collector;
    struct conductor *conductor;
    struct mutator *self;
    struct audit *audit; // NULL: the marker walks
    bool exact;          // only words that point into an object count
    struct collect_report *report;
    size_t idle; // threads that may help
};

static void collect_walk_range(const struct collect_walk *walk,
                               const uintptr_t *start, const uintptr_t *end) {
    if (walk->audit != NULL) {
        audit_range(walk->audit, start, end);
    } else if (walk->conductor->quarantine.alone) {
        quarantine_read(start, end);
    } else {
        mark_range(&walk->conductor->marker, start, end);
    }
}

// A word beside `word`, which stands on a stack, at `at`: if it leads to an
// object that `word` itself does not point into, that object is kept too.
static void collect_beside(const struct collect_walk *walk, const uintptr_t *at,
                           uintptr_t word, uintptr_t beside) {
    struct place place;
    if (blockmap_object(beside, &place) == NULL ||
        word - place.start < place.bytes) {
        return;
    }
    if (walk->audit != NULL) {
        audit_word(walk->audit, beside, at);
    } else if (!block_is_marked(place.block, place.cell)) {
        mark_word(&walk->conductor->marker, beside);
        mark_drain(&walk->conductor->marker);
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
        // The end of a cell: not in all blocks the start of a granule.
        if (word % WORD_BYTES == 0 && collect_is_exact(word - 1)) {
            collect_beside(walk, at, word, word - 1);
        }
        for (size_t by = GRANULE_BYTES; by <= STACK_SLOP_BYTES;
             by += GRANULE_BYTES) {
            collect_beside(walk, at, word, word - by);
            collect_beside(walk, at, word, word + by);
        }
    }
}

static void collect_root(const uintptr_t *start, const uintptr_t *end,
                         enum root_kind kind, void *data) {
    const struct collect_walk *walk = data;
    if (walk->audit == NULL) {
        bool stack = kind == ROOT_STACK;
        walk->report->root_bytes += (size_t)(end - start) * WORD_BYTES;
        quarantine_note(&walk->conductor->quarantine, start, end, stack);
    }
    collect_walk_range(walk, start, end);
    if (kind == ROOT_STACK && walk->conductor->neighbours && !walk->exact &&
        !walk->conductor->quarantine.alone) {
        // What is pointed into is marked first: no neighbour is counted of it.
        if (walk->audit == NULL) {
            mark_drain(&walk->conductor->marker);
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
        roots_visit_pushed(&walk->conductor->roots,
                           (struct extent){from, from + bytes}, collect_root,
                           walk);
    }
}

// A scanner that allocates in spite of what it was told must not meet a cache:
// it finds no mutator, and the door answers NULL.
static void collect_scanners(struct collect_walk *walk) {
    const struct scanners *scanners = &walk->conductor->roots.scanners;
    struct mutator **here = walk->self->here;
    if (here != NULL) {
        *here = NULL;
    }
    const struct scanner_link *link = scanners->first;
    for (; link != NULL; link = link->next) {
        collect_scanner *scan = (collect_scanner *)link->scanner.function;
        scan(collect_pushed, walk, link->scanner.data);
    }
    if (here != NULL) {
        *here = walk->self;
    }
}

static void collect_roots(struct collect_walk *walk) {
    roots_each(&walk->conductor->roots, collect_root, walk);
    collect_scanners(walk);
}

// The objects of the heaps that this one was told are its roots.
static void collect_root_heaps(const struct collect_walk *walk) {
    const struct collector *collector = walk->collector;
    for (size_t i = 0; i < collector->root_heap_count; i++) {
        if (walk->audit != NULL) {
            audit_heap(walk->audit, collector->root_heaps[i]);
        } else {
            mark_heap(&walk->conductor->marker, collector->root_heaps[i]);
        }
    }
}

// Which root holds a word.
struct collect_search {
    const uintptr_t *at;
    const uintptr_t *start, *end; // of the root; NULL: none
    enum root_kind kind;
};

static void collect_compare(const uintptr_t *start, const uintptr_t *end,
                            enum root_kind kind, void *data) {
    struct collect_search *search = data;
    if (search->start == NULL && start <= search->at && search->at < end) {
        search->start = start;
        search->end = end;
        search->kind = kind;
    }
}

// What holds the word that led to the first object that was missed.
static void collect_tell_holder(const struct collect_walk *walk,
                                struct text *text) {
    static const char *const kinds[] = {
        [ROOT_STACK] = "; a stack: ",
        [ROOT_STATIC] = "; the program's variables: ",
        [ROOT_ADDED] = "; an added root: ",
    };
    struct collect_search search = {.at = walk->audit->first.at};
    struct place place;
    if (blockmap_object((uintptr_t)search.at, &place) != NULL) {
        text_add(text, "; the object ");
        text_add_hex(text, place.start);
        return;
    }
    roots_each(&walk->conductor->roots, collect_compare, &search);
    if (search.start == NULL) {
        text_add(text, "; pushed by a scanner");
        return;
    }
    text_add(text, kinds[search.kind]);
    text_add_hex(text, (uintptr_t)search.start);
    text_add(text, " to ");
    text_add_hex(text, (uintptr_t)search.end);
    uint32_t thread = stacks_nearest(world.roll.records, search.at);
    if (search.kind == ROOT_STACK && thread != 0) {
        text_add(text, ", nearest to where thread ");
        text_add_number(text, thread);
        text_add(text, " stopped");
    }
}

static COLD _Noreturn void collect_name_missed(const struct collect_walk *walk,
                                               size_t count,
                                               uintptr_t example) {
    const struct audit_word *first = &walk->audit->first;
    char sentence[400];
    struct text text;
    struct place place;
    text_init(&text, sentence, sizeof sentence);
    text_add(&text, "broken: LOAM_CHECK=mark: objects alive but not marked: ");
    text_add_number(&text, count);
    text_add(&text, "; one is at ");
    (void)blockmap_object(first->word != 0 ? first->word : example, &place);
    text_add_hex(&text, place.start);
    text_add(&text, ", ");
    text_add_number(&text, place.bytes);
    text_add(&text, " bytes of kind ");
    text_add_number(&text, place.kind);
    if (first->at != NULL) {
        text_add(&text, ", led to by the word at ");
        text_add_hex(&text, (uintptr_t)first->at);
        collect_tell_holder(walk, &text);
    }
    text_add(&text, "; the cycle began at ");
    text_add_hex(&text, (uintptr_t)walk->self->hot_end);
    check_stop(sentence);
}

static void collect_audit_word(uintptr_t word, void *data) {
    audit_word(data, word, NULL);
}

// Walks from the same roots with the other marker.  What it finds unmarked is a
// live object about to be lost: no program should run on.
static void collect_audit(struct collect_walk *walk) {
    struct audit audit;
    static const char short_of[] =
        "loam: LOAM_CHECK=mark: no memory for the check of this cycle\n";
    if (!audit_begin(&audit, walk->collector->heap, world_is_dead)) {
        output_write(short_of, sizeof short_of - 1);
        return;
    }
    walk->audit = &audit;
    audit.frames_start =
        (uintptr_t)walk->self->hot_end - COLLECT_FRAMES_BYTES; // Q6
    audit.frames_bytes = COLLECT_FRAMES_BYTES;
    collect_roots(walk);
    collect_root_heaps(walk);
    if (!walk->collector->heap->reclaims) {
        audit_pinned(&audit);
    }
    settle_roots(&walk->conductor->settle, true, collect_audit_word, &audit);
    audit_ephemerons(&audit);
    uintptr_t example;
    size_t missed = audit_compare(&audit, &example);
    if (missed != 0) { // C1
        collect_name_missed(walk, missed, example);
    }
    walk->audit = NULL;
    walk->report->audited_objects = audit.object_count;
    if (!audit.complete) {
        output_write(short_of, sizeof short_of - 1);
    }
    audit_end(&audit);
}

// --- Between stop and resume ---------------------------------------------

static void collect_tally_mutator(struct mutator *mutator, void *data) {
    struct heap *heap = data;
    struct cacheset *set = mutator_find_set(mutator, heap);
    if (set != NULL) {
        collect_add_tally(set);
    }
    reserve_fold(&mutator->reserve, heap);
    mutator_drop_inbox(mutator, heap); // heap_prepare drains these blocks
}

// Counted blocks that the flip left to their mutators, with room in them.
void collect_bring_back(struct heap *heap) {
    uint32_t block = heap_take_kept(heap);
    for (; block != BLOCK_NONE; block = heap_take_kept(heap)) {
        struct mutator *owner = world_find(block_owner(block));
        if (owner == NULL || !mutator_keep(owner, heap, block)) {
            heap_disown(heap, block);
        }
    }
}

static void collect_verify(const struct collector *collector) {
    if (collector->conductor->check_verify) {
        verify_heap(collector->heap);
    }
}

static void collect_turn(struct conductor *conductor,
                         enum collect_phase phase) {
    __atomic_store_n(&conductor->phase, phase, __ATOMIC_RELEASE);
}

static void collect_mark_word(uintptr_t word, void *data) {
    mark_word(data, word);
}

// Counted objects that are held where nobody looks.
static void collect_explain(struct collect_walk *walk) {
    if (explain_is_used()) {
        struct marker *marker = &walk->conductor->marker;
        struct explain_report *report = &walk->report->explained;
        explain_held(walk->collector->heap, collect_mark_word, marker, report);
        if (report->faulty != NULL && walk->conductor->unowned != NULL) {
            struct slots_fault fault;
            explain_blame(walk->collector->heap, report->faulty, &fault);
            walk->conductor->unowned(&fault);
        }
        if (walk->conductor->list != NULL) {
            explain_list(walk->collector->heap, walk->conductor->list);
            others_find(walk->collector->heap, walk->conductor->list);
        }
        mark_drain(marker);
    }
}

// And those that are to be destroyed when the world runs again.
static void collect_condemn(struct collect_walk *walk) {
    if (explain_is_used()) {
        struct marker *marker = &walk->conductor->marker;
        struct explain_report *report = &walk->report->explained;
        explain_condemn(walk->collector->heap, collect_mark_word, marker,
                        report);
        if (report->due_count != 0) {
            mark_drain(marker);
        }
        explain_show(walk->collector->heap, collect_mark_word, marker, report);
        mark_drain(marker);
        if (report->condemned_count != 0 || report->loosened) {
            __atomic_fetch_add(&walk->conductor->condemned, 1,
                               __ATOMIC_RELEASE);
        }
    }
}

static void collect_mark_roots(struct collect_walk *walk) {
    collect_roots(walk);
    collect_root_heaps(walk);
    settle_roots(&walk->conductor->settle, false, collect_mark_word,
                 &walk->conductor->marker);
}

// Where pinned cells are no roots: finds what is lost, and marks what stays.
static void collect_mark_sought(struct collect_walk *walk) {
    struct marker *marker = &walk->conductor->marker;
    struct heap *heap = walk->collector->heap;
    walk->exact = !heap->reclaims;
    collect_mark_roots(walk);
    mark_drain(marker);
    help_end(&walk->conductor->help, marker);
    if (heap->reclaims) {
        walk->report->pending_bytes =
            lost_age(heap, marker, &walk->report->root_bytes);
        return;
    }
    lost_report(heap, marker, &walk->conductor->lost);
    walk->exact = false; // what else there is keeps its neighbours
    walk->report->root_bytes = 0;
    collect_roots(walk);
}

static void collect_mark(struct collect_walk *walk) {
    struct conductor *conductor = walk->conductor;
    struct marker *marker = &conductor->marker;
    uint64_t began_ns = clock_now_ns();
    mark_begin(marker);
    conductor->help.used = 1;
    if (!conductor->quarantine.alone) {
        const struct collect_report *last = &walk->collector->figures.last;
        help_begin(&conductor->help, marker, walk->idle,
                   last->mark_ns * last->markers);
    }
    if (walk->collector->heap->seeks) {
        collect_mark_sought(walk);
    } else {
        collect_mark_roots(walk);
        mark_pinned(marker, walk->collector->heap);
    }
    collect_turn(conductor, COLLECT_MARK);
    mark_drain(marker);
    help_end(&conductor->help, marker);
    collect_explain(walk);
    settle_mark(&conductor->settle, marker, &walk->report->settled);
    collect_condemn(walk);
    if (walk->collector->heap->holds) {
        walk->report->swept_bytes =
            quarantine_scan(&conductor->quarantine, walk->collector->heap);
        walk->report->foreign_bytes = conductor->quarantine.foreign_bytes;
    }
    walk->report->mark_ns = clock_now_ns() - began_ns;
    walk->report->markers = conductor->help.used;
    walk->report->scanned_bytes = marker->scanned_bytes;
}

// Whether thread-local variables are found with this C library: the first cycle
// looks for one whose address is known.
static void collect_check_tls(const struct collect_walk *walk) {
    struct conductor *conductor = walk->conductor;
    if (!conductor->tls_asked && walk->self->here != NULL) {
        conductor->tls_asked = true;
        conductor->tls_missed = !segments_check_tls(walk->self->here);
    }
}

// The conductor's part between stop and resume.
static void collect_stopped(struct collect_walk *walk) {
    struct collector *collector = walk->collector;
    struct conductor *conductor = walk->conductor;
    struct collect_report *report = walk->report;
    struct heap *heap = collector->heap;
    world_each(collect_tally_mutator, heap);
    collect_verify(collector);
    __atomic_store_n(&conductor->thread, walk->self->thread, __ATOMIC_RELAXED);
    collect_turn(conductor, COLLECT_ROOTS);
    struct mutator_tails tails = {heap, 0};
    world_each(mutator_tails_out, &tails);
    report->allocated_bytes =
        (size_t)(heap->allocated_bytes - collector->allocated_then);
    heap_prepare(heap);
    report->used_bytes = heap->used_bytes - tails.bytes;
    quarantine_look(&conductor->quarantine, heap);
    collect_check_tls(walk);
    collect_mark(walk);
    if (conductor->check_mark && !conductor->quarantine.gives_way) {
        collect_audit(walk);
    }
    settle_finish(&conductor->settle, &report->settled);
    collect_turn(conductor, COLLECT_FLIP);
    heap_flip(heap, &report->census);
    collect_bring_back(heap);
    world_each(mutator_tails_in, heap);
    collect_verify(collector);
    collect_turn(conductor, COLLECT_IDLE);
}

// --- The cycle -----------------------------------------------------------

static void collect_pace(struct collector *collector, uint64_t stopped_ns,
                         const struct collect_report *report) {
    size_t live = report->census.live_bytes;
    size_t pending =
        report->pending_bytes < live ? report->pending_bytes : live;
    struct pacer_cycle cycle = {
        .live_bytes = report->census.live_bytes - pending,
        .pending_bytes = pending,
        // With what empty caches gave back: the program wants it again soon.
        .block_bytes = report->census.block_bytes,
        .other_bytes = report->root_bytes,
        .allocated_bytes = report->allocated_bytes,
        .mutator_ns = stopped_ns - collector->resumed_ns,
        .mark_ns = report->mark_ns,
        .stand_ns =
            report->threads != 0 ? report->pause_ns - report->mark_ns : 0,
    };
    collector->pacer.limit_bytes = collector->heap->ground->limit_bytes;
    pacer_finish(&collector->pacer, &cycle);
}

static void collect_count(struct collector *collector,
                          const struct collect_report *report) {
    struct collect_figures *figures = &collector->figures;
    // Read without the lock, for what was used when.
    __atomic_store_n(&figures->cycles, figures->cycles + 1, __ATOMIC_RELAXED);
    figures->pause_ns_total += report->pause_ns;
    figures->mark_ns_total += report->mark_ns;
    figures->stop_ns_total += report->stop_ns;
    if (report->stop_ns > figures->stop_ns_max) {
        figures->stop_ns_max = report->stop_ns;
    }
    if (report->pause_ns > figures->pause_ns_max) {
        figures->pause_ns_max = report->pause_ns;
    }
    figures->last = *report;
}

// What can wait until the others run again.
static void collect_finish(struct collect_walk *walk, uint64_t stopped_ns) {
    struct collector *collector = walk->collector;
    struct collect_report *report = walk->report;
    struct region *ground = collector->heap->ground;
    collect_pace(collector, stopped_ns, report);
    if (collector->heap->holds) {
        quarantine_finish(&collector->conductor->quarantine,
                          report->swept_bytes + report->root_bytes);
    }
    if (ground == &collector->heap->region) {
        ground->keep_bytes = collector->pacer.goal_bytes;
    }
    if (!collector->heap->holds) { // malloc gives back in its own time
        region_trim(ground, false);
    }
    if (walk->idle != 0 && !collector->conductor->quarantine.alone) {
        help_ready(&collector->conductor->help, ground, report->mark_ns);
    }
    report->heap_bytes = ground->committed_bytes;
    report->goal_bytes = collector->pacer.goal_bytes;
    collector->resumed_ns = clock_now_ns();
    collector->allocated_then = collector->heap->allocated_bytes;
    collect_count(collector, report);
    struct conductor *conductor = collector->conductor;
    if (conductor->report != NULL) {
        conductor->report(report);
    }
    if (conductor->tls_missed && conductor->blind != NULL) {
        conductor->tls_missed = false;
        conductor->blind();
    }
    stack_clear_below();
}

// The heap has to do without: it may grow until the next try is due.
static void collect_give_up(struct collector *collector,
                            const struct world_stop_report *why) {
    collector->figures.failed++;
    quarantine_put_off(&collector->conductor->quarantine);
    pacer_outgrown(&collector->pacer, heap_block_bytes(collector->heap));
    if (collector->conductor->failed != NULL) {
        collector->conductor->failed(why);
    }
}

bool collect_cycle(struct collector *collector, struct mutator *self,
                   enum collect_reason reason) {
    struct conductor *conductor = collector->conductor;
    if (collect_is_on(conductor) || conductor->held != 0) { // C3
        return false;
    }
    ASSERT(self->hot_end != NULL && self->busy == MUTATOR_INSIDE);
    __atomic_store_n(&conductor->stops, true, __ATOMIC_RELAXED);
    uint64_t stopped_ns = clock_now_ns();
    quarantine_ready(&conductor->quarantine, collector->heap);
    struct world_stop_report stop = {0};
    if (!world_stop(self, &stop)) {
        collect_give_up(collector, &stop);
        return false;
    }
    struct collect_report report = {
        .number = collector->figures.cycles + 1,
        .reason = reason,
        .threads = (size_t)stop.signalled + stop.safe + stop.strangers,
    };
    report.stop_ns = clock_now_ns() - stopped_ns;
    struct collect_walk walk = {collector, conductor,        self, NULL, false,
                                &report,   world_idle(&stop)};
    collect_stopped(&walk);
    world_resume();
    report.pause_ns = clock_now_ns() - stopped_ns;
    collect_finish(&walk, stopped_ns);
    return true;
}

struct collect_call {
    struct mutator *mutator;
    void (*body)(void *data);
    void *data;
};

static void collect_spilled(const void *hot_end, void *data) {
    const struct collect_call *call = data;
    const void *outer = call->mutator->hot_end;
    call->mutator->hot_end = hot_end;
    call->body(call->data);
    call->mutator->hot_end = outer;
}

void collect_enter(struct mutator *mutator, void (*body)(void *data),
                   void *data) {
    struct collect_call call = {mutator, body, data};
    stack_spill(collect_spilled, &call);
}
