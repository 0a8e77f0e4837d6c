// door — what a shim may ask of the collector.
//
// Shims stand outside of the house: functions with the names of somebody
// else's, which the program calls without knowing.  They see include/ and this
// header, and nothing else of gc/.
//
// A wrapped call comes at any time: before the collector is built, in a
// program that never builds it, in a thread it has not met, in a signal
// handler.  So every question has an answer that costs next to nothing and
// means "go on as if I were not there".
//
//     the program      read(fd, buffer, n)
//     shims/wrap         loam_door_safe_enter(&entered)   registers saved
//     the C library        read(fd, buffer, n)            a stop passes by
//     shims/wrap         loam_door_safe_leave()           waits for its end
//
// A signal handler of the program that interrupts such a wait is program code
// again, and the thread must not count as waiting while it runs: the shim that
// calls it says so (loam_door_handler_enter).
//
// Invariants:
//   D1  idle    before the collector is built, and in a thread without a
//               mutator, a call here changes nothing and builds nothing; but a
//               thread that a stop has met is attached before it waits again,
//               and one that takes the lock
//   D2  errno   errno is as the caller left it
//   D3  whole   while a thread counts as waiting, the registers that its caller
//               had at loam_door_safe_enter, and its stack from there on, are
//               read by every collection
//   D4  handler between loam_door_handler_enter and _leave the thread does not
//               count as waiting, whatever it was in; after _leave it is as it
//               was before
//   D5  once    a region that is left twice, or was never entered, is left as
//               it is
//   D6  calm    no signal of a stop that began before loam_door_safe_enter
//               returned is taken after it
//   D7  keys    the last value given for a key from 32 on is a root until
//               another is given, the key is forgotten, or the thread is gone
//   D8  ahead   a thread that is about to wait waits for nobody's lock but for
//               a moment: it may hold one, and whoever has ours may have been
//               stopped by another collector, until this thread goes on
//
// Any thread; all but the thread_ and key_ calls in a signal handler too.
// Design, alternatives and measurements: docs/design/api/door.md

#ifndef API_DOOR_H
#define API_DOOR_H

#include "loam.h"

#include "base/defs.h"
#include "roots/world.h"

// Keys below this are kept where segments are read: in the thread's own block.
#define LOAM_DOOR_KEYS_INLINE 32u

// --- Waiting -----------------------------------------------------------

// The calling thread is about to wait in the system: until it leaves it
// touches no object, and a stop need not interrupt it.  *entered says whether
// it is to be left again: false where nobody would stop it, and inside of the
// collector.  Its caller stays on the stack until then.  They nest.
LOAM_API void loam_door_safe_enter(void *entered);
LOAM_API void loam_door_safe_leave(void);

// A frame that had entered is being unwound: leaves, if it is still to be done.
LOAM_API void loam_door_unwound(void);

// A handler of the program begins, and has ended; *was is what it interrupted.
// Its frames lie below those of the caller, who stays.
struct loam_door_handler {
    struct world_safe safe;
    const void *outer; // where another handler's frames begin, or NULL
};

LOAM_API void loam_door_handler_enter(struct loam_door_handler *was);
LOAM_API void loam_door_handler_leave(const struct loam_door_handler *was);

// Whether anybody may be stopped at all: not where malloc alone is served, and
// what is freed is not searched for.  It may become true, and then stays so.
LOAM_API bool loam_door_stops(void);

// --- Threads -----------------------------------------------------------

// No stop takes effect in the calling thread between these two, unless it
// waits for a thread that has stopped; for the few microseconds in which it
// holds what other threads need in order to stop.
// True if it is to be ended.
LOAM_API MUST_USE bool loam_door_hold(void);
LOAM_API void loam_door_unhold(void);

// The one lock of the process, for a few instructions on a list of a shim's.
LOAM_API void loam_door_lock(void);
LOAM_API void loam_door_unlock(void);

// Whether the collector is built, and the calling thread not inside of it.
LOAM_API bool loam_door_is_open(void);

// A thread that begins is made known; if it cannot be, it is stopped as one
// that nobody knows.
LOAM_API void loam_door_thread_begin(void);

// --- Limits ------------------------------------------------------------

// The program has set another limit on its address space: what is reserved
// beyond it, and not used, is given back.  Nothing happens where the thread is
// inside of the collector.
LOAM_API void loam_door_limited(void);

// --- Words that the system keeps ---------------------------------------

// The value of a pthread key from LOAM_DOOR_KEYS_INLINE on in this thread, told
// before the system is; false when memory for it is short.
LOAM_API MUST_USE bool loam_door_key_set(unsigned key, uintptr_t value);

// The key is gone, in all threads.
LOAM_API void loam_door_key_forget(unsigned key);

// The calling thread's signal stack begins at `lowest`; NULL: it has none.
LOAM_API MUST_USE bool loam_door_alternate(const void *lowest);

// --- malloc ------------------------------------------------------------

// What api/served.h does, for the names that programs know.
LOAM_API void *loam_door_malloc(size_t bytes, const void *caller);
LOAM_API void *loam_door_calloc(size_t bytes, const void *caller);
LOAM_API void *loam_door_memalign(size_t alignment, size_t bytes,
                                  const void *caller);
LOAM_API void *loam_door_realloc(void *p, size_t bytes, const void *caller,
                                 bool *known);
LOAM_API MUST_USE bool loam_door_free(void *p);
LOAM_API size_t loam_door_usable(const void *p);

// What the environment wishes of a preloaded library.
struct loam_door_wishes {
    bool verify;                     // that it says that it is active
    bool follow;                     // that children have it, too
    const char *mode;                // the word of LOAM_MODE
    bool leaks;                      // that it reports what leaked
    int leak_status, leak_signal;    // 0: none
    const char *suppressions, *tool; // names of files, or NULL
};
LOAM_API struct loam_door_wishes loam_door_wishes(void);

// What leaked of one stack, or in all.
struct loam_door_leak {
    size_t direct_bytes, direct_objects;     // nothing leads to them
    size_t indirect_bytes, indirect_objects; // but what leaked itself
    const uintptr_t *frames;                 // innermost first
    size_t frame_count;                      // 1: no stack was taken
};

// Looks for what has leaked; false where that is not the mode, or cannot be
// done now.  Then one stack after the other, the largest at 0; false past the
// last.  One thread at a time.
LOAM_API bool loam_door_leaks(struct loam_door_leak *all);
LOAM_API bool loam_door_leak(size_t index, struct loam_door_leak *leak);

// What the calling thread allocates from now on is not told, nor what that
// leads to; or it is again.  The same of the object that `p` points into.
LOAM_API void loam_door_leak_spare(bool spares);
LOAM_API void loam_door_leak_ignore(const void *p);

// Memory in which the search for leaks is to look for pointers, too, or no
// longer.
LOAM_API void loam_door_leak_region(const void *start, size_t bytes, bool is);

// Readies what takes stacks; it may load a library.
LOAM_API void loam_door_unwind(void);

// The bytes that a quarantine holds, which loam_stats counts as used.
LOAM_API size_t loam_door_held(void);

// Gives memory that is free back to the system; false if there was none.
LOAM_API bool loam_door_trim(void);

// Says that `function` was given a pointer that it cannot use.  True if the
// process is to end now (LOAM_ABORT).
LOAM_API MUST_USE bool loam_door_misuse(const char *function, const void *p,
                                        const void *caller);

// --- The signal --------------------------------------------------------

// The signal that stops threads.
LOAM_API int loam_door_signal(void);

// The program sets the action of that signal (NULL: asks for it): a struct
// sigaction, kept and chained; *old is what it had set.  False while the
// signal is not yet in use: then the system is to be asked.
LOAM_API MUST_USE bool loam_door_chain(const void *action, void *old);

#endif
