// Standard error is a pipe here, with a reader that is slow or gone.

#include "os/output.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MANY (300 * KiB) // a pipe holds 64 KiB

static int real_error;
static char *sent;
static volatile sig_atomic_t ticks;

static void tick(int signal_number) {
    (void)signal_number;
    ticks++;
}

static int prepare(void **state) {
    (void)state;
    real_error = dup(STDERR_FILENO);
    sent = malloc(MANY);
    if (real_error < 0 || sent == NULL) {
        return -1;
    }
    for (size_t index = 0; index < MANY; index++) {
        sent[index] = (char)('a' + index % 23 + index / 4096 % 3);
    }
    return 0;
}

static int clean(void **state) {
    (void)state;
    free(sent);
    return close(real_error);
}

// What a reader got, a few bytes at a time.
struct reader {
    int end;
    size_t count;
    bool same;
};

static void *read_slowly(void *data) {
    struct reader *reader = data;
    char part[3001];
    struct timespec nap = {.tv_nsec = 500000};
    reader->same = true;
    for (;;) {
        ssize_t got = read(reader->end, part, sizeof part);
        if (got <= 0) {
            return NULL;
        }
        if (reader->count + (size_t)got > MANY ||
            memcmp(part, sent + reader->count, (size_t)got) != 0) {
            reader->same = false;
        }
        reader->count += (size_t)got;
        (void)nanosleep(&nap, NULL);
    }
}

// Sends all to a slow reader and requires that it arrives.
static void send_all(int flags) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, flags), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    close(ends[1]);
    struct reader reader = {ends[0], 0, false};
    pthread_t thread;
    sigset_t ticking; // blocked in the reader, which inherits it
    assert_int_equal(sigemptyset(&ticking), 0);
    assert_int_equal(sigaddset(&ticking, SIGALRM), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &ticking, NULL), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_slowly, &reader), 0);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &ticking, NULL), 0);
    errno = 84;
    output_write(sent, MANY);
    int left = errno;
    assert_int_equal(dup2(real_error, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close(ends[0]);
    assert_int_equal(left, 84);           // O2
    assert_int_equal(reader.count, MANY); // O1
    assert_true(reader.same);             // O1
}

static void test_slow_reader(void **state) {
    (void)state;
    send_all(0);
}

static void test_nonblocking(void **state) {
    (void)state;
    send_all(O_NONBLOCK);
}

// O1: signals whose handler does not restart calls.
static void test_interrupted(void **state) {
    (void)state;
    struct sigaction action = {.sa_handler = tick}, before;
    struct itimerval often = {{0, 700}, {0, 700}}, never = {{0, 0}, {0, 0}};
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    ticks = 0;
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    send_all(0);
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    assert_true(ticks > 0);
}

// O1, O2: refused for good.  A closed standard error; one that never drains.
static void test_refused(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(close(STDERR_FILENO), 0);
    errno = 85;
    output_write("lost\n", 5);
    int closed = errno;
    assert_int_equal(dup2(real_error, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(closed, 85);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    output_write(sent, MANY); // returns, though nobody reads
    int stuck = errno;
    assert_int_equal(dup2(real_error, STDERR_FILENO), STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(stuck, 85);
}

// O3, O2
static void test_append(void **state) {
    (void)state;
    char path[] = "/tmp/test_output_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    errno = 87;
    assert_true(output_append(path, "one\n", 4));
    assert_int_equal(write(file, "two\n", 4), 4); // over it: not at the end
    assert_true(output_append(path, "three\n", 6));
    char text[32] = {0};
    assert_int_equal(pread(file, text, sizeof text, 0), 10);
    assert_string_equal(text, "two\nthree\n");
    assert_false(output_append("/nowhere/at/all", "x", 1));
    assert_int_equal(errno, 87);
    int next = dup(file);
    assert_int_equal(next, file + 1); // no descriptor stayed open
    close(next);
    close(file);
    assert_int_equal(unlink(path), 0);
}

static void test_nothing(void **state) {
    (void)state;
    errno = 86;
    output_write("", 0);
    assert_int_equal(errno, 86);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_nonblocking),
        cmocka_unit_test(test_interrupted), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_append),      cmocka_unit_test(test_nothing),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}
