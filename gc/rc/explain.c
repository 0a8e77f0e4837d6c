#include "rc/explain.h"

#include <string.h>

#include "base/bits.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "heap/range.h"
#include "rc/bias.h"
#include "rc/bond.h"
#include "rc/count.h"
#include "rc/kinds.h"

// As in a trial: 0 is out of question, else one more than the owners that are
// not explained; this one is for ever.
#define EXPLAIN_ALIVE COUNTED_SCRATCH_MASK

bool explain_is_used(void) {
    return kinds_get(1) != NULL;
}

// 0 of the dead, whose head may be a link.
static uint32_t explain_scratch(const void *object) {
    return counted_flags(object) & COUNTED_DEAD
               ? 0
               : counted_of(object)->info & COUNTED_SCRATCH_MASK;
}

static void explain_set(void *object, uint32_t scratch) {
    struct counted *head = counted_of(object);
    head->info = (head->info & ~COUNTED_SCRATCH_MASK) | scratch;
}

// One walk over the counted objects of a heap.
struct explain_walk {
    const struct heap *heap;
    explain_visit *visit;
    void *data;
    struct explain_report *report;
    void (*object)(struct explain_walk *walk, void *object);
    bool marked_too; // not only objects that are not marked
};

static void explain_word(struct explain_walk *walk, uint32_t block, size_t word,
                         size_t front) {
    const uint64_t *pair = block_pair(block, word);
    uint64_t bits = walk->marked_too ? pair[1] : pair[1] & ~pair[0];
    for (; bits != 0; bits &= bits - 1) {
        uint32_t cell = (uint32_t)(word * 64 + bits_lowest(bits));
        void *object = (void *)(block_cell_address(block, cell) + front);
        if (counted_type(object) != 0) { // else it is just being made
            walk->object(walk, object);
        }
    }
}

static void explain_block(uint32_t block, void *data) {
    struct explain_walk *walk = data;
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (!block_kind_is_counted(kind) ||
        block_get(block)->heap != walk->heap->slot) {
        return;
    }
    for (size_t word = 0; word < block_words(block); word++) {
        explain_word(walk, block, word, block_kind_front(kind));
    }
}

static void explain_each(struct explain_walk *walk,
                         void (*object)(struct explain_walk *, void *)) {
    walk->object = object;
    heap_each_block(explain_block, walk);
}

// --- Who is explained --------------------------------------------------------

static uint32_t explain_count(const void *object,
                              const struct kinds_type *type) {
    if (type->flags & KINDS_SHARED) {
        size_t count = bias_count(object);
        return count >= EXPLAIN_ALIVE ? EXPLAIN_ALIVE : (uint32_t)count;
    }
    uint32_t word = counted_flags(object);
    if (!(type->flags & KINDS_ATOMIC) && !kinds_is_plain(object, word)) {
        return 0; // EX4
    }
    return (word & COUNTED_COUNT_MASK) / COUNTED_ONE;
}

// What is dying is kept, a zombie only if a buffer names it; and what its owner
// is told of, which may destroy it at any time.
static bool explain_is_kept(const void *object) {
    uint32_t word = counted_flags(object);
    if (counted_type(object) == COUNTED_ZOMBIE) {
        return (word & COUNTED_KEPT) != 0;
    }
    return (word & COUNTED_DEAD) != 0 ||
           ((kinds_of(object)->flags & KINDS_SHARED) && bias_is_queued(object));
}

// What a zombie led to is nobody's any more: it is marked alone.
static void explain_keep(struct explain_walk *walk, void *object) {
    struct place place;
    if (counted_type(object) != COUNTED_ZOMBIE) {
        walk->visit((uintptr_t)object, walk->data);
    } else if (blockmap_find((uintptr_t)counted_of(object), &place)) {
        block_pair(place.block, place.cell / 64)[0] |= (uint64_t)1
                                                       << (place.cell % 64);
    }
}

static void explain_begin(struct explain_walk *walk, void *object) {
    if (explain_is_kept(object)) {
        explain_keep(walk, object);
        return;
    }
    if (counted_type(object) == COUNTED_ZOMBIE) {
        return;
    }
    uint32_t count = explain_count(object, kinds_of(object));
    explain_set(object, count >= EXPLAIN_ALIVE - 1 ? EXPLAIN_ALIVE : count + 1);
}

// The object that a slot owns, if it is in question.
static void *explain_find(uintptr_t word) {
    struct place place;
    if (blockmap_object(word, &place) == NULL ||
        !block_kind_is_counted(place.kind) ||
        place.start + block_kind_front(place.kind) != word ||
        block_is_marked(place.block, place.cell)) {
        return NULL;
    }
    return explain_scratch((void *)word) != 0 ? (void *)word : NULL;
}

static void explain_owner(struct explain_walk *walk, uintptr_t word) {
    void *object = word == 0 ? NULL : explain_find(word);
    if (object == NULL) {
        return;
    }
    uint32_t scratch = explain_scratch(object);
    if (scratch == 1) {
        walk->report->faulty_count++; // owns without a count: it stays
        walk->report->faulty = object;
        explain_set(object, EXPLAIN_ALIVE);
    } else if (scratch != EXPLAIN_ALIVE) {
        explain_set(object, scratch - 1);
    }
}

static void explain_slot(void *slot, void *data) {
    uintptr_t word;
    memcpy(&word, slot, sizeof word);
    explain_owner(data, word);
}

static void explain_slots(struct explain_walk *walk, void *object) {
    if (explain_scratch(object) == 0) {
        return;
    }
    const struct kinds_type *type = kinds_of(object);
    for (uint32_t i = 0; i < type->slot_count; i++) {
        explain_slot((char *)object + type->slots[i], walk);
    }
    if (type->visit != NULL) {
        type->visit(object, explain_slot, walk);
    }
}

static bool explain_is_shared(const void *object) {
    return (kinds_of(object)->flags & (KINDS_SHARED | KINDS_ATOMIC)) != 0;
}

// A map's entry owns its value as long as map and key live.  Whether they do is
// not known yet; but if so the value will be marked (EX7).  One that is shared
// lives as long as its entry.
static void explain_bond(struct bond *bond, void *data) {
    if (bond->sort & (BOND_VALUE | BOND_HELD | BOND_LOOSE)) {
        const void *value = explain_find(bond->value);
        if (value != NULL && !explain_is_shared(value)) {
            explain_owner(data, bond->value);
        }
    }
}

static void explain_visit_held(struct explain_walk *walk, void *object) {
    uint32_t scratch = explain_scratch(object);
    if (scratch > 1) {
        walk->report->held_count++;
        walk->visit((uintptr_t)object, walk->data);
    } else if (scratch == 1) {
        walk->report->due_count += count_is_due(object, kinds_of(object));
    }
}

void explain_held(const struct heap *heap, explain_visit *visit, void *data,
                  struct explain_report *report) {
    struct explain_walk walk = {
        .heap = heap, .visit = visit, .data = data, .report = report};
    *report = (struct explain_report){.held_count = 0};
    explain_each(&walk, explain_begin);
    explain_each(&walk, explain_slots);
    if (bond_is_used()) {
        bond_each(explain_bond, &walk);
    }
    explain_each(&walk, explain_visit_held);
}

static void explain_blame_one(struct explain_walk *walk, void *object) {
    if (explain_scratch(object) != 0) {
        slots_blame(walk->data, object);
    }
}

void explain_blame(const struct heap *heap, const void *faulty,
                   struct slots_fault *fault) {
    struct explain_walk walk = {
        .heap = heap, .data = fault, .marked_too = true};
    slots_begin(fault, faulty);
    explain_each(&walk, explain_blame_one);
}

bool explain_is_asked(const void *object) {
    return explain_scratch(object) != 0;
}

bool explain_is_explained(const void *object) {
    return explain_scratch(object) == 1;
}

static void explain_name(struct explain_walk *walk, void *object) {
    uint32_t scratch = explain_scratch(object);
    if (scratch <= 1) {
        return;
    }
    struct explain_list *list = walk->data;
    if (list->count < list->capacity) {
        list->items[list->count] = (struct explain_named){
            .object = object,
            .type = kinds_of(object),
            .owner_count = scratch == EXPLAIN_ALIVE ? 0 : scratch - 1};
    }
    list->count++;
}

void explain_list(const struct heap *heap, struct explain_list *list) {
    struct explain_walk walk = {.heap = heap, .data = list, .marked_too = true};
    list->count = 0;
    explain_each(&walk, explain_name);
}

// --- Condemned ---------------------------------------------------------------

// Whether nothing has marked it since it was in question.
static bool explain_is_lost(void *object, struct place *place) {
    if (explain_scratch(object) == 0) {
        return false;
    }
    explain_set(object, 0); // EX3
    return blockmap_find((uintptr_t)counted_of(object), place) &&
           !block_is_marked(place->block, place->cell);
}

// One that is condemned no longer; whether it is QUIET is as ever.
static void explain_pardon(void *object) {
    uint32_t flags = COUNTED_CONDEMNED;
    if (!(kinds_of(object)->word & COUNTED_QUIET) &&
        !(counted_flags(object) & COUNTED_KEPT)) {
        flags |= COUNTED_QUIET;
    }
    __atomic_fetch_and(&counted_of(object)->word, ~flags,
                       __ATOMIC_RELAXED); // EX5
}

// Of what leads to each other, all is condemned before the first is marked.
static void explain_condemn_one(struct explain_walk *walk, void *object) {
    struct place place;
    if (counted_flags(object) & COUNTED_DEAD) {
        return;
    }
    if (explain_is_lost(object, &place)) {
        uint32_t *word = &counted_of(object)->word;
        __atomic_fetch_or(word, COUNTED_CONDEMNED, __ATOMIC_RELAXED);
        if (UNLIKELY((kinds_of(object)->flags & KINDS_TRACED) != 0)) {
            __atomic_fetch_and(word, ~(uint32_t)COUNTED_SHOWN,
                               __ATOMIC_RELAXED);
        }
        block_set_flags(place.block, BLOCK_CONDEMNED);
        walk->report->condemned_count++;
    } else if (UNLIKELY((counted_flags(object) & COUNTED_CONDEMNED) != 0)) {
        explain_pardon(object);
    }
}

static bool explain_is_condemned(const void *object) {
    unsigned type = counted_type(object);
    return type != 0 && type != COUNTED_ZOMBIE &&
           (counted_flags(object) & (COUNTED_CONDEMNED | COUNTED_DEAD)) ==
               COUNTED_CONDEMNED;
}

static void explain_visit_due(struct explain_walk *walk, void *object) {
    if (explain_is_condemned(object) &&
        count_is_due(object, kinds_of(object))) {
        walk->visit((uintptr_t)object, walk->data);
    }
}

static void explain_show_one(struct explain_walk *walk, void *object) {
    (void)walk;
    struct place place;
    if (explain_is_condemned(object) &&
        (kinds_of(object)->flags & KINDS_TRACED) &&
        blockmap_find((uintptr_t)counted_of(object), &place) &&
        block_is_marked(place.block, place.cell)) { // EX8
        __atomic_fetch_or(&counted_of(object)->word, COUNTED_SHOWN,
                          __ATOMIC_RELAXED);
    }
}

static void explain_visit_kept(struct explain_walk *walk, void *object) {
    if (explain_is_condemned(object) || explain_is_kept(object)) {
        explain_keep(walk, object);
    }
}

void explain_condemn(const struct heap *heap, explain_visit *visit, void *data,
                     struct explain_report *report) {
    struct explain_walk walk = {.heap = heap,
                                .visit = visit,
                                .data = data,
                                .report = report,
                                .marked_too = true};
    explain_each(&walk, explain_condemn_one);
    report->loosened = bond_settle(heap, visit, data); // before more is marked
    if (report->due_count != 0) {
        walk.marked_too = false;
        explain_each(&walk, explain_visit_due);
    }
}

void explain_show(const struct heap *heap, explain_visit *visit, void *data,
                  struct explain_report *report) {
    struct explain_walk walk = {.heap = heap,
                                .visit = visit,
                                .data = data,
                                .report = report,
                                .marked_too = true};
    if (report->due_count != 0) {
        explain_each(&walk, explain_show_one);
    }
    walk.marked_too = false;
    explain_each(&walk, explain_visit_kept); // EX2
}

// --- Listed ------------------------------------------------------------------

struct explain_taking {
    uint32_t owner;
    bool alone;
    void **items; // NULL: only counted
    size_t count, capacity;
};

// Whether some object of the word is condemned; `mine`: also the plain ones are
// wanted.
static bool explain_take_word(struct explain_taking *taking, uint32_t block,
                              size_t word, bool mine) {
    bool any = false;
    size_t front = block_kind_front(ENTRY_KIND(block_entry(block)));
    uint64_t bits =
        __atomic_load_n(&block_pair(block, word)[1], __ATOMIC_RELAXED);
    for (; bits != 0; bits &= bits - 1) {
        uint32_t cell = (uint32_t)(word * 64 + bits_lowest(bits));
        void *object = (void *)(block_cell_address(block, cell) + front);
        if (!explain_is_condemned(object)) {
            continue;
        }
        any = true;
        if (!mine && !explain_is_shared(object)) {
            continue;
        }
        if (taking->items != NULL && taking->count < taking->capacity) {
            taking->items[taking->count] = object;
        }
        taking->count++;
    }
    return any;
}

static void explain_take_block(uint32_t block, void *data) {
    struct explain_taking *taking = data;
    if (!(block_flags(block) & BLOCK_CONDEMNED)) {
        return;
    }
    uint32_t owner = block_owner_mutator(block);
    bool mine = owner == taking->owner || (owner == 0 && taking->alone);
    bool any = false;
    for (size_t word = 0; word < block_words(block); word++) {
        any |= explain_take_word(taking, block, word, mine);
    }
    if (!any) {
        block_clear_flags(block, BLOCK_CONDEMNED);
    }
}

size_t explain_take(uint32_t owner, bool alone, void **items, size_t capacity) {
    struct explain_taking taking = {
        .owner = owner, .alone = alone, .items = items, .capacity = capacity};
    heap_each_block(explain_take_block, &taking);
    return taking.count;
}
