// wrap_thread — threads that begin, and words that the system keeps for them.

#include "wrap.h"

#include <errno.h>

// What a new thread is to call.  The record is an object that is never
// collected, hence a root: the argument may have no other.  The thread frees
// it.
struct wrap_start {
    void *(*start)(void *);   // one of these two
    int (*start_c11)(void *); // is NULL
    void *argument;
};

static struct wrap_start *wrap_make_start(void *argument) {
    struct wrap_start *record = loam_alloc_pinned(sizeof *record);
    if (record != NULL) {
        record->argument = argument;
    }
    return record;
}

// The first function of every thread made here.
static struct wrap_start wrap_begin(void *data) {
    struct wrap_start *record = data;
    loam_door_thread_begin(); // W6: from here on its own stack is read
    struct wrap_start start = *record;
    loam_free(record);
    return start;
}

static void *wrap_run(void *data) {
    struct wrap_start start = wrap_begin(data);
    return start.start(start.argument);
}

static int wrap_run_c11(void *data) {
    struct wrap_start start = wrap_begin(data);
    return start.start_c11(start.argument);
}

// Where the collector is not built there is nothing to tell it, and no object
// that an argument could point to.
WRAP_SHOWN int WRAP(pthread_create)(pthread_t *restrict thread,
                                    const pthread_attr_t *restrict attributes,
                                    void *(*start)(void *),
                                    void *restrict argument) {
    if (!loam_door_is_built()) {
        return WRAP_REAL(pthread_create)(thread, attributes, start, argument);
    }
    int saved = errno;
    struct wrap_start *record = wrap_make_start(argument);
    errno = saved;
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
    if (!loam_door_is_built()) {
        return WRAP_REAL(thrd_create)(thread, start, argument);
    }
    int saved = errno;
    struct wrap_start *record = wrap_make_start(argument);
    errno = saved;
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
