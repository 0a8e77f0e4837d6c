// A library that the test of the loader loads, several times over.  It is made
// for an address that is not 0, and its thread-local variable has a place that
// is the same in each thread.
// link: -Wl,-z,max-page-size=0x1000 -Wl,-Ttext-segment=0x700000

#include <link.h>
#include <stddef.h>
#include <stdint.h>

typedef int loader_loaded_visit(struct dl_phdr_info *info, size_t size,
                                void *data);

int loader_loaded_each(loader_loaded_visit *visit, void *data);
uintptr_t *loader_loaded_data(void);
uintptr_t *loader_loaded_tls(void);

static uintptr_t loader_loaded_initialised = 1;
static _Thread_local uintptr_t loader_loaded_own
    __attribute__((tls_model("initial-exec")));

// The loader tells of the namespace that asks.
int loader_loaded_each(loader_loaded_visit *visit, void *data) {
    return dl_iterate_phdr(visit, data);
}

uintptr_t *loader_loaded_data(void) {
    return &loader_loaded_initialised;
}

uintptr_t *loader_loaded_tls(void) {
    return &loader_loaded_own;
}
