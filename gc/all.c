// all — the whole library in one translation unit, ground floor first.
//
// Nothing but includes, in the order of gc/floors.  This is also the list of
// sources from which the build takes its modules (gc/CMakeLists.txt).

#include "base/bitmap.c"
#include "base/check.c"
#include "base/text.c"

#include "os/clock.c"
#include "os/environment.c"
#include "os/error.c"
#include "os/file.c"
#include "os/lock.c"
#include "os/memory_linux.c"
#include "os/output.c"
#include "os/segments_linux.c"
#include "os/stack_linux.c"
#include "os/task.c"
#include "os/thread.c"
#include "os/unwind.c"

#include "heap/block.c"
#include "heap/blockmap.c"
#include "heap/cache.c"
#include "heap/fate.c"
#include "heap/handle.c"
#include "heap/heap.c"
#include "heap/layout.c"
#include "heap/meta.c"
#include "heap/range.c"
#include "heap/region.c"
#include "heap/shelf.c"
#include "heap/sizeclass.c"
#include "heap/table.c"

#include "roots/fiber.c"
#include "roots/mutator.c"
#include "roots/ranges.c"
#include "roots/roots.c"

#include "trace/audit.c"
#include "trace/mark.c"
#include "trace/worklist.c"

#include "collect/collect.c"
#include "collect/pacer.c"
#include "collect/refill.c"
#include "collect/verify.c"

#include "api/init.c"
#include "api/loam.c"
#include "api/object.c"
#include "api/options.c"
#include "api/report.c"
#include "api/typed.c"
