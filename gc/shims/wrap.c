#include "wrap.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int wrap_unwinding(int version, int actions, uint64_t which, void *exception,
                   void *context);

// Called by the unwinder for each frame with WRAP_UNWINDS, on its own stack,
// before it goes on to the callers of that frame.
__attribute__((used)) int wrap_unwinding(int version, int actions,
                                         uint64_t which, void *exception,
                                         void *context) {
    (void)version;
    (void)which;
    (void)exception;
    (void)context;
    if ((actions & WRAP_CLEANUP_PHASE) != 0) {
        loam_door_unwound();
    }
    return WRAP_CONTINUE_UNWIND;
}

#if !WRAP_LINKED

uintptr_t wrap_slots[WRAP_COUNT];

static const char *const wrap_names[] = {
#define WRAPPED(name) #name,
#include "wrap.def"
#undef WRAPPED
};

// In the place of an original that this C library does not have.
static long wrap_missing(void) {
    errno = ENOSYS;
    return -1;
}

// The library has had two kinds of condition variables on x86-64; the older
// has the older version.
#define WRAP_COND_VERSION "GLIBC_2.3.2"

static void *wrap_look(void *where, const char *name) {
    void *real = NULL;
    if (strncmp(name, "pthread_cond_", 13) == 0) {
        real = dlvsym(where, name, WRAP_COND_VERSION);
    }
    return real != NULL ? real : dlsym(where, name);
}

// Whether the next library of that name is another Loam, as under a preloaded
// one in a program that was linked with libloam.  It has a table of actions of
// its own, and does not know who is the child of a vfork here.
static bool wrap_is_loam(const void *real) {
    static const void *door; // of the next one
    static bool asked;
    if (!asked) {
        door = dlsym(RTLD_NEXT, "loam_door_stops");
        asked = true;
    }
    Dl_info next, found;
    return door != NULL && real != NULL && dladdr(door, &next) != 0 &&
           dladdr(real, &found) != 0 && next.dli_fbase == found.dli_fbase;
}

// The C library's, past the other one.
static void *wrap_look_behind(const char *name) {
    void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return library == NULL ? NULL : wrap_look(library, name);
}

COLD uintptr_t wrap_find(enum wrap_row row) {
    int saved = errno;
    void *real = wrap_look(RTLD_NEXT, wrap_names[row]);
    if (wrap_is_loam(real)) {
        void *behind = wrap_look_behind(wrap_names[row]);
        real = behind != NULL ? behind : real;
    }
    uintptr_t found = real != NULL ? (uintptr_t)real : (uintptr_t)wrap_missing;
    __atomic_store_n(&wrap_slots[row], found, __ATOMIC_RELAXED);
    errno = saved;
    return found;
}

// Where there is no loader there is no next library, and nothing here would
// find its original: the program must not link so.  Its author reads the name
// of this function.
NOINLINE static void wrap_static_programs_need_libloam_wrap(void) {
    __asm__ volatile("" : : "r"(wrap_dynamic));
}

// All at once when the library is loaded: later a first call may come from a
// signal handler, or from a child of vfork, where dlsym is not at home.
__attribute__((constructor(101))) static void wrap_find_all(void) {
    wrap_static_programs_need_libloam_wrap();
    for (enum wrap_row row = 0; row < WRAP_COUNT; row++) {
        if (__atomic_load_n(&wrap_slots[row], __ATOMIC_RELAXED) == 0) {
            (void)wrap_find(row);
        }
    }
}

#endif
