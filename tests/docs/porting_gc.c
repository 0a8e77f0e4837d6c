// From docs/porting.md: a program written for gc.h, on Loam's functions by
// way of a few macros.

#include <stdio.h>
#include <string.h>

#include <loam.h>

// begin
#define GC_INIT()                  ((void)loam_init())
#define GC_MALLOC(bytes)           loam_alloc(bytes)
#define GC_MALLOC_ATOMIC(bytes)    loam_alloc_leaf(bytes)
#define GC_MALLOC_UNCOLLECTABLE(n) loam_alloc_pinned(n)
#define GC_REALLOC(p, bytes)       loam_realloc((p), (bytes))
#define GC_FREE(p)                 loam_free(p)
#define GC_STRDUP(text)            loam_strdup(text)
#define GC_NEW(type)               ((type *)loam_alloc(sizeof(type)))
#define GC_gcollect()              ((void)loam_collect())
#define GC_base(p)                 loam_base(p)
#define GC_size(p)                 loam_usable_size(p)
#define GC_disable()               loam_disable()
#define GC_enable()                loam_enable()
#define GC_reachable_here(p)       loam_keep(p)
#define GC_HIDE_POINTER(p)         LOAM_HIDE(p)
#define GC_REVEAL_POINTER(hidden)  LOAM_REVEAL(hidden)
#define GC_add_roots(start, end)                                               \
    ((void)loam_roots_add((start), (size_t)((char *)(end) - (char *)(start))))
// end

struct cell {
    struct cell *next;
    char *text;
};

int main(void) {
    struct cell *list = NULL;
    GC_INIT();
    for (int i = 0; i < 1000; i++) {
        struct cell *cell = GC_NEW(struct cell);
        char *text = GC_MALLOC_ATOMIC(16);
        if (cell == NULL || text == NULL) {
            return 1;
        }
        snprintf(text, 16, "%d", i);
        cell->text = text;
        cell->next = list;
        list = cell;
    }
    GC_gcollect();
    printf("%s %zu\n", list->text, GC_size(list));
    return strcmp(list->text, "999") == 0 && GC_base(&list->text) == list ? 0
                                                                          : 1;
}
