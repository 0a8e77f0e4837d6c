// malloc_tell — what programs ask an allocator about itself.
//
// The figures are those of loam_stats, in the shapes that glibc gave them.
// What a quarantine holds is not in use: the program has freed it.

#include "shims/malloc.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct malloc_figures {
    struct loam_stats stats;
    size_t held_bytes, used_bytes; // these by the program
};

static struct malloc_figures malloc_figures(void) {
    struct malloc_figures figures;
    memset(&figures, 0, sizeof figures);
    figures.held_bytes = loam_door_held();
    loam_stats(&figures.stats, sizeof figures.stats);
    size_t all = figures.stats.used_bytes;
    // Of two instants: others may have freed meanwhile, or a cycle let go.
    figures.held_bytes = figures.held_bytes < all ? figures.held_bytes : all;
    figures.used_bytes = all - figures.held_bytes;
    return figures;
}

// Nothing of this allocator is set by numbers of another one's; what that one
// refuses is refused here.
MALLOC_API int mallopt(int parameter, int value) {
    return parameter != M_MXFAST ||
           (value >= 0 && (size_t)value <= 80 * sizeof(size_t) / 4);
}

MALLOC_API struct mallinfo2 mallinfo2(void) {
    const struct malloc_figures figures = malloc_figures();
    struct mallinfo2 info;
    memset(&info, 0, sizeof info);
    info.arena = figures.stats.heap_bytes;
    info.uordblks = figures.used_bytes;
    info.fsmblks = figures.held_bytes; // freed, and not to be had yet
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = figures.stats.heap_bytes - figures.stats.block_bytes;
    return info;
}

static int malloc_clip(size_t n) {
    return n < INT_MAX ? (int)n : INT_MAX;
}

MALLOC_API struct mallinfo mallinfo(void) {
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info;
    memset(&info, 0, sizeof info);
    info.arena = malloc_clip(wide.arena);
    info.uordblks = malloc_clip(wide.uordblks);
    info.fsmblks = malloc_clip(wide.fsmblks);
    info.fordblks = malloc_clip(wide.fordblks);
    info.keepcost = malloc_clip(wide.keepcost);
    return info;
}

MALLOC_API int malloc_trim(size_t pad) {
    (void)pad;
    return loam_door_trim();
}

// The lines have glibc's names where it has one.  A thread that is cancelled
// meanwhile writes all of them first.
MALLOC_API void malloc_stats(void) {
    const struct malloc_figures figures = malloc_figures();
    const struct loam_stats *stats = &figures.stats;
    int cancelled;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelled);
    fprintf(stderr,
            "system bytes     = %10zu\n"
            "in use bytes     = %10zu\n"
            "held bytes       = %10zu\n"
            "beside the heap  = %10zu\n"
            "max system bytes = %10zu\n"
            "max mmap regions = %10d\n"
            "max mmap bytes   = %10d\n",
            (size_t)stats->heap_bytes, figures.used_bytes, figures.held_bytes,
            (size_t)stats->metadata_bytes, (size_t)stats->heap_bytes_max, 0, 0);
    pthread_setcancelstate(cancelled, &cancelled);
}

MALLOC_API int malloc_info(int options, FILE *stream) {
    if (options != 0) {
        return EINVAL;
    }
    const struct malloc_figures figures = malloc_figures();
    fprintf(stream,
            "<malloc version=\"1\">\n"
            "<system type=\"current\" size=\"%zu\"/>\n"
            "<system type=\"max\" size=\"%zu\"/>\n"
            "<in_use type=\"current\" size=\"%zu\"/>\n"
            "<held type=\"current\" size=\"%zu\"/>\n"
            "</malloc>\n",
            (size_t)figures.stats.heap_bytes,
            (size_t)figures.stats.heap_bytes_max, figures.used_bytes,
            figures.held_bytes);
    return 0;
}
