#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall, MAP_ANONYMOUS, MADV_HUGEPAGE
#endif

#include "os/memory.h"

#include "base/bits.h"
#include "os/error.h"
#include "os/holding.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

// Linux 5.17 and later; older headers lack the names.
#define MEMORY_SET_VMA      0x53564d41
#define MEMORY_SET_VMA_NAME 0

size_t memory_page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

// --- Reserve and release ---------------------------------------------------

// Address space without memory, or NULL.  MAP_NORESERVE: the system's promise
// of memory is not asked for it now, and where it is kept strictly, not until
// the pages are committed.
static void *memory_map(uintptr_t hint, size_t bytes) {
    void *at = mmap((void *)hint, bytes, PROT_NONE, // NOLINT: a wish
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void memory_unmap(uintptr_t from, uintptr_t to) {
    // If the system refuses to trim, some space stays reserved: a pity, not
    // a fault, for nobody can touch it.
    if (from < to) {
        (void)munmap((void *)from, to - from);
    }
}

// Space with room for an aligned range in it, and the rest given back.
static void *memory_map_aligned(size_t bytes, size_t alignment) {
    size_t wide_bytes;
    if (bits_add_overflows(bytes, alignment - memory_page_bytes(),
                           &wide_bytes)) {
        return NULL;
    }
    void *wide = memory_map(0, wide_bytes);
    if (wide == NULL) {
        return NULL;
    }
    uintptr_t start = (uintptr_t)wide;
    uintptr_t at = bits_round_up(start, alignment);
    memory_unmap(start, at);
    memory_unmap(at + bytes, start + wide_bytes);
    return (void *)at;
}

void *memory_reserve(size_t bytes, size_t alignment, uintptr_t hint) {
    ASSERT(bytes % memory_page_bytes() == 0 && bytes != 0);
    ASSERT(bits_is_power(alignment) && alignment >= memory_page_bytes());
    int saved = error_save();
    void *at = NULL;
    if (hint != 0 || alignment == memory_page_bytes()) {
        at = memory_map(bits_round_down(hint, alignment), bytes);
        if ((uintptr_t)at % alignment != 0) { // M1: the hint was taken
            memory_unmap((uintptr_t)at, (uintptr_t)at + bytes);
            at = NULL;
        }
    }
    if (at == NULL) {
        at = memory_map_aligned(bytes, alignment);
    }
    if (at != NULL) {
        (void)holding_add((uintptr_t)at, (uintptr_t)at + bytes); // M6
    }
    error_restore(saved); // M5
    return at;
}

void memory_release(void *at, size_t bytes) {
    int saved = error_save();
    // First, for the next owner of the addresses may be anybody (M6).
    holding_remove((uintptr_t)at, (uintptr_t)at + bytes);
    if (munmap(at, bytes) != 0) {
        // A hole in a mapping makes two, and their number is limited.
        (void)madvise(at, bytes, MADV_DONTNEED);
    }
    error_restore(saved);
}

// --- Pages -----------------------------------------------------------------

bool memory_commit(void *at, size_t bytes) {
    int saved = error_save();
    bool done = mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0; // M2
    error_restore(saved);
    return done;
}

bool memory_uncommit(void *at, size_t bytes) {
    // mprotect would keep both the pages and the promise of memory for them;
    // a fresh mapping in the same place keeps neither (M4).  What can refuse
    // it (the number of mappings) does so before the old one is gone (M3).
    int saved = error_save();
    void *fresh =
        mmap(at, bytes, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    error_restore(saved);
    return fresh != MAP_FAILED;
}

bool memory_drop(void *at, size_t bytes) {
    int saved = error_save();
    bool done = madvise(at, bytes, MADV_DONTNEED) == 0; // M2
    error_restore(saved);
    return done;
}

bool memory_huge(void *at, size_t bytes, bool on) {
    int saved = error_save();
    int advice = on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    bool done = madvise(at, bytes, advice) == 0;
    error_restore(saved);
    return done;
}

void memory_name(void *at, size_t bytes, const char *name) {
    int saved = error_save();
    (void)prctl(MEMORY_SET_VMA, MEMORY_SET_VMA_NAME, at, bytes, name);
    error_restore(saved);
}

bool memory_is_readable(const void *word) {
    // The kernel copies the set of signals in before it looks at the first
    // argument, which means nothing: EFAULT is "cannot be read", EINVAL "can".
    // No set at all is fine with it.
    if (word == NULL) {
        return false;
    }
    int saved = error_save();
    long failed = syscall(SYS_rt_sigprocmask, -1, word, NULL, 8);
    bool readable = failed == 0 || errno != EFAULT;
    error_restore(saved);
    return readable;
}

// --- How much there is -----------------------------------------------------

// Reads a small file of the system whole, as a string; false if it cannot be
// read.  Without libc's wrappers, at which a thread may be cancelled.
static bool memory_read_file(const char *path, char *buffer, size_t capacity) {
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) {
        return false;
    }
    size_t count = 0;
    while (count < capacity - 1) {
        long got =
            syscall(SYS_read, file, buffer + count, capacity - 1 - count);
        if (got <= 0) {
            break;
        }
        count += (size_t)got;
    }
    buffer[count] = '\0';
    (void)syscall(SYS_close, file);
    return count != 0;
}

// The number at the start of a string; SIZE_MAX if there is none ("max") or
// it does not fit.
static size_t memory_parse(const char *string) {
    if (*string < '0' || *string > '9') {
        return SIZE_MAX;
    }
    size_t number = 0;
    for (; *string >= '0' && *string <= '9'; string++) {
        size_t digit = (size_t)(*string - '0');
        if (bits_mul_overflows(number, 10, &number) ||
            bits_add_overflows(number, digit, &number)) {
            return SIZE_MAX;
        }
    }
    return number;
}

size_t memory_limit_bytes(size_t spare_bytes) {
    int saved = error_save();
    struct rlimit limit;
    size_t left = SIZE_MAX;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        char statm[128];
        size_t used = 0;
        if (memory_read_file("/proc/self/statm", statm, sizeof statm)) {
            used = memory_parse(statm) * memory_page_bytes();
        }
        used = used > spare_bytes ? used - spare_bytes : 0;
        left = limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
    }
    error_restore(saved);
    return left;
}

// The lowest limit in the file `name` of the control group `group` below the
// folder `mount` and of every group above it.
static size_t memory_group_limit(const char *mount, const char *group,
                                 const char *name) {
    char path[1024];
    char value[32];
    size_t mount_length = strlen(mount);
    size_t length = mount_length + strlen(group);
    size_t name_length = strlen(name);
    if (length + name_length + 2 > sizeof path) {
        return SIZE_MAX;
    }
    memcpy(path, mount, mount_length);
    memcpy(path + mount_length, group, length - mount_length);
    size_t lowest = SIZE_MAX;
    for (;;) {
        path[length] = '/';
        memcpy(path + length + 1, name, name_length + 1);
        if (memory_read_file(path, value, sizeof value)) {
            size_t limit = memory_parse(value);
            lowest = limit < lowest ? limit : lowest;
        }
        if (length <= mount_length) {
            return lowest;
        }
        do { // the group above
            length--;
        } while (length > mount_length && path[length] != '/');
    }
}

// Whether a line of /proc/self/cgroup ("3:cpu,memory:/user/shell") is of the
// first version's memory controller.
static bool memory_is_group_v1(const char *controllers, const char *end) {
    while (controllers < end) {
        const char *comma =
            memchr(controllers, ',', (size_t)(end - controllers));
        const char *stop = comma == NULL ? end : comma;
        if (stop - controllers == 6 && memcmp(controllers, "memory", 6) == 0) {
            return true;
        }
        controllers = stop + 1;
    }
    return false;
}

// The limit that one line of /proc/self/cgroup leads to.
static size_t memory_line_limit(const char *line) {
    const char *controllers = strchr(line, ':');
    const char *group =
        controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL) {
        return SIZE_MAX;
    }
    controllers++;
    if (memory_is_group_v1(controllers, group)) {
        return memory_group_limit("/sys/fs/cgroup/memory", group + 1,
                                  "memory.limit_in_bytes");
    }
    if (controllers != group) {
        return SIZE_MAX; // another controller of the first version
    }
    static const char *const mounts[] = {"/sys/fs/cgroup",
                                         "/sys/fs/cgroup/unified"};
    static const char *const names[] = {"memory.max", "memory.high"};
    size_t lowest = SIZE_MAX;
    for (size_t pair = 0; pair < 4; pair++) {
        size_t limit =
            memory_group_limit(mounts[pair / 2], group + 1, names[pair % 2]);
        lowest = limit < lowest ? limit : lowest;
    }
    return lowest;
}

size_t memory_physical_bytes(void) {
    int saved = error_save();
    size_t lowest = SIZE_MAX;
    struct sysinfo machine;
    if (sysinfo(&machine) == 0) {
        lowest = (size_t)machine.totalram * machine.mem_unit;
    }
    char groups[4096];
    if (memory_read_file("/proc/self/cgroup", groups, sizeof groups)) {
        for (char *line = groups; line != NULL && *line != '\0';) {
            char *end = strchr(line, '\n');
            if (end != NULL) {
                *end++ = '\0';
            }
            size_t limit = memory_line_limit(line);
            lowest = limit < lowest ? limit : lowest;
            line = end;
        }
    }
    error_restore(saved);
    return lowest;
}
