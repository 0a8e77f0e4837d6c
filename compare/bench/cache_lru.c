// cache_lru — a cache of loam/cache.h beside what one writes by hand.
//
// --size thousand entries under words, least recently used first.  With Loam
// that is a struct loam_cache; by hand, an open hash table of keys and pointers
// and a list whose links are in the objects, each from malloc.  Both do the
// same, and see the same keys:
//
//   hit_ns   asking for a key that is there, one of all at random
//   miss_ns  asking for one of twice as many keys, so that every other is
//            missed; then an object is made and put, and the oldest goes
//   put_ns   filling it
//
// --rounds is how often as many keys are asked for as there are entries.

#include "measure.h"

#if SHIM_COLLECTS
#include <loam/cache.h>
#endif

enum { LRU_TEXT_BYTES = 40 };

// By hand the links are in it; with Loam only the rest is used.
struct object {
    uint64_t key;
#if !SHIM_COLLECTS
    struct object *older, *newer;
#endif
    unsigned char text[LRU_TEXT_BYTES];
};

static struct object *lru_make(uint64_t key) {
    struct object *object = mem_leaf(sizeof *object);
    object->key = key;
    memset(object->text, (int)(key & 127), sizeof object->text);
    return object;
}

#if SHIM_COLLECTS

static struct loam_cache *lru;

static void lru_open(size_t count) {
    struct loam_cache_settings settings = {.max_entries = count};
    lru = mem_checked(loam_cache_make(&settings, sizeof settings));
}

static struct object *lru_get(uint64_t key) {
    return loam_cache_get(lru, (const void *)(uintptr_t)key);
}

static void lru_put(struct object *object) {
    if (!loam_cache_put(lru, (const void *)(uintptr_t)object->key, object)) {
        measure_out_of_memory();
    }
}

#else

struct lru_slot {
    uint64_t key;
    struct object *object; // NULL: free
};

static struct {
    struct lru_slot *slots;
    size_t mask, count, count_max;
    struct object *newest, *oldest;
} lru;

static void lru_open(size_t count) {
    lru.count_max = count;
    lru.mask = 1;
    while (lru.mask < 2 * count) {
        lru.mask = lru.mask * 2 + 1;
    }
    lru.slots = mem_new((lru.mask + 1) * sizeof *lru.slots);
}

// The slot of a key, or the free one where it belongs.
static size_t lru_find(uint64_t key) {
    size_t at = mix64(key) & lru.mask;
    while (lru.slots[at].object != NULL && lru.slots[at].key != key) {
        at = (at + 1) & lru.mask;
    }
    return at;
}

static void lru_unlink(struct object *object) {
    *(object->newer ? &object->newer->older : &lru.newest) = object->older;
    *(object->older ? &object->older->newer : &lru.oldest) = object->newer;
}

static void lru_link(struct object *object) {
    object->newer = NULL;
    object->older = lru.newest;
    *(lru.newest ? &lru.newest->newer : &lru.oldest) = object;
    lru.newest = object;
}

static struct object *lru_get(uint64_t key) {
    struct object *object = lru.slots[lru_find(key)].object;
    if (object != NULL && object != lru.newest) {
        lru_unlink(object);
        lru_link(object);
    }
    return object;
}

static void lru_evict(void) {
    struct object *oldest = lru.oldest;
    size_t hole = lru_find(oldest->key);
    lru_unlink(oldest);
    shim_dead(oldest);
    lru.count--;
    // Those behind it move up, if they may.
    for (size_t at = (hole + 1) & lru.mask; lru.slots[at].object != NULL;
         at = (at + 1) & lru.mask) {
        size_t home = mix64(lru.slots[at].key) & lru.mask;
        if (((at - home) & lru.mask) >= ((at - hole) & lru.mask)) {
            lru.slots[hole] = lru.slots[at];
            hole = at;
        }
    }
    lru.slots[hole].object = NULL;
}

static void lru_put(struct object *object) {
    if (lru.count == lru.count_max) {
        lru_evict();
    }
    lru.slots[lru_find(object->key)] = (struct lru_slot){object->key, object};
    lru_link(object);
    lru.count++;
}

#endif

static uint64_t lru_text(const struct object *object) {
    return object->text[LRU_TEXT_BYTES / 2];
}

static double lru_since(uint64_t start_ns, size_t count) {
    return (double)(measure_now_ns() - start_ns) / (double)count;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    size_t count = (run->size != 0 ? run->size : 1000) * 1000;
    size_t asked = count * (run->rounds != 0 ? run->rounds : 2);
    uint64_t state = run->seed, sum = 0, misses = 0;
    measure_start(run);
    uint64_t start_ns = measure_now_ns();
    lru_open(count);
    for (size_t key = 0; key < count; key++) {
        lru_put(lru_make(key));
    }
    measure_note(run, "put_ns", lru_since(start_ns, count));
    start_ns = measure_now_ns();
    for (size_t at = 0; at < asked; at++) {
        sum += lru_text(lru_get(random_below(&state, count)));
    }
    measure_note(run, "hit_ns", lru_since(start_ns, asked));
    start_ns = measure_now_ns();
    for (size_t at = 0; at < asked; at++) {
        uint64_t key = random_below(&state, 2 * count);
        struct object *object = lru_get(key);
        if (object == NULL) {
            object = lru_make(key);
            lru_put(object);
            misses++;
        }
        sum = sum * 31 + lru_text(object);
    }
    measure_note(run, "miss_ns", lru_since(start_ns, asked));
    measure_note(run, "miss_share", (double)misses / (double)asked);
    measure_stop(run, sum + misses);
    return 0;
}
