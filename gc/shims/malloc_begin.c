// malloc_begin — what a preloaded library does before main: says that it is
// there, and steps out of what the program will run.

#include "shims/malloc.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MALLOC_LIBRARY "libloam_malloc.so"

static const char *const malloc_names[] = {
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "cfree",
    "free_sized",
    "free_aligned_sized",
    "mallopt",
    "mallinfo",
    "mallinfo2",
    "malloc_trim",
    "malloc_stats",
    "malloc_info",
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
};
#define MALLOC_NAMES (sizeof malloc_names / sizeof *malloc_names)

// Of these names, how many lead the whole process here.
static size_t malloc_count_ours(void) {
    Dl_info here, there;
    size_t count = 0;
    if (dladdr(&malloc_names, &here) == 0) {
        return 0;
    }
    for (size_t i = 0; i < MALLOC_NAMES; i++) {
        const void *at = dlsym(RTLD_DEFAULT, malloc_names[i]);
        count += at != NULL && dladdr(at, &there) != 0 &&
                 there.dli_fbase == here.dli_fbase;
    }
    return count;
}

// Takes this library out of the list that children are given.
static void malloc_step_out(void) {
    char *list = getenv("LD_PRELOAD");
    char *to = list;
    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ": ");
        const char *slash = memrchr(list, '/', length);
        const char *name = slash != NULL ? slash + 1 : list;
        bool ours = strncmp(name, MALLOC_LIBRARY, strlen(MALLOC_LIBRARY)) == 0;
        size_t whole = length + (list[length] != '\0');
        if (!ours) {
            memmove(to, list, whole);
            to += whole;
        }
        list += whole;
    }
    if (to != NULL) {
        *to = '\0';
    }
}

__attribute__((__constructor__)) static void malloc_begin(void) {
    struct loam_door_wishes wishes = loam_door_wishes();
    if (!wishes.follow) {
        malloc_step_out();
    }
    if (wishes.verify) {
        fprintf(stderr,
                "loam %s: active, %zu of %zu names of malloc's family "
                "are Loam's\n",
                loam_version(), malloc_count_ours(), MALLOC_NAMES);
    }
}
