// leak — glibc's malloc, and nothing is ever freed: what a program costs that
// relies on a collector and has none.

#define SHIM_MANUAL 0

#include "shims/malloc.h"
