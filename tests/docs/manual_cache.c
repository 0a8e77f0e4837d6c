// From docs/manual.md: pages that are made once and kept while there is room.

#include <stdio.h>
#include <string.h>

#include <loam.h>
#include <loam/cache.h>

static int made;

static char *page_render(const char *path) {
    char *page = loam_alloc_leaf(4000);
    made++;
    snprintf(page, 4000, "the page %s", path);
    return page;
}

// begin pages
static struct loam_cache *pages;

static void pages_open(void) {
    struct loam_cache_settings settings = {
        .keys = LOAM_CACHE_TEXTS,
        .policy = LOAM_CACHE_S3FIFO,
        .max_bytes = 16 << 20,         // at most, if there is room
        .ttl_ns = 60 * (uint64_t)1e9}; // a page is old after a minute
    pages = loam_cache_make(&settings, sizeof settings);
}

static char *page_get(const char *path) {
    char *page = loam_cache_get(pages, path);
    if (page == NULL) {
        page = page_render(path);
        (void)loam_cache_put(pages, path, page); // kept or not, it is a page
    }
    return page;
}
// end pages

int main(void) {
    pages_open();
    for (int i = 0; i < 10000; i++) {
        char path[16];
        snprintf(path, sizeof path, "/%d", i % 100);
        if (strcmp(page_get(path) + 9, path) != 0) {
            return 1;
        }
    }
    return made == 100 ? 0 : 2;
}
