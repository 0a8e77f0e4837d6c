#include "os/error.h"

#include <errno.h>

int error_save(void) {
    return errno;
}

void error_restore(int saved) {
    errno = saved;
}

void error_set_no_memory(void) {
    errno = ENOMEM;
}

void error_set_invalid(void) {
    errno = EINVAL;
}
