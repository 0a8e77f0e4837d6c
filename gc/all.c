// all — the whole library in one translation unit, ground floor first.
//
// Nothing but includes, in the order of gc/floors.  This is also the list of
// sources from which the build takes its modules (gc/CMakeLists.txt).

#include "api/options.c"
