// malloc_begin — what a preloaded library does before main: says that it is
// there, and steps out of what the program will run.

#include "shims/malloc.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MALLOC_LIBRARY "libloam_malloc.so"

// Whether this is a part of a static program (loam_malloc_static.o).
#if !defined(MALLOC_STATIC)
#define MALLOC_STATIC 0

// The loader's dlopen, once it was asked for (malloc_dlopen.S).
void *(*malloc_dlopen)(const char *name, int flags);

void *(*malloc_find_dlopen(void))(const char *name, int flags) {
    *(void **)&malloc_dlopen = dlsym(RTLD_NEXT, "dlopen");
    return malloc_dlopen;
}
#endif

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
};

// A program may have a C++ library of its own inside, whose new asks malloc.
static const char *const malloc_names_cpp[] = {
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
#define MALLOC_NAMES     (sizeof malloc_names / sizeof *malloc_names)
#define MALLOC_NAMES_CPP (sizeof malloc_names_cpp / sizeof *malloc_names_cpp)

// Whether what is found under a name is here; or is the place in a program, at
// a fixed address, through which its own calls of that name go.
static bool malloc_is_ours(const char *name) {
    if (MALLOC_STATIC) {
        return true; // linked once and for all, or the linker had complained
    }
    Dl_info here, there;
    void *symbol = NULL;
    const void *at = dlsym(RTLD_DEFAULT, name);
    if (at == NULL || dladdr(malloc_names, &here) == 0 ||
        dladdr1(at, &there, &symbol, RTLD_DL_SYMENT) == 0) {
        return false;
    }
    const ElfW(Sym) *known = symbol;
    return there.dli_fbase == here.dli_fbase ||
           (known != NULL && there.dli_saddr == at &&
            known->st_shndx == SHN_UNDEF);
}

static size_t malloc_count_ours(const char *const *names, size_t count) {
    size_t ours = 0;
    for (size_t i = 0; i < count; i++) {
        ours += malloc_is_ours(names[i]);
    }
    return ours;
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
    malloc_leak_begin();
    if (wishes.verify) {
        fprintf(stderr,
                "loam %s: active, %zu of %zu names of malloc's family are "
                "Loam's, %zu of %zu of C++'s; mode %s\n",
                loam_version(), malloc_count_ours(malloc_names, MALLOC_NAMES),
                MALLOC_NAMES,
                malloc_count_ours(malloc_names_cpp, MALLOC_NAMES_CPP),
                MALLOC_NAMES_CPP, wishes.mode);
    }
}
