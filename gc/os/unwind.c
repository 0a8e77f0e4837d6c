#ifndef _GNU_SOURCE
#define _GNU_SOURCE // dladdr
#endif

#include "os/unwind.h"

#include "os/error.h"

#include <dlfcn.h>
#include <string.h>

// "name+0x12"
static void unwind_add_offset(struct text *text, const char *name,
                              const void *code, const void *start) {
    text_add(text, name);
    text_add(text, "+");
    text_add_hex(text, (uintptr_t)code - (uintptr_t)start);
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
