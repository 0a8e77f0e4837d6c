// From docs/manual.md: a cache that gives way when memory is short.

#include <stdio.h>

#include <loam.h>

// begin
static void *cache[1000];

static bool make_room(size_t bytes, void *data) {
    size_t *calls = data;
    (void)bytes;
    ++*calls;
    for (size_t i = 0; i < 1000; i++) {
        cache[i] = NULL; // drop what can be made again
    }
    return *calls < 100; // true: collect, and try once more
}
// end

int main(void) {
    size_t calls = 0;
    struct loam_stats stats;
    // begin use
    loam_set_shortage_hook(make_room, &calls);
    loam_set_limit((size_t)32 << 20);
    // end use
    for (size_t i = 0; i < 1000; i++) {
        cache[i] = loam_alloc_leaf(100000); // 100 MB in all
        if (cache[i] == NULL) {
            printf("no memory at %zu\n", i);
            return 1;
        }
    }
    // The cache is read, or a compiler may leave out what is stored in it.
    size_t kept = 0;
    for (size_t i = 0; i < 1000; i++) {
        kept += loam_is_heap(cache[i]);
    }
    loam_stats(&stats, sizeof stats);
    printf(
        "%zu of 1000 kept, %zu shortages, %llu collections, %llu KiB at most\n",
        kept, calls, (unsigned long long)stats.collections,
        (unsigned long long)stats.heap_bytes_max >> 10);
    return calls > 0 && stats.heap_bytes_max <= (uint64_t)32 << 20 ? 0 : 1;
}
