// bdwgc_weak — weak references, finalizers and a map with weak keys, of libgc.
//
// A weak reference is a word that hides a pointer, registered as a disappearing
// link, and is read under the allocation lock, as gc.h asks.  A map with weak
// keys is what languages on libgc build from that: a hash table whose entries
// hide their keys behind such a link and hold their values strongly.  It is no
// ephemeron: an entry whose value leads to its key stays for ever.

static inline void *shim_weak(void *object) {
    GC_hidden_pointer *weak = GC_MALLOC_ATOMIC(sizeof *weak);
    if (weak == NULL) {
        return NULL;
    }
    *weak = GC_HIDE_POINTER(object);
    int failed = GC_general_register_disappearing_link((void **)weak, object);
    return failed == GC_NO_MEMORY ? NULL : weak;
}

static void *bdwgc_reveal(void *weak) {
    GC_hidden_pointer hidden = *(GC_hidden_pointer *)weak;
    return hidden != 0 ? GC_REVEAL_POINTER(hidden) : NULL;
}

static inline void *shim_weak_get(void *weak) {
    return GC_call_with_alloc_lock(bdwgc_reveal, weak);
}

static uint64_t bdwgc_finalized;

static void bdwgc_finalize(void *object, void *data) {
    void (*finalizer)(void *object) = NULL;
    memcpy(&finalizer, &data, sizeof finalizer);
    bdwgc_finalized++;
    finalizer(object);
}

static inline void shim_finalizer(void *object, void (*finalizer)(void *)) {
    void *data = NULL;
    memcpy(&data, &finalizer, sizeof data);
    if (finalizer == NULL) {
        GC_REGISTER_FINALIZER(object, NULL, NULL, NULL, NULL);
        return;
    }
    GC_REGISTER_FINALIZER(object, bdwgc_finalize, data, NULL, NULL);
}

static inline uint64_t shim_finalizers_run(void) {
    uint64_t before = bdwgc_finalized;
    GC_invoke_finalizers();
    return bdwgc_finalized - before;
}

// --- A map with weak keys ----------------------------------------------------

struct bdwgc_entry {
    struct bdwgc_entry *next;
    GC_hidden_pointer key; // 0 once the key was collected
    void *value;
};

struct shim_map {
    struct bdwgc_entry **buckets;
    size_t mask;
};

static inline struct shim_map *shim_map(size_t count) {
    struct shim_map *map = GC_MALLOC(sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    map->mask = 15;
    while (map->mask < count) {
        map->mask = map->mask * 2 + 1;
    }
    map->buckets = GC_MALLOC((map->mask + 1) * sizeof *map->buckets);
    return map->buckets != NULL ? map : NULL;
}

// The place of `key`, or of the end of its bucket; dead entries on the way go.
static inline struct bdwgc_entry **bdwgc_place(struct shim_map *map,
                                               GC_hidden_pointer key) {
    uint64_t hash = (uint64_t)key * 0x9e3779b97f4a7c15u;
    struct bdwgc_entry **place = &map->buckets[(hash >> 32) & map->mask];
    while (*place != NULL && (*place)->key != key) {
        if ((*place)->key == 0) {
            *place = (*place)->next;
        } else {
            place = &(*place)->next;
        }
    }
    return place;
}

static inline int shim_map_put(struct shim_map *map, void *key, void *value) {
    struct bdwgc_entry **place = bdwgc_place(map, GC_HIDE_POINTER(key));
    if (*place == NULL) {
        struct bdwgc_entry *entry = GC_MALLOC(sizeof *entry);
        if (entry == NULL) {
            return 0;
        }
        entry->key = GC_HIDE_POINTER(key);
        if (GC_general_register_disappearing_link((void **)&entry->key, key) ==
            GC_NO_MEMORY) {
            return 0;
        }
        *place = entry;
    }
    (*place)->value = value;
    return 1;
}

static inline void *shim_map_get(struct shim_map *map, void *key) {
    struct bdwgc_entry *entry = *bdwgc_place(map, GC_HIDE_POINTER(key));
    return entry != NULL ? entry->value : NULL;
}

static inline size_t shim_map_count(struct shim_map *map) {
    size_t count = 0;
    for (size_t at = 0; at <= map->mask; at++) {
        struct bdwgc_entry **place = &map->buckets[at];
        while (*place != NULL) {
            if ((*place)->key == 0) {
                *place = (*place)->next;
            } else {
                place = &(*place)->next;
                count++;
            }
        }
    }
    return count;
}
