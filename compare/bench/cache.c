// cache — a bounded hash table that forgets what was used longest ago.
//
// The cache of a server: keys are short texts, values are texts of 64 bytes to
// 4 KiB, some keys are asked for far more often than others, and a new entry
// throws out the oldest one.  Entries know their layout; keys and values are
// leaves.  --size is the number of entries kept, in thousands; --rounds how
// many thousand times the cache is asked.

#include "measure.h"

struct entry {
    struct entry *next;          // in its bucket
    struct entry *newer, *older; // by last use
    char *key, *value;
    uint64_t hash;
    size_t value_bytes;
};

struct cache {
    struct entry **buckets;
    size_t bucket_mask;
    struct entry *newest, *oldest;
    size_t count, count_max;
    struct shim_layout layout;
};

static uint64_t cache_hash(const char *key) {
    uint64_t hash = 0;
    for (; *key != '\0'; key++) {
        hash = (hash ^ (unsigned char)*key) * 0x100000001b3u;
    }
    return mix64(hash);
}

static void cache_unlink(struct cache *cache, struct entry *entry) {
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
    entry->newer = entry->older = NULL;
}

static void cache_link_newest(struct cache *cache, struct entry *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void cache_evict(struct cache *cache) {
    struct entry *entry = cache->oldest;
    struct entry **place = &cache->buckets[entry->hash & cache->bucket_mask];
    while (*place != entry) {
        place = &(*place)->next;
    }
    *place = entry->next;
    cache_unlink(cache, entry);
    cache->count--;
    if (SHIM_MANUAL) {
        shim_dead(entry->key);
        shim_dead(entry->value);
        shim_dead(entry);
    }
}

static struct entry *cache_add(struct cache *cache, const char *key,
                               uint64_t hash) {
    if (cache->count == cache->count_max) {
        cache_evict(cache);
    }
    struct entry *entry = mem_typed(&cache->layout);
    size_t key_bytes = strlen(key) + 1;
    entry->key = mem_leaf(key_bytes);
    memcpy(entry->key, key, key_bytes);
    entry->hash = hash;
    size_t base = (size_t)64 << (hash >> 32) % 6;
    entry->value_bytes = base + (hash >> 40) % base;
    entry->value = mem_leaf(entry->value_bytes);
    memset(entry->value, (int)(hash & 127), entry->value_bytes);
    struct entry **bucket = &cache->buckets[hash & cache->bucket_mask];
    entry->next = *bucket;
    *bucket = entry;
    cache_link_newest(cache, entry);
    cache->count++;
    return entry;
}

static struct entry *cache_ask(struct cache *cache, const char *key) {
    uint64_t hash = cache_hash(key);
    struct entry *entry = cache->buckets[hash & cache->bucket_mask];
    while (entry != NULL &&
           (entry->hash != hash || strcmp(entry->key, key) != 0)) {
        entry = entry->next;
    }
    if (entry == NULL) {
        return cache_add(cache, key, hash);
    }
    cache_unlink(cache, entry);
    cache_link_newest(cache, entry);
    return entry;
}

// Numbers below `count`, small ones often: the fourth power of a uniform one.
static uint64_t cache_pick(uint64_t *state, uint64_t count) {
    double u = (double)(random_next(state) >> 11) * 0x1p-53;
    return (uint64_t)(u * u * u * u * (double)count);
}

int main(int argc, char **argv) {
    static const size_t offsets[] = {
        offsetof(struct entry, next), offsetof(struct entry, newer),
        offsetof(struct entry, older), offsetof(struct entry, key),
        offsetof(struct entry, value)};
    struct measure *run = measure_open(argc, argv);
    size_t rounds = (run->rounds != 0 ? run->rounds : 100) * 1000;
    static struct cache cache;
    cache.count_max = (run->size != 0 ? run->size : 4) * 1000;
    cache.bucket_mask = 1;
    while (cache.bucket_mask < cache.count_max) {
        cache.bucket_mask = cache.bucket_mask * 2 + 1;
    }
    uint64_t state = run->seed, sum = 0;
    measure_start(run);
    cache.layout = shim_layout(sizeof(struct entry), offsets, 5);
    cache.buckets = mem_new((cache.bucket_mask + 1) * sizeof *cache.buckets);
    for (size_t round = 0; round < rounds; round++) {
        char key[64];
        uint64_t number = cache_pick(&state, 16 * cache.count_max);
        snprintf(key, sizeof key, "/user/%u/page/%u", (unsigned)number / 10,
                 (unsigned)number % 10);
        struct entry *entry = cache_ask(&cache, key);
        sum = sum * 31 + (uint64_t)entry->value[entry->value_bytes / 2];
    }
    measure_stop(run, sum + cache.count);
    return 0;
}
