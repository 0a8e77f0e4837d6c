// Beside another collector: Debian's libgc stops threads of its own by signals,
// in the same process, while Loam collects.  A thread that libgc made holds
// objects of both; each collector must find its own, and neither may hang.
//
// libgc is loaded when the test runs; where there is none the test is skipped.
//
// long: --seconds 600

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "loam.h"
#include "support/bazaar.h"
#include "support/gen.h"
#include "support/thing.h"

#define THREADS 3

static struct {
    void (*init)(void);
    void *(*malloc)(size_t bytes);
    void (*collect)(void);
    int (*create)(pthread_t *thread, const pthread_attr_t *attributes,
                  void *(*run)(void *), void *data);
    int (*join)(pthread_t thread, void **result);
} gc;

static bool find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool load(void) {
    void *library = dlopen("libgc.so.1", RTLD_NOW | RTLD_GLOBAL);
    return library != NULL && find(library, "GC_init", &gc.init) &&
           find(library, "GC_malloc", &gc.malloc) &&
           find(library, "GC_gcollect", &gc.collect) &&
           find(library, "GC_pthread_create", &gc.create) &&
           find(library, "GC_pthread_join", &gc.join);
}

static atomic_ulong theirs; // objects of libgc that were checked

// A list of libgc's, held by this frame alone.
struct node {
    struct node *next;
    uint64_t number;
};

static void check_list(const struct node *list, uint64_t number) {
    for (; list != NULL; list = list->next) {
        if (list->number != number--) {
            (void)fprintf(stderr, "storm: libgc lost an object\n");
            abort();
        }
        atomic_fetch_add(&theirs, 1);
    }
}

static void *run(void *unused) {
    (void)unused;
    struct thing_maker m;
    struct thing_link own[BAZAAR_OWN] = {{NULL, 0}};
    struct node *list = NULL;
    uint64_t number = 0;
    bazaar_begin(&m);
    while (!bazaar.over) {
        bazaar_step(&m, own);
        struct node *node = gc.malloc(sizeof *node);
        if (node == NULL) {
            abort();
        }
        node->next = list;
        node->number = ++number;
        list = node;
        if (number % 500 == 0) {
            check_list(list, number);
            list = NULL;
            number = 0;
        }
        if (gen_chance(&m.gen, 1)) {
            gc.collect();
        }
    }
    check_list(list, number);
    bazaar_check(&m, own);
    bazaar_finish(&m);
    return NULL;
}

static double seconds_now(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 3;
    if (!load()) {
        printf("there is no libgc: skipped\n");
        return 77;
    }
    (void)setenv("LOAM_CHECK", "mark,verify", 0);
    // On a busy machine libgc otherwise ends the process when a thread that
    // Loam has stopped does not hear it soon enough.
    (void)setenv("GC_RETRY_SIGNALS", "0", 0);
    bazaar_init(gen_seed("storm beside libgc"));
    gc.init();
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        if (gc.create(&threads[i], NULL, run, NULL) != 0) {
            abort();
        }
    }
    (void)alarm((unsigned)seconds + 120); // a hang
    double end = seconds_now() + seconds;
    for (size_t turn = 0; turn < 30 || seconds_now() < end; turn++) {
        bazaar_nap(10000);
        (void)loam_collect();
    }
    bazaar.over = true;
    for (size_t i = 0; i < THREADS; i++) {
        (void)gc.join(threads[i], NULL);
    }
    struct loam_stats stats;
    loam_stats(&stats, sizeof stats);
    printf("%llu collections, %llu failed; %u steps, %lu checked, %lu of "
           "libgc's\n",
           (unsigned long long)stats.collections,
           (unsigned long long)stats.collections_failed, bazaar.progress,
           bazaar.checked, theirs);
    return 0;
}
