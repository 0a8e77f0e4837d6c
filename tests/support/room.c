#include "support/room.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/resource.h>

static struct rlimit room_before;

bool room_end(void) {
    if (getrlimit(RLIMIT_AS, &room_before) != 0) {
        return false;
    }
    struct rlimit none = {1, room_before.rlim_max};
    if (setrlimit(RLIMIT_AS, &none) != 0) {
        return false;
    }
    // Some emulators say yes and do nothing.
    void *page = mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return true;
    }
    munmap(page, 1);
    return false;
}

void room_back(void) {
    (void)setrlimit(RLIMIT_AS, &room_before);
}
