// A library that the test of segments loads at run time: its variables.

#include <stdint.h>

uintptr_t *segments_loaded_data(void);
uintptr_t *segments_loaded_bss(void);
uintptr_t *segments_loaded_tls(void);

static uintptr_t segments_loaded_initialised = 1;
static uintptr_t segments_loaded_zero[512];
static _Thread_local uintptr_t segments_loaded_own[300]; // too big for static

uintptr_t *segments_loaded_data(void) {
    return &segments_loaded_initialised;
}

uintptr_t *segments_loaded_bss(void) {
    return &segments_loaded_zero[511];
}

uintptr_t *segments_loaded_tls(void) {
    return &segments_loaded_own[299];
}
