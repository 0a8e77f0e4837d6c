// preload — malloc, as it is when the program starts: one program for all rows,
// each of which loads another allocator in front of the C library.
//
// Compiled with _GNU_SOURCE.

#include <dlfcn.h>

#define shim_config shim_config_by_hand
#include "shims/malloc.h"
#undef shim_config

// The file that malloc comes from: harness/race.py compares.
static inline const char *shim_config(void) {
    Dl_info info = {0};
    (void)shim_config_by_hand;
    return dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) != 0 ? info.dli_fname
                                                             : "unknown";
}
