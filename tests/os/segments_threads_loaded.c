// A library that comes and goes while threads are stopped.

#include <stdint.h>

uintptr_t *segments_threads_data(void);
uintptr_t *segments_threads_own(void);

static uintptr_t segments_threads_words[1000] = {1};
static _Thread_local uintptr_t segments_threads_tls[700];

uintptr_t *segments_threads_data(void) {
    return &segments_threads_words[999];
}

uintptr_t *segments_threads_own(void) {
    return &segments_threads_tls[699];
}
