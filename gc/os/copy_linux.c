#include "os/copy.h"

#include "os/error.h"
#include "os/memory.h"

#include <pthread.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct copy copy = {&copy.alone, 1, NULL, false};

// Called by fork in the child, after what was registered before us.
static void copy_made(void) {
    __atomic_store_n(copy.mark, 0, __ATOMIC_RELAXED);
    copy.made();
}

void copy_watch(void (*made)(void)) {
    if (copy.watched) {
        return;
    }
    copy.made = made;
    int saved = error_save();
    size_t bytes = memory_page_bytes();
    uint32_t *mark =
        copy.mark == &copy.alone ? memory_reserve(bytes, bytes, 0) : NULL;
    if (mark != NULL && memory_commit(mark, bytes)) {
        // Where this is refused the hook has to do.
        (void)madvise(mark, bytes, MADV_WIPEONFORK);
        memory_name(mark, bytes, "loam mark");
        *mark = 1;
        __atomic_store_n(&copy.mark, mark, __ATOMIC_RELEASE); // P1
    } else if (mark != NULL) {
        memory_release(mark, bytes);
    }
    (void)pthread_atfork(NULL, NULL, copy_made);
    copy.watched = true;  // a child made before this begins again
    error_restore(saved); // P2
}
