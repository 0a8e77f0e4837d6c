#include "rc/others.h"

#include <string.h>

#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"
#include "rc/kinds.h"
#include "rc/sites.h"
#include "rc/slots.h"

#define OTHERS_NONE  EXPLAIN_PLACES // no place
#define OTHERS_MIXED UINT32_MAX     // several

struct others_walk {
    const struct heap *heap;
    struct explain_list *list;
    const struct kinds_type *type; // of the object that is looked at
    bool dead;                     // it was destroyed
};

static uint32_t others_place(struct others_walk *walk, size_t offset) {
    struct explain_others *others = walk->list->others;
    for (uint32_t i = 0; i < EXPLAIN_PLACES; i++) {
        if (others[i].place.type == NULL) {
            others[i].place = (struct slots_place){walk->type, offset};
        }
        if (others[i].place.type == walk->type &&
            others[i].place.offset == offset) {
            return i;
        }
    }
    return OTHERS_NONE;
}

// The list is in the order of addresses.
static struct explain_named *others_named(struct explain_list *list,
                                          uintptr_t object) {
    size_t from = 0;
    size_t end = list->count < list->capacity ? list->count : list->capacity;
    while (from < end) {
        size_t middle = from + (end - from) / 2;
        uintptr_t found = (uintptr_t)list->items[middle].object;
        if (found == object) {
            return &list->items[middle];
        }
        if (found < object) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return NULL;
}

static bool others_lives(const void *object) {
    unsigned id = counted_type(object);
    return id != 0 && id != COUNTED_ZOMBIE &&
           !(counted_flags(object) & COUNTED_DEAD);
}

// An undeclared word; what it leads to, if that is or was counted.
static void others_word(uintptr_t word, size_t offset, void *data) {
    struct others_walk *walk = data;
    struct place place;
    if (!blockmap_find(word, &place) || !block_kind_is_counted(place.kind) ||
        blockmap_start(&place) != word) {
        return;
    }
    uint32_t at = others_place(walk, offset);
    const void *object = (const void *)word;
    if (at == OTHERS_NONE) {
        return;
    }
    struct explain_others *others = &walk->list->others[at];
    bool lives =
        block_is_allocated(place.block, place.cell) && others_lives(object);
    if (!lives || explain_is_explained(object)) {
        others->acquitted_count++; // OT3
        return;
    }
    struct explain_named *named = others_named(walk->list, word);
    if (named != NULL) { // OT1
        named->other_count++;
        named->place =
            named->other_count == 1 || named->place == at ? at : OTHERS_MIXED;
        others->target = named->type;
    }
}

// An object in question, or one that died in a cell that was not used again.
static void others_object(struct others_walk *walk, void *object, size_t bytes,
                          bool allocated) {
    walk->dead = !allocated || !others_lives(object);
    if (walk->dead) {
        const struct sites_trail *trail = sites_trail(object);
        walk->type = trail == NULL ? NULL : sites_type(trail);
        // Code of the program's is not shown the dead.
        if (walk->type == NULL || walk->type->visit != NULL) {
            return;
        }
    } else if (explain_is_asked(object)) {
        walk->type = kinds_of(object);
    } else {
        return;
    }
    slots_visit_others(object, walk->type, bytes, others_word, walk);
}

static void others_block(uint32_t block, void *data) {
    struct others_walk *walk = data;
    unsigned kind = ENTRY_KIND(block_entry(block));
    if (!block_kind_is_counted(kind) ||
        block_get(block)->heap != walk->heap->slot) {
        return;
    }
    size_t front = block_kind_front(kind);
    size_t cells = block_cells(block);
    for (uint32_t cell = 0; cell < cells; cell++) {
        uintptr_t start = block_cell_address(block, cell);
        struct place place;
        if (blockmap_find(start, &place)) {
            others_object(walk, (void *)(start + front), place.bytes - front,
                          block_is_allocated(block, cell));
        }
    }
}

void others_find(const struct heap *heap, struct explain_list *list) {
    struct others_walk walk = {.heap = heap, .list = list};
    memset(list->others, 0, sizeof list->others);
    heap_each_block(others_block, &walk);
    size_t end = list->count < list->capacity ? list->count : list->capacity;
    for (size_t i = 0; i < end; i++) {
        const struct explain_named *named = &list->items[i];
        if (named->other_count == 0 || named->place >= EXPLAIN_PLACES) {
            continue;
        }
        struct explain_others *others = &list->others[named->place];
        others->exact_count += named->other_count == named->owner_count; // OT2
        others->acquitted_count += named->other_count > named->owner_count;
    }
}
