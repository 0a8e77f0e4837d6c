#ifndef _GNU_SOURCE
#define _GNU_SOURCE // environ
#endif

#include "os/environment.h"

#include <string.h>
#include <unistd.h>

const char *environment_find(const char *name) {
    size_t length = strlen(name);
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') {
            return *entry + length + 1; // V1
        }
    }
    return NULL;
}

void environment_each(environment_visit *visit, void *data) {
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        const char *equals = strchr(*entry, '=');
        if (equals != NULL) { // V2
            visit(*entry, (size_t)(equals - *entry), equals + 1, data);
        }
    }
}
