// From docs/limits.md: a malloc'ed area that holds pointers to objects.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <loam.h>

struct cache {
    char *first;
};

static int use(void) {
    // begin
    struct cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL || !loam_roots_add(cache, sizeof *cache)) {
        return 1;
    }
    cache->first = loam_strdup("held by malloc'ed memory");
    // end
    if (cache->first == NULL) {
        return 1;
    }
    if (!loam_collect() || strcmp(cache->first, "held by malloc'ed memory")) {
        printf("lost\n");
        return 1;
    }
    if (!loam_roots_remove(cache, sizeof *cache)) {
        return 1;
    }
    free(cache);
    return 0;
}

int main(void) {
    return use();
}
