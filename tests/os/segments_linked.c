// A library that the test of segments is linked with: its variables.

#include <stdint.h>

uintptr_t *segments_linked_data(void);
uintptr_t *segments_linked_bss(void);
uintptr_t *segments_linked_tls(void);

static uintptr_t segments_linked_initialised = 1;
static uintptr_t segments_linked_zero[512];
static _Thread_local uintptr_t segments_linked_own[3];

uintptr_t *segments_linked_data(void) {
    return &segments_linked_initialised;
}

uintptr_t *segments_linked_bss(void) {
    return &segments_linked_zero[511];
}

uintptr_t *segments_linked_tls(void) {
    return &segments_linked_own[2];
}
