// wrap_limit — limits that the program sets for itself.
//
// The heap's addresses are reserved at the start, as many as the limit on
// address space allows then.  A lower limit, set later, would be spent by them
// to the last byte: nothing else could be mapped, and the heap would still grow
// in what it has.  So the heap hears of it.  In a child of vfork, whose limit
// is its own and whose memory is not, it does not (W8).

#include "wrap.h"

#include <sys/resource.h>

static void wrap_limited(int resource) {
    if (resource == RLIMIT_AS && !wrap_is_vforked()) {
        loam_door_limited();
    }
}

// Of its own process a program speaks as 0 or by its number.
static bool wrap_is_own(pid_t process) {
    return process == 0 || process == getpid();
}

#define WRAP_SETRLIMIT(name, limit_type)                                       \
    WRAP_SHOWN int WRAP(name)(__rlimit_resource_t resource,                    \
                              const struct limit_type *limit) {                \
        int result = WRAP_REAL(name)(resource, limit);                         \
        if (result == 0) {                                                     \
            wrap_limited((int)resource);                                       \
        }                                                                      \
        return result;                                                         \
    }

WRAP_SETRLIMIT(setrlimit, rlimit)
WRAP_SETRLIMIT(setrlimit64, rlimit64)

#define WRAP_PRLIMIT(name, limit_type)                                         \
    WRAP_SHOWN int WRAP(name)(pid_t process, enum __rlimit_resource resource,  \
                              const struct limit_type *limit,                  \
                              struct limit_type *old) {                        \
        int result = WRAP_REAL(name)(process, resource, limit, old);           \
        if (result == 0 && limit != NULL && wrap_is_own(process)) {            \
            wrap_limited((int)resource);                                       \
        }                                                                      \
        return result;                                                         \
    }

WRAP_PRLIMIT(prlimit, rlimit)
WRAP_PRLIMIT(prlimit64, rlimit64)
