// A library that is loaded to prefer its own names.

#include <stdlib.h>
#include <string.h>

char *loaded_make(void);
void loaded_free(void *p);

char *loaded_make(void) {
    return strdup("made by a library");
}

void loaded_free(void *p) {
    free(p);
}
