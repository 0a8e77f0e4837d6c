// wrap_thread — threads that begin, and words that the system keeps for them.

#include "wrap.h"

#include <errno.h>

int wrap_unwinding_thread(int version, int actions, uint64_t which,
                          void *exception, void *context);

// What a new thread is to call, and what it ended with.  The record is an
// object that is never collected, hence a root: nothing else may point to the
// argument before the thread runs, nor to its result before it is joined.
struct wrap_thread {
    void *(*start)(void *);   // one of these two
    int (*start_c11)(void *); // is NULL
    void *argument;
    void *result;
    pthread_t thread;
    struct wrap_thread *next; // of those that ended; the door's lock
};

static struct wrap_thread *wrap_ended; // with results nobody has asked for

// Of the calling thread, until it has ended.
static __thread struct wrap_thread *wrap_self
    __attribute__((tls_model("initial-exec")));

static struct wrap_thread *wrap_make_thread(void *argument) {
    int saved = errno;
    struct wrap_thread *record = loam_alloc_pinned(sizeof *record);
    errno = saved;
    if (record != NULL) {
        record->argument = argument;
    }
    return record;
}

// Takes from the list of those that ended the records of `thread`, with that
// result if it is not NULL.
static void wrap_forget(pthread_t thread, const void *result) {
    if (__atomic_load_n(&wrap_ended, __ATOMIC_ACQUIRE) == NULL) {
        return;
    }
    struct wrap_thread *taken = NULL;
    loam_door_lock();
    struct wrap_thread **at = &wrap_ended;
    while (*at != NULL) {
        struct wrap_thread *record = *at;
        bool is_it = pthread_equal(record->thread, thread) != 0 &&
                     (result == NULL || record->result == result);
        if (is_it) {
            __atomic_store_n(at, record->next, __ATOMIC_RELEASE);
            record->next = taken;
            taken = record;
        } else {
            at = &record->next;
        }
    }
    loam_door_unlock();
    while (taken != NULL) {
        struct wrap_thread *next = taken->next;
        loam_free(taken);
        taken = next;
    }
}

// The calling thread is about to end with a result.
static void wrap_end(void *result) {
    struct wrap_thread *record = wrap_self;
    wrap_self = NULL;
    if (!loam_is_heap(result)) {
        loam_free(record);
        return;
    }
    if (record == NULL) { // it was not made here
        record = wrap_make_thread(NULL);
    }
    if (record != NULL) {
        record->argument = NULL;
        record->result = result; // W7
        record->thread = pthread_self();
        loam_door_lock();
        record->next = wrap_ended;
        __atomic_store_n(&wrap_ended, record, __ATOMIC_RELEASE);
        loam_door_unlock();
    }
}

// Called by the unwinder for the frame of a thread's first function: it was
// cancelled, or called pthread_exit.
__attribute__((used)) int wrap_unwinding_thread(int version, int actions,
                                                uint64_t which, void *exception,
                                                void *context) {
    (void)version;
    (void)which;
    (void)exception;
    (void)context;
    if ((actions & WRAP_CLEANUP_PHASE) != 0 && wrap_self != NULL) {
        wrap_end(NULL);
    }
    return WRAP_CONTINUE_UNWIND;
}

#define WRAP_UNWINDS_THREAD()                                                  \
    __asm__ volatile(".cfi_personality 0x1b, wrap_unwinding_thread")

static void wrap_begin(struct wrap_thread *record) {
    loam_door_thread_begin(); // W6: from here on its own stack is read
    // A thread that ended may have had this number, and was detached.
    wrap_forget(pthread_self(), NULL);
    wrap_self = record;
}

static void *wrap_run(void *data) {
    WRAP_UNWINDS_THREAD();
    struct wrap_thread *record = data;
    wrap_begin(record);
    void *argument = record->argument;
    record->argument = NULL;
    void *result = record->start(argument);
    wrap_end(result);
    return result;
}

static int wrap_run_c11(void *data) {
    WRAP_UNWINDS_THREAD();
    struct wrap_thread *record = data;
    wrap_begin(record);
    void *argument = record->argument;
    record->argument = NULL;
    int result = record->start_c11(argument);
    wrap_end(NULL);
    return result;
}

// Where the collector is not built there is nothing to tell it, and no object
// that an argument could point to; nor where nobody is stopped.
static bool wrap_tells(void) {
    return loam_door_stops() && loam_door_is_open();
}

WRAP_SHOWN int WRAP(pthread_create)(pthread_t *restrict thread,
                                    const pthread_attr_t *restrict attributes,
                                    void *(*start)(void *),
                                    void *restrict argument) {
    if (!wrap_tells()) {
        return WRAP_REAL(pthread_create)(thread, attributes, start, argument);
    }
    struct wrap_thread *record = wrap_make_thread(argument);
    if (record == NULL) {
        return EAGAIN;
    }
    record->start = start;
    // A thread that is made with attributes begins behind a lock that this one
    // holds, with every signal blocked.
    bool held = loam_door_hold();
    int done = WRAP_REAL(pthread_create)(thread, attributes, wrap_run, record);
    if (held) {
        loam_door_unhold();
    }
    if (done != 0) {
        loam_free(record);
    }
    return done;
}

WRAP_SHOWN int WRAP(thrd_create)(thrd_t *thread, thrd_start_t start,
                                 void *argument) {
    if (!wrap_tells()) {
        return WRAP_REAL(thrd_create)(thread, start, argument);
    }
    struct wrap_thread *record = wrap_make_thread(argument);
    if (record == NULL) {
        return thrd_nomem;
    }
    record->start_c11 = start;
    bool held = loam_door_hold();
    int done = WRAP_REAL(thrd_create)(thread, wrap_run_c11, record);
    if (held) {
        loam_door_unhold();
    }
    if (done != thrd_success) {
        loam_free(record);
    }
    return done;
}

// --- Their ends --------------------------------------------------------

WRAP_SHOWN void WRAP(pthread_exit)(void *result) {
    if (wrap_tells() || wrap_self != NULL) {
        wrap_end(result);
    }
    WRAP_REAL(pthread_exit)(result);
    __builtin_unreachable();
}

// The result is in the caller's frame when it is forgotten here.
static int wrap_join(int done, pthread_t thread, void *value, void **result) {
    if (done == 0) {
        if (result != NULL) {
            *result = value;
        }
        if (value != NULL) {
            wrap_forget(thread, value);
        }
    }
    return done;
}

WRAP_SHOWN int WRAP(pthread_join)(pthread_t thread, void **result) {
    WRAP_UNWINDS();
    int done;
    void *value = NULL;
    WRAP_WAITING(done = WRAP_REAL(pthread_join)(thread, &value));
    return wrap_join(done, thread, value, result);
}

WRAP_SHOWN int WRAP(pthread_tryjoin_np)(pthread_t thread, void **result) {
    void *value = NULL;
    int done = WRAP_REAL(pthread_tryjoin_np)(thread, &value);
    return wrap_join(done, thread, value, result);
}

WRAP_SHOWN int WRAP(pthread_timedjoin_np)(pthread_t thread, void **result,
                                          const struct timespec *until) {
    WRAP_UNWINDS();
    int done;
    void *value = NULL;
    WRAP_WAITING(done = WRAP_REAL(pthread_timedjoin_np)(thread, &value, until));
    return wrap_join(done, thread, value, result);
}

WRAP_SHOWN int WRAP(pthread_clockjoin_np)(pthread_t thread, void **result,
                                          clockid_t clock,
                                          const struct timespec *until) {
    WRAP_UNWINDS();
    int done;
    void *value = NULL;
    WRAP_WAITING(
        done = WRAP_REAL(pthread_clockjoin_np)(thread, &value, clock, until));
    return wrap_join(done, thread, value, result);
}

// --- Keys and signal stacks --------------------------------------------

// What the system keeps, the collector keeps first: between the two the value
// is an argument, on the stack.
WRAP_SHOWN int WRAP(pthread_setspecific)(pthread_key_t key, const void *value) {
    bool is_kept = key >= LOAM_DOOR_KEYS_INLINE;
    if (is_kept && !loam_door_key_set(key, (uintptr_t)value)) {
        return ENOMEM;
    }
    return WRAP_REAL(pthread_setspecific)(key, value);
}

WRAP_SHOWN int WRAP(pthread_key_delete)(pthread_key_t key) {
    int done = WRAP_REAL(pthread_key_delete)(key);
    if (done == 0 && key >= LOAM_DOOR_KEYS_INLINE) {
        loam_door_key_forget(key);
    }
    return done;
}

WRAP_SHOWN int WRAP(tss_set)(tss_t key, void *value) {
    bool is_kept = key >= LOAM_DOOR_KEYS_INLINE;
    if (is_kept && !loam_door_key_set(key, (uintptr_t)value)) {
        return thrd_error;
    }
    return WRAP_REAL(tss_set)(key, value);
}

WRAP_SHOWN void WRAP(tss_delete)(tss_t key) {
    WRAP_REAL(tss_delete)(key);
    if (key >= LOAM_DOOR_KEYS_INLINE) {
        loam_door_key_forget(key);
    }
}

// The system alone knows where a signal stack is.
WRAP_SHOWN int WRAP(sigaltstack)(const stack_t *restrict stack,
                                 stack_t *restrict old) {
    const void *lowest = NULL;
    if (stack != NULL && (stack->ss_flags & SS_DISABLE) == 0) {
        lowest = stack->ss_sp;
    }
    int done = WRAP_REAL(sigaltstack)(stack, old);
    if (done == 0 && stack != NULL && !wrap_is_vforked() &&
        !loam_door_alternate(lowest)) {
        stack_t none = {.ss_flags = SS_DISABLE};
        (void)WRAP_REAL(sigaltstack)(&none, NULL);
        errno = ENOMEM;
        return -1;
    }
    return done;
}
