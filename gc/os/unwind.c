#ifndef _GNU_SOURCE
#define _GNU_SOURCE // dladdr
#endif

#include "os/unwind.h"

#include "os/error.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

// "name+0x12"
static void unwind_add_offset(struct text *text, const char *name,
                              const void *code, const void *start) {
    text_add(text, name);
    text_add(text, "+");
    text_add_hex(text, (uintptr_t)code - (uintptr_t)start);
}

// A static program has none that loads nothing.
#pragma weak backtrace

#define UNWIND_OURS 8 // frames of our own, at most

// Where the unwinder's code lies, once it is ready.
static struct {
    bool ready; // atomic
    uintptr_t start, end;
} unwinder;

// A module, by its name or its address.
struct unwind_search {
    const char *name; // a part of it, or NULL
    uintptr_t start, end;
};

static int unwind_look(struct dl_phdr_info *module, size_t bytes, void *data) {
    struct unwind_search *search = data;
    (void)bytes;
    if (search->name != NULL ? strstr(module->dlpi_name, search->name) == NULL
                             : module->dlpi_addr != search->start) {
        return 0;
    }
    search->start = module->dlpi_addr;
    for (size_t i = 0; i < module->dlpi_phnum; i++) {
        uintptr_t end = module->dlpi_addr + module->dlpi_phdr[i].p_vaddr +
                        module->dlpi_phdr[i].p_memsz;
        search->end = end > search->end ? end : search->end;
    }
    return 1;
}

void unwind_loader(uintptr_t *start, uintptr_t *end) {
    struct unwind_search search = {NULL, getauxval(AT_BASE), 0};
    bool found =
        search.start != 0 && dl_iterate_phdr(unwind_look, &search) != 0;
    *start = found ? search.start : 0;
    *end = found ? search.end : 0;
}

void unwind_ready(void) {
    int saved = error_save();
    void *frames[2];
    struct unwind_search search = {"libgcc_s.so", 0, 0};
    if (backtrace != NULL && backtrace(frames, 2) > 0 &&
        dl_iterate_phdr(unwind_look, &search) != 0) {
        unwinder.start = search.start;
        unwinder.end = search.end;
        __atomic_store_n(&unwinder.ready, true, __ATOMIC_RELEASE);
    }
    error_restore(saved);
}

size_t unwind_stack(const void *caller, uintptr_t *frames, size_t most) {
    void *found[64];
    uintptr_t code = (uintptr_t)caller;
    if (!__atomic_load_n(&unwinder.ready, __ATOMIC_ACQUIRE) ||
        code - unwinder.start < unwinder.end - unwinder.start) {
        return 0; // U4
    }
    int saved = error_save();
    size_t wanted = most + UNWIND_OURS < 64 ? most + UNWIND_OURS : 64;
    int count = backtrace(found, (int)wanted);
    error_restore(saved);
    int from = 0;
    while (from < count && found[from] != caller) {
        from++;
    }
    size_t kept = 0;
    for (; from < count && kept < most; from++) {
        frames[kept++] = (uintptr_t)found[from];
    }
    return kept;
}

void unwind_describe(struct text *text, const void *code) {
    int saved = error_save();
    Dl_info found;
    memset(&found, 0, sizeof found);
    if (code == NULL || dladdr(code, &found) == 0 || found.dli_fname == NULL) {
        text_add_hex(text, (uintptr_t)code); // U1
        error_restore(saved);
        return;
    }
    const char *slash = strrchr(found.dli_fname, '/');
    const char *file = slash == NULL ? found.dli_fname : slash + 1;
    if (*file == '\0') {
        file = "program"; // a static program has no name of its own
    }
    bool named = found.dli_sname != NULL;
    if (named) {
        unwind_add_offset(text, found.dli_sname, code, found.dli_saddr);
        text_add(text, " (");
    }
    unwind_add_offset(text, file, code, found.dli_fbase); // U2
    if (named) {
        text_add(text, ")");
    }
    error_restore(saved);
}
