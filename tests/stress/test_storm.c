// Storms.  Several things go on at once that a collector has to live with, and
// every object is checked by whoever holds it (support/thing.h):
//
//     threads     made and ending all the time: detached, joined, by
//                 pthread_exit, with attributes, with stacks of the program's
//     collect     another thread collects without a pause
//     signals     handlers that allocate, free and collect, at 1 kHz, nested
//     loads       dlopen and dlclose of a library with the only references
//     forks       children that collect, allocate and exit
//     cancel      threads cancelled while they wait, and while they compute
//     stops       another process stops and continues this one
//
// With no argument each kind blows for a while by itself (beside two threads
// that work), and then all at once.  --kinds a,b,... only these, at once;
// --seconds N in all; LOAM_SEED=N again.
//
// A watchdog names the threads when nobody gets anywhere for half a minute.
//
// seconds: 300
// long: --seconds 600

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loam.h"
#include "support/bazaar.h"
#include "support/gen.h"
#include "support/stopper.h"
#include "support/thing.h"
#include "support/watchdog.h"

enum kind {
    THREADS,
    COLLECT,
    SIGNALS,
    LOADS,
    FORKS,
    CANCEL,
    STOPS,
    KINDS,
};

static const char *const kind_names[KINDS] = {
    "threads", "collect", "signals", "loads", "forks", "cancel", "stops",
};

#define WORKERS      2
#define WORKER_STACK ((size_t)1024 * 1024)
#define ALTERNATE    ((size_t)64 * 1024)
#define TARGETS      64
#define CHILD_S      60 // a child that takes longer hangs
#define SILENT_S     30

static atomic_ulong counts[KINDS]; // what each kind has done

static _Noreturn void fail(const char *what) {
    perror(what);
    abort();
}

// --- Signals -----------------------------------------------------------

// Threads that may be sent signals.
static struct {
    pthread_mutex_t lock;
    pthread_t threads[TARGETS];
    bool used[TARGETS];
} targets = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t target_add(pthread_t thread) {
    size_t at = 0;
    pthread_mutex_lock(&targets.lock);
    while (at < TARGETS && targets.used[at]) {
        at++;
    }
    if (at < TARGETS) {
        targets.threads[at] = thread;
        targets.used[at] = true;
    }
    pthread_mutex_unlock(&targets.lock);
    return at;
}

static void target_remove(size_t at) {
    if (at < TARGETS) {
        pthread_mutex_lock(&targets.lock);
        targets.used[at] = false;
        pthread_mutex_unlock(&targets.lock);
    }
}

// What the handlers of a thread hold: one for each of two signals, which
// interrupt one another.
static _Thread_local struct {
    bool begun;
    struct thing_maker maker;
    struct thing_link own[4];
} hands[2];

// Cancelled at any instruction: as with malloc, its handlers may not allocate.
static _Thread_local volatile bool is_brittle;

static void on_signal(int number) {
    int error = errno;
    if (is_brittle) {
        return;
    }
    size_t which = number == SIGUSR1 ? 0 : 1;
    struct thing_maker *m = &hands[which].maker;
    if (!hands[which].begun) {
        bazaar_begin(m);
        m->bytes_max = 300;
        hands[which].begun = true;
    }
    struct thing_link *at = &hands[which].own[gen_below(&m->gen, 4)];
    size_t dice = gen_below(&m->gen, 100);
    thing_check(m, *at);
    if (dice < 60) {
        *at = thing_tree(m, 2, hands[which].own[0]);
        if (at == &hands[which].own[0]) {
            *at = thing_freeze(m, (struct thing_link){NULL, 0});
        }
    } else if (dice < 75) {
        thing_free(m, *at);
        *at = at->to == NULL || at->to->is_frozen
                  ? *at
                  : (struct thing_link){NULL, 0};
    } else if (dice < 90) {
        thing_resize(m, *at);
    } else if (dice == 90) {
        (void)loam_collect();
    }
    thing_check(m, *at);
    if (atomic_fetch_add(&counts[SIGNALS], 1) % 8 == 0) {
        bazaar_finish(m);
        m->checked = m->refused = m->freed = 0;
    }
    errno = error;
}

static void *blow_signals(void *unused) {
    (void)unused;
    struct gen gen;
    gen_init(&gen, gen_mix(bazaar.seed, 77));
    while (!bazaar.over) {
        pthread_mutex_lock(&targets.lock);
        for (size_t i = 0; i < TARGETS; i++) {
            if (targets.used[i]) {
                int number = gen_chance(&gen, 50) ? SIGUSR1 : SIGUSR2;
                (void)pthread_kill(targets.threads[i], number);
            }
        }
        pthread_mutex_unlock(&targets.lock);
        bazaar_nap(1000);
    }
    return NULL;
}

static void set_alternate(void *memory) {
    stack_t stack = {.ss_sp = memory, .ss_size = ALTERNATE};
    stack.ss_flags = memory == NULL ? SS_DISABLE : 0;
    if (sigaltstack(&stack, NULL) != 0) {
        fail("sigaltstack");
    }
}

static void handle_signals(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    if (sigaction(SIGUSR1, &action, NULL) != 0) {
        fail("sigaction");
    }
    action.sa_flags |= SA_ONSTACK;
    if (sigaction(SIGUSR2, &action, NULL) != 0) {
        fail("sigaction");
    }
}

// One has its signal stack above its own, where older frames would be.
static void *run_worker(void *memory) {
    set_alternate(memory);
    while (!bazaar.over) {
        bazaar_work(2000);
    }
    set_alternate(NULL);
    return NULL;
}

struct worker {
    pthread_t thread;
    size_t target;
    char *memory; // [ guard | signal stack | stack | signal stack ]
};

static void worker_start(struct worker *w, bool above) {
    pthread_attr_t attributes;
    w->memory = mmap(NULL, WORKER_STACK + 3 * ALTERNATE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (w->memory == MAP_FAILED || pthread_attr_init(&attributes) != 0) {
        fail("no memory");
    }
    (void)mprotect(w->memory, ALTERNATE, PROT_NONE);
    char *below = w->memory + ALTERNATE, *stack = below + ALTERNATE;
    pthread_attr_setstack(&attributes, stack, WORKER_STACK);
    if (pthread_create(&w->thread, &attributes, run_worker,
                       above ? stack + WORKER_STACK : below) != 0) {
        fail("pthread_create");
    }
    pthread_attr_destroy(&attributes);
    (void)pthread_setname_np(w->thread, above ? "worker-above" : "worker");
    w->target = target_add(w->thread);
}

static void worker_join(struct worker *w) {
    target_remove(w->target);
    (void)pthread_join(w->thread, NULL);
    (void)munmap(w->memory, WORKER_STACK + 3 * ALTERNATE);
}

// --- Threads that come and go ------------------------------------------

static void *run_brief(void *data) {
    struct thing_link held = *(struct thing_link *)data;
    loam_free(data);
    struct thing_maker m;
    bazaar_begin(&m);
    thing_check(&m, held);
    bazaar_work(1 + gen_below(&m.gen, 300));
    thing_check(&m, held);
    bazaar_finish(&m);
    if (gen_chance(&m.gen, 30)) {
        pthread_exit(NULL);
    }
    return NULL;
}

struct brief {
    pthread_t thread;
    size_t target;
    void *stack; // mapped, or NULL
    bool used;
};

#define BRIEF_STACK ((size_t)256 * 1024)

static void brief_join(struct brief *b) {
    if (b->used) {
        target_remove(b->target);
        (void)pthread_join(b->thread, NULL);
        if (b->stack != NULL) {
            (void)munmap(b->stack, BRIEF_STACK);
        }
        b->used = false;
    }
}

static void brief_start(struct brief *b, struct thing_maker *m) {
    struct thing_link held = thing_tree(m, 3, bazaar_frozen(m));
    struct thing_link *data = loam_alloc_pinned(sizeof *data);
    pthread_attr_t attributes;
    if (data == NULL || pthread_attr_init(&attributes) != 0) {
        fail("no memory");
    }
    *data = held;
    b->stack = NULL;
    if (gen_chance(&m->gen, 30)) {
        void *stack = mmap(NULL, BRIEF_STACK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        b->stack = stack == MAP_FAILED ? NULL : stack;
    }
    if (b->stack != NULL) {
        pthread_attr_setstack(&attributes, b->stack, BRIEF_STACK);
    } else if (gen_chance(&m->gen, 50)) {
        pthread_attr_setstacksize(&attributes, BRIEF_STACK);
    }
    b->used = pthread_create(&b->thread, &attributes, run_brief, data) == 0;
    pthread_attr_destroy(&attributes);
    if (!b->used) {
        loam_free(data);
        return;
    }
    atomic_fetch_add(&counts[THREADS], 1);
    if (b->stack == NULL && gen_chance(&m->gen, 40)) {
        (void)pthread_detach(b->thread);
        b->used = false;
        bazaar_nap(300);
    } else {
        b->target = target_add(b->thread);
    }
    thing_check(m, held);
}

static void *blow_threads(void *unused) {
    (void)unused;
    struct thing_maker m;
    static struct brief briefs[12];
    bazaar_begin(&m);
    while (!bazaar.over) {
        struct brief *b = &briefs[gen_below(&m.gen, 12)];
        brief_join(b);
        brief_start(b, &m);
    }
    for (size_t i = 0; i < 12; i++) {
        brief_join(&briefs[i]);
    }
    bazaar_finish(&m);
    return NULL;
}

// --- Cancelled threads -------------------------------------------------

static void *run_cancelled(void *data) {
    struct thing_maker m;
    struct thing_link own[BAZAAR_OWN] = {{NULL, 0}};
    int was;
    bazaar_begin(&m);
    bool computes = data != NULL;
    for (size_t i = 0; i < 50; i++) {
        bazaar_step(&m, own);
    }
    if (computes) {
        is_brittle = true;
        (void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &was);
        for (volatile unsigned turn = 0;; turn++) {
        }
    }
    for (;;) {
        bazaar_step(&m, own);
        pthread_testcancel();
    }
    return NULL;
}

static void *blow_cancel(void *unused) {
    (void)unused;
    struct gen gen;
    gen_init(&gen, gen_mix(bazaar.seed, 99));
    while (!bazaar.over) {
        pthread_t thread;
        bool computes = gen_chance(&gen, 50);
        if (pthread_create(&thread, NULL, run_cancelled,
                           computes ? &gen : NULL) != 0) {
            continue;
        }
        size_t target = target_add(thread);
        bazaar_nap((long)gen_below(&gen, 5000));
        (void)pthread_cancel(thread);
        target_remove(target);
        (void)pthread_join(thread, NULL);
        atomic_fetch_add(&counts[CANCEL], 1);
    }
    return NULL;
}

// --- Libraries ---------------------------------------------------------

typedef struct thing_link *hold_fn(void);

static hold_fn *find(void *library, const char *name) {
    void *symbol = dlsym(library, name);
    hold_fn *function;
    memcpy(&function, &symbol, sizeof function);
    return function;
}

static void *blow_loads(void *unused) {
    (void)unused;
    struct thing_maker m;
    bazaar_begin(&m);
    while (!bazaar.over) {
        void *library = dlopen(STORM_LOADED, RTLD_NOW | RTLD_LOCAL);
        if (library == NULL) {
            (void)fprintf(stderr, "storm: %s\n", dlerror());
            abort();
        }
        struct thing_link *mine = find(library, "storm_of_thread")();
        struct thing_link *all = find(library, "storm_of_process")();
        for (size_t i = 0; i < 4; i++) {
            mine[i] = thing_tree(&m, 3, bazaar_frozen(&m));
            all[i] = thing_tree(&m, 3, bazaar_frozen(&m));
        }
        for (size_t i = 0; i < 20; i++) {
            struct thing_link lost = thing_tree(&m, 4, mine[i % 4]);
            thing_check(&m, lost);
        }
        if (gen_chance(&m.gen, 30)) {
            (void)loam_collect();
        }
        for (size_t i = 0; i < 4; i++) {
            thing_check(&m, mine[i]);
            thing_check(&m, all[i]);
        }
        if (dlclose(library) != 0) {
            fail("dlclose");
        }
        atomic_fetch_add(&counts[LOADS], 1);
        atomic_fetch_add(&bazaar.progress, 1);
    }
    bazaar_finish(&m);
    return NULL;
}

// --- Forks -------------------------------------------------------------

static _Noreturn void run_child(struct thing_maker *m,
                                struct thing_link own[BAZAAR_OWN]) {
    struct thing_link none = {NULL, 0}; // a shelf may be locked for ever
    (void)alarm(CHILD_S);
    bazaar_check(m, own);
    for (size_t i = 0; i < 200; i++) {
        struct thing_link *at = &own[gen_below(&m->gen, BAZAAR_OWN)];
        thing_check(m, *at);
        *at = thing_tree(m, 4, none);
    }
    if (!loam_collect()) {
        _exit(3);
    }
    own[0] = thing_tree(m, 4, none);
    (void)loam_collect();
    bazaar_check(m, own);
    _exit(0);
}

static void *blow_forks(void *unused) {
    (void)unused;
    struct thing_maker m;
    struct thing_link own[BAZAAR_OWN] = {{NULL, 0}};
    bazaar_begin(&m);
    while (!bazaar.over) {
        for (size_t i = 0; i < 20; i++) {
            bazaar_step(&m, own);
        }
        pid_t child = fork();
        if (child == 0) {
            run_child(&m, own);
        }
        if (child < 0) {
            continue;
        }
        int how = 0;
        while (waitpid(child, &how, 0) < 0 && errno == EINTR) {
        }
        if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
            (void)fprintf(stderr, "storm: a child ended with %#x\n", how);
            abort();
        }
        atomic_fetch_add(&counts[FORKS], 1);
    }
    bazaar_check(&m, own);
    bazaar_finish(&m);
    return NULL;
}

// --- Others ------------------------------------------------------------

static void *blow_collect(void *unused) {
    (void)unused;
    while (!bazaar.over) {
        atomic_fetch_add(&counts[COLLECT], loam_collect());
    }
    return NULL;
}

static void *blow_stops(void *unused) {
    (void)unused;
    stopper_begin();
    while (!bazaar.over) {
        bazaar_nap(40000);
        atomic_fetch_add(&counts[STOPS], 1);
    }
    stopper_end();
    return NULL;
}

// --- The watchdog ------------------------------------------------------

static void *watch(void *unused) {
    (void)unused;
    unsigned last = bazaar.progress, silent = 0;
    while (!bazaar.over) {
        bazaar_nap(1000000);
        unsigned now = bazaar.progress;
        silent = now == last ? silent + 1 : 0;
        last = now;
        if (silent == SILENT_S) {
            (void)fprintf(stderr, "storm: nobody has made a step for %u s\n",
                          silent);
            watchdog_name();
            abort();
        }
    }
    return NULL;
}

// --- The storm ---------------------------------------------------------

static void *(*const blow[KINDS])(void *) = {
    blow_threads, blow_collect, blow_signals, blow_loads,
    blow_forks,   blow_cancel,  blow_stops,
};

static pthread_t start(void *(*run)(void *), const char *name) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) {
        fail("pthread_create");
    }
    (void)pthread_setname_np(thread, name);
    return thread;
}

static void run_storm(unsigned kinds, double seconds) {
    struct worker workers[WORKERS];
    pthread_t blowers[KINDS], watcher;
    bazaar.over = false;
    struct loam_stats before, after;
    loam_stats(&before, sizeof before);
    for (size_t i = 0; i < WORKERS; i++) {
        worker_start(&workers[i], i % 2 != 0);
    }
    for (size_t i = 0; i < KINDS; i++) {
        counts[i] = 0;
        if (kinds >> i & 1) {
            blowers[i] = start(blow[i], kind_names[i]);
            printf("%s ", kind_names[i]);
        }
    }
    watcher = start(watch, "watchdog");
    bazaar_nap((long)(seconds * 1e6));
    bazaar.over = true;
    for (size_t i = 0; i < WORKERS; i++) {
        worker_join(&workers[i]);
    }
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds >> i & 1) {
            (void)pthread_join(blowers[i], NULL);
            printf("%lu ", counts[i]);
        }
    }
    (void)pthread_join(watcher, NULL);
    loam_stats(&after, sizeof after);
    printf("in %.1f s: %llu collections, %llu failed, stop %llu us on "
           "average, %llu at most; %u steps, %lu checked, %lu refused, %lu "
           "freed\n",
           seconds,
           (unsigned long long)(after.collections - before.collections),
           (unsigned long long)(after.collections_failed -
                                before.collections_failed),
           (unsigned long long)((after.stop_ns_total - before.stop_ns_total) /
                                (after.collections - before.collections + 1) /
                                1000),
           (unsigned long long)after.stop_ns_max / 1000, bazaar.progress,
           bazaar.checked, bazaar.refused, bazaar.freed);
    fflush(stdout);
}

static unsigned kinds_of(char *list) {
    unsigned kinds = 0;
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
        for (size_t i = 0; i < KINDS; i++) {
            kinds |= strcmp(word, kind_names[i]) == 0 ? 1u << i : 0;
        }
    }
    return kinds;
}

int main(int argc, char **argv) {
    unsigned kinds = 0;
    double seconds = 20;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--kinds") == 0) {
            kinds = kinds_of(argv[i + 1]);
        } else if (strcmp(argv[i], "--seconds") == 0) {
            seconds = strtod(argv[i + 1], NULL);
        }
    }
    (void)setenv("LOAM_CHECK", "mark,verify", 0);
    bazaar_init(gen_seed("storm"));
    if (!stopper_start()) {
        fail("fork");
    }
    handle_signals();
    if (kinds != 0) {
        run_storm(kinds, seconds);
    } else {
        for (size_t i = 0; i < KINDS; i++) {
            run_storm(1u << i, seconds * 0.7 / KINDS);
        }
        run_storm((1u << KINDS) - 1, seconds * 0.3);
    }
    stopper_kill();
    return 0;
}
