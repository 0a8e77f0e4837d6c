// A library that comes and goes while threads are stopped.  Its code and its
// data share the first page of the file, which is mapped twice.
// link: -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-z,max-page-size=0x1000

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
