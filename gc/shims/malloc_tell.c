// malloc_tell — what programs ask an allocator about itself.
//
// The figures are those of loam_stats, in the shapes that glibc gave them.

#include "shims/malloc.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

static struct loam_stats malloc_figures(void) {
    struct loam_stats stats;
    memset(&stats, 0, sizeof stats);
    loam_stats(&stats, sizeof stats);
    return stats;
}

// Nothing of this allocator is set by numbers of another one's; programs do not
// ask whether it worked.
MALLOC_API int mallopt(int parameter, int value) {
    (void)parameter;
    (void)value;
    return 1;
}

MALLOC_API struct mallinfo2 mallinfo2(void) {
    struct loam_stats stats = malloc_figures();
    struct mallinfo2 info;
    memset(&info, 0, sizeof info);
    info.arena = stats.heap_bytes;
    info.uordblks = stats.used_bytes;
    info.fordblks = stats.heap_bytes - stats.used_bytes;
    info.keepcost = stats.heap_bytes - stats.block_bytes;
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
    info.fordblks = malloc_clip(wide.fordblks);
    info.keepcost = malloc_clip(wide.keepcost);
    return info;
}

MALLOC_API int malloc_trim(size_t pad) {
    (void)pad;
    return loam_door_trim();
}

MALLOC_API void malloc_stats(void) {
    struct loam_stats stats = malloc_figures();
    fprintf(stderr, "system bytes     = %10zu\n", (size_t)stats.heap_bytes);
    fprintf(stderr, "in use bytes     = %10zu\n", (size_t)stats.used_bytes);
    fprintf(stderr, "beside the heap  = %10zu\n", (size_t)stats.metadata_bytes);
    fprintf(stderr, "max system bytes = %10zu\n", (size_t)stats.heap_bytes_max);
}

MALLOC_API int malloc_info(int options, FILE *stream) {
    if (options != 0) {
        return EINVAL;
    }
    struct loam_stats stats = malloc_figures();
    fprintf(stream,
            "<malloc version=\"1\">\n"
            "<system type=\"current\" size=\"%zu\"/>\n"
            "<system type=\"max\" size=\"%zu\"/>\n"
            "<in_use type=\"current\" size=\"%zu\"/>\n"
            "</malloc>\n",
            (size_t)stats.heap_bytes, (size_t)stats.heap_bytes_max,
            (size_t)stats.used_bytes);
    return 0;
}
