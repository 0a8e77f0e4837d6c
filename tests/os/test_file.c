// Files of every length, read in one piece and in many.

#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

// The first descriptor that is free.
static int free_descriptor(void) {
    int file = open("/dev/null", O_RDONLY);
    (void)close(file);
    return file;
}

// FL1
static void test_whole(void **state) {
    (void)state;
    char path[] = "/tmp/test_file_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    char text[100];
    for (size_t length = 0; length < 40; length++) {
        memset(text, 1, sizeof text);
        assert_int_equal(file_read(path, text, sizeof text), length);
        assert_int_equal(text[length], '\0');
        for (size_t index = 0; index < length; index++) {
            assert_int_equal(text[index], 'x');
        }
        memset(text, 1, sizeof text);
        size_t most = length < 9 ? length : 9;
        assert_int_equal(file_read(path, text, 10), most); // cut
        assert_int_equal(text[most], '\0');
        assert_int_equal(text[10], 1);
        assert_int_equal(write(file, "x", 1), 1);
    }
    assert_int_equal(close(file), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(file_read(path, text, sizeof text), 0);
    assert_int_equal(text[0], '\0');
}

// FL1: a file that the system hands out in pieces of its own choice.
static void test_pieces(void **state) {
    (void)state;
    static char whole[1 << 18];
    size_t length = file_read("/proc/self/maps", whole, sizeof whole);
    assert_true(length > 1000 && length < sizeof whole - 1);
    assert_int_equal(whole[length - 1], '\n');
    assert_int_equal(strlen(whole), length);
}

static volatile sig_atomic_t alarms;
static int filled; // the end of a pipe that gets something in the end

// In the handler: on a busy machine nothing else comes surely after it.
static void ring(int number) {
    (void)number;
    if (++alarms == 5) {
        (void)!write(filled, "late", 4);
    }
}

// FL1: a signal while the file has nothing to give.
static void test_interrupted(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); // its handlers wait for a call that it knows: this is none
#endif
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct sigaction action = {.sa_handler = ring}; // no SA_RESTART
    struct sigaction before;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    alarms = 0;
    filled = ends[1];
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    char text[8];
    errno = 85;
    size_t got = file_next(ends[0], text, sizeof text);
    int seen = errno;
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(got, 4);
    assert_int_equal(seen, 85); // FL4
    assert_true(alarms >= 5);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

// FL2, FL4
static void test_closed(void **state) {
    (void)state;
    int before = free_descriptor();
    char text[64];
    errno = 86;
    (void)file_read("/proc/self/comm", text, sizeof text);
    (void)file_read("/nowhere", text, sizeof text);
    assert_int_equal(file_open("/nowhere"), -1);
    assert_int_equal(errno, 86);
    assert_int_equal(free_descriptor(), before);
    errno = 86;
    int file = file_open("/proc/self/comm");
    assert_int_equal(file, before);
    assert_true(fcntl(file, F_GETFD) & FD_CLOEXEC);
    file_close(file);
    file_close(file); // refused, in silence
    assert_int_equal(file_next(file, text, sizeof text), 0);
    assert_int_equal(errno, 86);
}

// FL5
static void test_spare(void **state) {
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit few = {(rlim_t)free_descriptor(), before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(open("/proc/self/comm", O_RDONLY | O_CLOEXEC), -1);
    errno = 86;
    char text[64];
    size_t got = file_read("/proc/self/comm", text, sizeof text);
    int error = errno;
    struct rlimit after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(got > 1);
    assert_int_equal(error, 86); // FL4
    assert_int_equal(after.rlim_cur, few.rlim_cur);
    assert_int_equal(after.rlim_max, few.rlim_max);
}

static void test_entries(void **state) {
    (void)state;
    int folder = file_open("/proc/self/task");
    assert_true(folder >= 0);
    _Alignas(struct file_entry) char buffer[1024];
    size_t got = file_next_entries(folder, buffer, sizeof buffer);
    char own[16];
    (void)snprintf(own, sizeof own, "%d", (int)getpid());
    bool found = false;
    for (size_t at = 0; at < got;) {
        const struct file_entry *entry = (const void *)(buffer + at);
        found = found || strcmp(entry->name, own) == 0;
        at += entry->bytes;
    }
    assert_true(found);
    file_close(folder);
}

static void *read_for_ever(void *data) {
    size_t got = file_next(*(int *)data, data, 1);
    return (void *)got;
}

// FL3: a thread that is to be cancelled reads on.
static void test_passive(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_for_ever, &ends[0]), 0);
    assert_int_equal(pthread_cancel(thread), 0);
    (void)usleep(20000);
    assert_int_equal(write(ends[1], "x", 1), 1);
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, (void *)1);
    (void)close(ends[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),       cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_interrupted), cmocka_unit_test(test_closed),
        cmocka_unit_test(test_spare),       cmocka_unit_test(test_entries),
        cmocka_unit_test(test_passive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
