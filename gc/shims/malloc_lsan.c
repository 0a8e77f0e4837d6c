// malloc_lsan — the names by which a program speaks with LeakSanitizer.
//
// They are weak in programs that run without it, too.  In another mode than
// leakcheck there are no leaks, and nothing is noted.

#include "shims/malloc.h"

#include <unistd.h>

int __lsan_do_recoverable_leak_check(void);
MALLOC_API int __lsan_do_recoverable_leak_check(void) {
    return loam_door_wishes().leaks && malloc_leak_check(true);
}

// The report that comes at exit otherwise: the program ends here if there is
// something in it.
void __lsan_do_leak_check(void);
MALLOC_API void __lsan_do_leak_check(void) {
    struct loam_door_wishes wishes = loam_door_wishes();
    if (wishes.leaks && malloc_leak_check_last() && wishes.leak_status != 0) {
        _exit(wishes.leak_status);
    }
}

void __lsan_disable(void);
MALLOC_API void __lsan_disable(void) {
    loam_door_leak_spare(true);
}

void __lsan_enable(void);
MALLOC_API void __lsan_enable(void) {
    loam_door_leak_spare(false);
}

void __lsan_ignore_object(const void *p);
MALLOC_API void __lsan_ignore_object(const void *p) {
    loam_door_leak_ignore(p);
}

void __lsan_register_root_region(const void *start, size_t bytes);
MALLOC_API void __lsan_register_root_region(const void *start, size_t bytes) {
    loam_door_leak_region(start, bytes, true);
}

void __lsan_unregister_root_region(const void *start, size_t bytes);
MALLOC_API void __lsan_unregister_root_region(const void *start, size_t bytes) {
    loam_door_leak_region(start, bytes, false);
}
