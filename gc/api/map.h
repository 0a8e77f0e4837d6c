// map — a table whose entries may vanish.
//
// Under loam/weak.h's two kinds of maps lies one table.  An entry's weak part
// is a cell of its own, an ephemeron or a handle (heap/handle.h); the table
// holds the cell and knows nothing of collections: an entry whose cell was
// cleared is dead, and that is asked when it is met.
//
//     struct map -> struct map_table -> slots in order of putting  [0 1 2 3 ..]
//                                    -> index, by hash, of slots   [. 2 . 0 ..]
//
// Slots are only ever added behind the last one.  When they are used up, those
// that live go to a new table, of a size for twice as many, in the same order;
// one store makes it the map's.  Each slot has a number that never comes again
// and grows: an iteration remembers a number, and finds its place again in
// whatever table there is by then.
//
// Invariants
//   MA1  found    map_find finds an entry that was put and not removed, while
//                 its key (weak) or value lives, and no other
//   MA2  sorted   numbers of slots grow with their place
//   MA3  once     an iteration meets an entry that is there all the time once
//   MA4  instant  a stop at any instruction meets a table that keeps the cells
//                 of all its entries
//   MA5  refused  when memory is short the map is as it was
//   MA6  bounded  a table has room for at most four times the entries that
//                 lived when it was made, or MAP_FIRST_CAPACITY
//   MA7  counted  an entry is gone from the moment its key or its value, if it
//                 is a counted object, begins to die
//
// A map is used by one thread at a time.
// Design, alternatives and measurements: docs/design/api/map.md

#ifndef API_MAP_H
#define API_MAP_H

#include "loam/weak.h"

#include "base/defs.h"
#include "heap/block.h"
#include "heap/blockmap.h"
#include "heap/counted.h"

#define MAP_FIRST_CAPACITY ((size_t)8)

enum map_sort {
    MAP_WEAK_KEYS, // cells are ephemerons
    MAP_WORDS,     // cells are handles; keys are words, hidden
    MAP_TEXTS      // the same; keys are copies of texts
};

struct map_slot {
    uintptr_t key;   // see map_sort; 0 for weak keys
    void *cell;      // NULL: the entry was removed
    uint64_t number; // grows
    uint64_t hash;   // 32 bits of it, lest it look like a pointer
};

struct map_table {
    uint32_t *index;         // slot + 1, or 0; a leaf
    size_t mask;             // entries of the index, less 1
    size_t used, capacity;   // slots
    struct map_slot slots[]; //
};

struct map {
    struct map_table *table; // NULL while it is empty
    uint64_t number;         // of the last slot
    unsigned sort;           // enum map_sort
    bool owns;               // counted values (api/bonds.h)
};

// An empty map; NULL when memory is short.
MUST_USE struct map *map_make(unsigned sort);

// The slot of an entry that lives, or NULL.
struct map_slot *map_find(const struct map *map, const void *key);

// Puts an entry.  False when memory is short; what is no object was refused
// before.
MUST_USE bool map_put(struct map *map, const void *key, const void *value);

// The value of an entry that lives, or NULL.
void *map_get(const struct map *map, const void *key);

// Whether there was one.
bool map_remove(struct map *map, const void *key);

// Sees to it that a block is watched (heap/handle.h), after something weak was
// made to lead there.
COLD void map_watch_block(uint32_t block);

static inline void map_watch(const struct place *place) {
    if (UNLIKELY(!(block_flags(place->block) & BLOCK_WATCHED))) {
        map_watch_block(place->block);
    }
    if (UNLIKELY(block_kind_is_counted(place->kind))) {
        // Of a biased object the block alone says so.
        if (place->kind < KIND_BIASED) {
            void *object = (void *)(place->start + sizeof(struct counted));
            __atomic_fetch_or(&counted_of(object)->word, COUNTED_WATCHED,
                              __ATOMIC_RELAXED);
        }
    }
}

// The entries that live.
size_t map_count(const struct map *map);

// Steps an iteration on.
bool map_next(const struct map *map, struct loam_cursor *cursor,
              const void **key, void **value);

#endif
