// Children in a storm.  Eight threads allocate, free and collect; two of them
// also write and read by stdio, whose locks fork takes: an allocator that holds
// a lock across fork stops here for ever.  One thread forks, in turn by fork,
// _Fork and the bare system call; and for a while a signal handler forks, over
// whatever the main thread was doing.  Each child allocates, collects, and
// finds the list of its parent whole.
// long: 10000
// seconds: 120

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "loam.h"
#include "support/gen.h"
#include "support/scrub.h"

#define THREADS 8u
#define LIST    ((uint64_t)5000)

struct node {
    struct node *next;
    uint64_t number, check;
};

static struct node *list;
static bool stop;

static void require(bool held, const char *what) {
    if (!held) {
        fprintf(stderr, "test_fork_storm: %s\n", what);
        abort();
    }
}

static struct node *grow(uint64_t count) {
    struct node *onto = NULL;
    for (uint64_t i = 0; i < count; i++) {
        struct node *node = loam_alloc(sizeof *node);
        if (node == NULL) {
            return onto;
        }
        *node = (struct node){onto, i, gen_mix(i, (uintptr_t)node)};
        onto = node;
    }
    return onto;
}

static bool is_whole(const struct node *node, uint64_t count) {
    while (node != NULL && count != 0) {
        count--;
        if (node->number != count ||
            node->check != gen_mix(count, (uintptr_t)node)) {
            return false;
        }
        node = node->next;
    }
    return node == NULL && count == 0;
}

// --- The storm -------------------------------------------------------------

static void talk(size_t turn) {
    FILE *file = fopen("/dev/null", "w");
    if (file != NULL) {
        fprintf(file, "turn %zu\n", turn);
        fclose(file);
    }
    if (turn % 64 == 0) {
        fflush(NULL);
    }
}

static void *work(void *data) {
    size_t number = (size_t)(uintptr_t)data;
    sigset_t alarms; // they are for the main thread
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarms, NULL);
    struct gen g;
    gen_init(&g, number);
    void *kept[32] = {NULL};
    struct node *own = NULL;
    for (size_t turn = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); turn++) {
        size_t slot = gen_below(&g, 32);
        if (gen_chance(&g, 30)) {
            loam_free(kept[slot]);
            kept[slot] = NULL;
        } else {
            kept[slot] = gen_chance(&g, 50)
                             ? loam_alloc(gen_bytes(&g, 40000))
                             : loam_alloc_leaf(gen_bytes(&g, 200000));
        }
        if (turn % 300 == 0) {
            own = grow(100);
        }
        require(own == NULL || is_whole(own, 100), "a thread lost an object");
        if (number < 2) {
            talk(turn);
        }
        if (turn % 5000 == 0) {
            (void)loam_collect();
        }
    }
    return NULL;
}

// --- Children --------------------------------------------------------------

static int live(void) {
    signal(SIGALRM, SIG_DFL);
    alarm(60);
    if (!is_whole(list, LIST)) {
        return 1;
    }
    struct node *own = grow(2000);
    for (size_t i = 0; i < 20; i++) {
        loam_free(loam_alloc_leaf(60000 * (1 + i % 3)));
    }
    if (!is_whole(own, 2000) || !loam_collect()) {
        return 2;
    }
    if (!is_whole(own, 2000) || !is_whole(list, LIST)) {
        return 3;
    }
    return is_whole(grow(2000), 2000) ? 0 : 4;
}

static pid_t fork_one(size_t i) {
#if defined(__aarch64__)
    (void)i; // an emulator loses count of what it does not see
    return fork();
#else
    return i % 3 == 0   ? fork()
           : i % 3 == 1 ? _Fork()
                        : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

static void finish(pid_t child) {
    int status = 0;
    pid_t got;
    do {
        got = waitpid(child, &status, 0);
    } while (got < 0 && errno == EINTR);
    if (got != child || status != 0) {
        fprintf(stderr, "child: status %d, signal %d\n", WEXITSTATUS(status),
                WIFSIGNALED(status) ? WTERMSIG(status) : 0);
        abort();
    }
}

static void fork_many(size_t count) {
    for (size_t i = 0; i < count; i++) {
        pid_t child = fork_one(i);
        require(child >= 0, "no child");
        if (child == 0) {
            _exit(live());
        }
        finish(child);
        require(i % 16 != 0 || is_whole(list, LIST), "the list");
    }
}

// --- From a handler --------------------------------------------------------

static volatile sig_atomic_t handled, is_child;

// The child goes on with what was interrupted.
static void fork_in_handler(int number) {
    (void)number;
    int saved = errno;
    pid_t child = is_child ? -1 : fork_one((size_t)handled + 1);
    if (child == 0) {
        is_child = 1;
    } else if (child > 0) {
        finish(child);
        handled++;
    }
    errno = saved;
}

// The main thread at work, and interrupted at it.
static void fork_over_work(int children) {
    struct sigaction action = {.sa_handler = fork_in_handler};
    sigemptyset(&action.sa_mask);
    require(sigaction(SIGALRM, &action, NULL) == 0, "sigaction");
    struct itimerval often = {{0, 3000}, {0, 3000}};
    struct itimerval never = {{0, 0}, {0, 0}};
    require(setitimer(ITIMER_REAL, &often, NULL) == 0, "setitimer");
    struct node *own = NULL;
    for (size_t turn = 0; handled < children && !is_child; turn++) {
        own = grow(100);
        require(is_whole(own, 100), "main lost an object");
        loam_free(loam_alloc_leaf(1 + turn * 7919 % 100000));
    }
    if (is_child) {
        // It has finished what the handler came over.
        require(is_whole(own, 100), "a child's own object");
        signal(SIGALRM, SIG_DFL);
        _exit(live());
    }
    require(setitimer(ITIMER_REAL, &never, NULL) == 0, "setitimer");
    signal(SIGALRM, SIG_DFL);
}

int main(int argc, char **argv) {
    size_t children = SCALED((size_t)400, (size_t)150);
    if (argc > 1) {
        children = (size_t)strtoul(argv[1], NULL, 10);
    }
    list = grow(LIST);
    require(is_whole(list, LIST), "no memory");
    fork_over_work((int)children / 8);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        require(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) ==
                    0,
                "pthread_create");
    }
    fork_many(children);
    fork_over_work(handled + (int)children / 8);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    require(is_whole(list, LIST), "the list at the end");
    printf("%zu children, %d from a handler\n", children, (int)handled);
    return 0;
}
