// team — threads of a test of the api.
//
// For tests that see include/ alone; header only, for it calls Loam.

#ifndef SUPPORT_TEAM_H
#define SUPPORT_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "loam.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COOPERATIVE 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define COOPERATIVE 1
#endif

// For threads, in which cmocka's assertions would jump to nowhere.
#define MUST(condition) ((condition) ? (void)0 : fail_at(#condition, __LINE__))

static inline void fail_at(const char *what, int line) {
    print_error("line %d: %s\n", line, what);
    abort();
}

// A rest in which signals come through; where threads are stopped without
// signals they say that they wait.
static inline void rest(void) {
#ifdef COOPERATIVE
    loam_blocking_enter();
#endif
    (void)usleep(200);
#ifdef COOPERATIVE
    loam_blocking_leave();
#endif
}

static inline void wait_for(const atomic_uint *what, unsigned value) {
    while (atomic_load(what) != value) {
        rest();
    }
}

static inline pthread_t begin(void *(*body)(void *), void *data) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, body, data), 0);
    return thread;
}

// Likewise: the thread that is waited for may collect.
static inline void join(pthread_t thread) {
    void *answer;
#ifdef COOPERATIVE
    loam_blocking_enter();
#endif
    int error = pthread_join(thread, &answer);
#ifdef COOPERATIVE
    loam_blocking_leave();
#endif
    assert_int_equal(error, 0);
    assert_null(answer);
}

#endif
