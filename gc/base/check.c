#include "base/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The C library's write by its other name: the first is wrapped, and what its
// wrapper does may be what is broken.
ssize_t __write(int file, const void *bytes, size_t count);

// We may be inside malloc, in a signal handler, with the world stopped:
// write and abort are all that is safe to call here.
static void check_say(const char *text) {
    size_t left = strlen(text);
    while (left != 0) {
        ssize_t done = __write(STDERR_FILENO, text, left);
        if (done <= 0) {
            return; // we are about to stop anyway
        }
        text += done;
        left -= (size_t)done;
    }
}

// C1
COLD _Noreturn void check_fail(const char *file, int line, const char *what) {
    char digits[12];
    char *digit = &digits[sizeof digits - 1];
    *digit = '\0';
    for (unsigned left = (unsigned)line; left != 0; left /= 10) {
        *--digit = (char)('0' + left % 10);
    }
    check_say("loam: ");
    check_say(file);
    check_say(":");
    check_say(digit);
    check_say(": broken: ");
    check_say(what);
    check_say("\n");
    abort();
}

COLD _Noreturn void check_stop(const char *sentence) {
    check_say("loam: ");
    check_say(sentence);
    check_say("\n");
    abort();
}
