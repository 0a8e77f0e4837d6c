// Programs that leak, each under a name that is the first argument.  A line
//
//   // NAME: BYTES in OBJECTS, INDIRECT of them FUNCTION...
//
// says what is lost, how many of the objects other lost ones lead to, and which
// functions a report has to name.  tests/leaks/test_leaks.py asks
// LeakSanitizer and Loam.

#include "leaky.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAKY_ITEMS 10

void *volatile leaky_held[8];
static __thread void *volatile leaky_own; // the thread's own

struct leaky_node {
    struct leaky_node *next;
    char rest[40];
};

// --- What leads to what ----------------------------------------------------

// direct: 1000 in 10, 0 lose_direct
static LEAKY_ALONE void lose_direct(void) {
    for (int i = 0; i < LEAKY_ITEMS; i++) {
        leaky_held[0] = memset(leaky_hide(malloc(100)), 1, 100);
    }
    leaky_held[0] = NULL;
}

static LEAKY_ALONE struct leaky_node *lose_list(struct leaky_node *end) {
    struct leaky_node *list = end;
    for (int i = 0; i < LEAKY_ITEMS; i++) {
        struct leaky_node *node = leaky_hide(malloc(sizeof *node));
        node->next = list;
        list = node;
    }
    return list;
}

// indirect: 480 in 10, 9 lose_list
static LEAKY_ALONE void lose_indirect(void) {
    leaky_held[0] = lose_list(NULL);
    leaky_held[0] = NULL;
}

// cycle: 528 in 11, 11 lose_cycle lose_list
static LEAKY_ALONE void lose_cycle(void) {
    struct leaky_node *end = leaky_hide(malloc(sizeof *end));
    end->next = lose_list(end);
    end = leaky_hide(NULL);
}

// itself: 48 in 1, 0 lose_itself
static LEAKY_ALONE void lose_itself(void) {
    struct leaky_node *node = leaky_hide(malloc(sizeof *node));
    node->next = node;
}

// shared: 240 in 4, 2 lose_shared
static LEAKY_ALONE void lose_shared(void) {
    void **one = leaky_hide(malloc(48));
    void **two = leaky_hide(malloc(48));
    void **both = leaky_hide(calloc(1, 96));
    one[0] = two[0] = both;
    both[1] = leaky_hide(malloc(48));
}

// half: 384 in 8, 7 lose_list
static LEAKY_ALONE void lose_half(void) {
    struct leaky_node *list = lose_list(NULL);
    leaky_held[0] = list->next->next == NULL ? NULL : list->next;
    struct leaky_node *kept = leaky_held[0];
    for (struct leaky_node *at = kept; at != NULL; at = at->next) {
        if (at->next != NULL && at->next->next == NULL) {
            leaky_held[1] = at->next; // the last, of ten
        }
    }
    leaky_held[0] = list; // the first
    list->next = NULL;
}

// kept: 0 in 0, 0
static LEAKY_ALONE void lose_kept(void) {
    leaky_held[0] = lose_list(NULL);
    leaky_held[1] = leaky_hide(malloc(12));
}

// interior: 0 in 0, 0
static LEAKY_ALONE void lose_interior(void) {
    leaky_held[0] = (char *)leaky_hide(malloc(500)) + 300;
    leaky_held[1] = (char *)leaky_hide(malloc(500)) + 499;
    leaky_held[2] = (char *)leaky_hide(malloc(500000)) + 300001;
}

// hidden: 64 in 1, 0 lose_hidden
static LEAKY_ALONE void lose_hidden(void) {
    leaky_held[0] = (void *)~(uintptr_t)leaky_hide(malloc(64));
}

// unaligned: 64 in 1, 0 lose_unaligned
static LEAKY_ALONE void lose_unaligned(void) {
    void *p = leaky_hide(malloc(64));
    memcpy((char *)&leaky_held[0] + 3, &p, sizeof p);
    p = leaky_hide(NULL);
}

// --- Who makes it ----------------------------------------------------------

// sizes: 3000200 in 4, 0 lose_sizes
static LEAKY_ALONE void lose_sizes(void) {
    (void)leaky_hide(malloc(1));
    (void)leaky_hide(calloc(13, 15));
    (void)leaky_hide(malloc(3));
    (void)leaky_hide(malloc(3000001));
}

// nothing: 1 in 1, 0 lose_nothing
static LEAKY_ALONE void lose_nothing(void) {
    (void)leaky_hide(malloc(0));
}

// grown: 9000 in 1, 0 lose_grown
static LEAKY_ALONE void lose_grown(void) {
    void *p = leaky_hide(malloc(10));
    leaky_held[0] = leaky_hide(realloc(p, 9000));
    p = leaky_hide(NULL);
    leaky_held[0] = NULL;
}

// shrunk: 20 in 1, 0 lose_shrunk
static LEAKY_ALONE void lose_shrunk(void) {
    void *p = leaky_hide(malloc(70000));
    leaky_held[0] = leaky_hide(realloc(p, 20));
    p = leaky_hide(NULL);
    leaky_held[0] = NULL;
}

// aligned: 4620 in 5, 0 lose_aligned
static LEAKY_ALONE void lose_aligned(void) {
    void *p = NULL;
    (void)leaky_hide(aligned_alloc(64, 192));
    (void)leaky_hide(aligned_alloc(4096, 4096));
    (void)!posix_memalign(&p, 256, 100);
    (void)leaky_hide(p);
    p = leaky_hide(NULL);
    (void)leaky_hide(reallocarray(NULL, 11, 12));
    (void)leaky_hide(reallocarray(NULL, 10, 10));
}

// library: 66 in 3, 0 lose_library
static LEAKY_ALONE void lose_library(void) {
    char *text = NULL;
    leaky_held[0] = leaky_hide(strdup("nineteen characters"));
    leaky_held[0] = leaky_hide(strndup("what of this is kept", 4));
    (void)!asprintf(&text, "%d and %s", 12345678,
                    "thirty words less one thing");
    (void)leaky_hide(text);
    text = leaky_hide(NULL);
    leaky_held[0] = NULL;
}

static LEAKY_ALONE void lose_deeper(int depth) {
    if (depth == 0) {
        (void)leaky_hide(malloc(128));
        return;
    }
    lose_deeper(depth - 1);
    __asm__ volatile("" : : : "memory");
}

// deep: 128 in 1, 0 lose_deeper
static LEAKY_ALONE void lose_deep(void) {
    lose_deeper(15);
}

// many: 320000 in 10000, 0 lose_many
static LEAKY_ALONE void lose_many(void) {
    for (int i = 0; i < 10000; i++) {
        (void)leaky_hide(malloc(32));
    }
}

// --- Threads ---------------------------------------------------------------

static pthread_barrier_t leaky_ready;

static void *lose_in_thread(void *data) {
    (void)data;
    leaky_own = leaky_hide(malloc(200));
    (void)leaky_hide(malloc(100));
    return NULL;
}

// thread: 300 in 2, 0 lose_in_thread
static LEAKY_ALONE void lose_thread(void) {
    pthread_t thread;
    (void)pthread_create(&thread, NULL, lose_in_thread, NULL);
    (void)pthread_join(thread, NULL);
}

static void *lose_wait(void *data) {
    void *volatile here = leaky_hide(malloc(300));
    leaky_own = leaky_hide(malloc(400));
    (void)data;
    (void)pthread_barrier_wait(&leaky_ready);
    for (;;) {
        (void)pause();
        (void)leaky_hide(here);
    }
    return NULL;
}

// waiting: 0 in 0, 0
static LEAKY_ALONE void lose_waiting(void) {
    pthread_t thread;
    (void)pthread_barrier_init(&leaky_ready, NULL, 2);
    (void)pthread_create(&thread, NULL, lose_wait, NULL);
    (void)pthread_barrier_wait(&leaky_ready);
}

static void *lose_spin(void *data) {
    (void)data;
    void *p = leaky_hide(malloc(300));
#if defined(__x86_64__)
    int *told = (int *)&leaky_held[0];
    __asm__ volatile("mov %0, %%r15\n\t"
                     "xor %0, %0\n\t"
                     "movl $1, (%1)\n"
                     "1: pause\n\t"
                     "jmp 1b"
                     : "+&a"(p)
                     : "b"(told)
                     : "r15", "memory");
#else
    *(volatile int *)&leaky_held[0] = 1;
    for (;;) {
        p = leaky_hide(p);
    }
#endif
    return p;
}

// register: 0 in 0, 0
static LEAKY_ALONE void lose_register(void) {
    pthread_t thread;
    (void)pthread_create(&thread, NULL, lose_spin, NULL);
    while (*(volatile int *)&leaky_held[0] == 0) {
        (void)usleep(1000);
    }
}

static pthread_key_t leaky_keys[100];

static void *lose_keys_thread(void *data) {
    (void)pthread_setspecific(leaky_keys[1], leaky_hide(malloc(50)));
    (void)pthread_setspecific(leaky_keys[99], leaky_hide(malloc(60)));
    return data;
}

// keys: 110 in 2, 0 lose_keys_thread
static LEAKY_ALONE void lose_keys(void) {
    pthread_t thread;
    for (int i = 0; i < 100; i++) {
        (void)pthread_key_create(&leaky_keys[i], NULL);
        (void)pthread_setspecific(leaky_keys[i], leaky_hide(malloc(70)));
    }
    (void)pthread_create(&thread, NULL, lose_keys_thread, NULL);
    (void)pthread_join(thread, NULL);
}

// own: 0 in 0, 0
static LEAKY_ALONE void lose_own(void) {
    leaky_own = leaky_hide(malloc(90));
}

// --- Places ----------------------------------------------------------------

// mapped: 80 in 1, 0 lose_mapped
static LEAKY_ALONE void lose_mapped(void) {
    void **page = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[7] = leaky_hide(malloc(80));
    leaky_held[0] = page;
}

// system: 0 in 0, 0
static LEAKY_ALONE void lose_system(void) {
    (void)setenv("LEAKY_ONE", "a value that is long enough to be copied", 1);
    char *two = leaky_hide(strdup("LEAKY_TWO=2"));
    (void)putenv(two);
    two = leaky_hide(NULL);
    (void)leaky_hide(fopen("/dev/null", "w")); // is in the list of streams
    (void)setvbuf(stdout, NULL, _IOFBF, 0);
    (void)printf("%d\n", 1);
}

// folder: some in 1, 0 lose_folder
static LEAKY_ALONE void lose_folder(void) {
    (void)leaky_hide(opendir("/"));
}

// loaded: 210 in 3, 0 lose_loaded_by
static LEAKY_ALONE void lose_loaded(void) {
    void *library = dlopen(getenv("LEAKY_LIBRARY"), RTLD_NOW);
    void (*keep)(int) = (void (*)(int))(uintptr_t)dlsym(library, "leaky_keep");
    keep(3); // three lost, and one in a variable of the library
}

// unloaded: 280 in 4, 0
static LEAKY_ALONE void lose_unloaded(void) {
    void *library = dlopen(getenv("LEAKY_LIBRARY"), RTLD_NOW);
    void (*keep)(int) = (void (*)(int))(uintptr_t)dlsym(library, "leaky_keep");
    keep(3);
    (void)dlclose(library);
    keep = (void (*)(int))(uintptr_t)leaky_hide(NULL);
}

// atexit: 0 in 0, 0
static void lose_at_exit(void) {
    free(leaky_held[0]);
    leaky_held[0] = NULL;
}

static LEAKY_ALONE void lose_late(void) {
    leaky_held[0] = leaky_hide(malloc(55));
    (void)atexit(lose_at_exit);
}

// --- Ends ------------------------------------------------------------------

// child: 1000 in 10, 0 lose_direct
static LEAKY_ALONE void lose_child(void) {
    int status = 0;
    if (fork() == 0) {
        lose_direct();
        return;
    }
    (void)wait(&status);
    _exit(WEXITSTATUS(status));
}

// abrupt: 0 in 0, 0
static LEAKY_ALONE void lose_abrupt(void) {
    lose_direct();
    _exit(0);
}

// became: 0 in 0, 0
static LEAKY_ALONE void lose_became(void) {
    lose_direct();
    (void)execl("/bin/true", "true", (char *)NULL);
}

// failed: 1000 in 10, 0 lose_direct
static LEAKY_ALONE void lose_failed(void) {
    lose_direct();
    exit(3);
}

// main_stack: 0 in 0, 0
static LEAKY_ALONE void lose_main_stack(void) {
    void *volatile here = leaky_hide(malloc(66));
    exit(leaky_hide(here) == NULL);
}

static LEAKY_ALONE void leaky_clean(void);

// until_read: 1000 in 10, 0 lose_direct
static LEAKY_ALONE void lose_until_read(void) {
    char byte;
    lose_direct();
    leaky_clean();
    (void)!write(STDOUT_FILENO, "\n", 1);
    (void)!read(STDIN_FILENO, &byte, 1);
}

// no_children: 1000 in 10, 0 lose_direct
static LEAKY_ALONE void lose_no_children(void) {
    (void)signal(SIGCHLD, SIG_IGN); // they end without a trace
    lose_direct();
}

// A server that answers, remembers the last thousand requests by a table, and
// forgets to free what it read of each: 300 MB in all.  What it remembers it
// checks.
struct leaky_request {
    struct leaky_request *next; // of the same slot
    char *text;
    int number;
};

static struct leaky_request *leaky_table[1000];

static LEAKY_ALONE void lose_request(int number) {
    struct leaky_request **slot = &leaky_table[number % 1000];
    char *body = leaky_hide(malloc(900)); // is forgotten
    memset(body, number, 900);
    if (*slot != NULL && ((*slot)->number != number - 1000 ||
                          strtol((*slot)->text, NULL, 10) != number - 1000)) {
        abort();
    }
    if (*slot != NULL) {
        free((*slot)->text);
        free(*slot);
    }
    *slot = leaky_hide(malloc(sizeof **slot));
    (*slot)->next = NULL;
    (*slot)->number = number;
    (*slot)->text = leaky_hide(malloc(24));
    (void)snprintf((*slot)->text, 24, "%d", number);
}

static LEAKY_ALONE void lose_server(void) {
    struct rusage used;
    for (int i = 0; i < 330000; i++) {
        lose_request(i);
    }
    (void)getrusage(RUSAGE_SELF, &used);
    (void)printf("%ld\n", used.ru_maxrss);
    (void)fflush(stdout);
    _exit(0);
}

static const struct leaky_case leaky_cases[] = {
    {"server", lose_server},
    {"until_read", lose_until_read},
    {"no_children", lose_no_children},
    {"direct", lose_direct},
    {"indirect", lose_indirect},
    {"cycle", lose_cycle},
    {"itself", lose_itself},
    {"shared", lose_shared},
    {"half", lose_half},
    {"kept", lose_kept},
    {"interior", lose_interior},
    {"hidden", lose_hidden},
    {"unaligned", lose_unaligned},
    {"sizes", lose_sizes},
    {"nothing", lose_nothing},
    {"grown", lose_grown},
    {"shrunk", lose_shrunk},
    {"aligned", lose_aligned},
    {"library", lose_library},
    {"deep", lose_deep},
    {"many", lose_many},
    {"thread", lose_thread},
    {"waiting", lose_waiting},
    {"register", lose_register},
    {"keys", lose_keys},
    {"own", lose_own},
    {"mapped", lose_mapped},
    {"system", lose_system},
    {"folder", lose_folder},
    {"loaded", lose_loaded},
    {"unloaded", lose_unloaded},
    {"atexit", lose_late},
    {"child", lose_child},
    {"abrupt", lose_abrupt},
    {"became", lose_became},
    {"failed", lose_failed},
    {"main_stack", lose_main_stack},
    {NULL, NULL},
};

// --- The program -----------------------------------------------------------

// Overwrites what is left of the frames of the case.
static LEAKY_ALONE void leaky_clean(void) {
    char over[64000];
    memset(over, 0, sizeof over);
    (void)leaky_hide(over);
}

static bool leaky_run(const struct leaky_case *cases, const char *name) {
    for (; cases->name != NULL; cases++) {
        if (strcmp(cases->name, name) == 0) {
            cases->run();
            return true;
        }
    }
    return false;
}

int main(int count, char **words) {
    bool found = count == 2 && (leaky_run(leaky_cases, words[1]) ||
                                leaky_run(leaky_more, words[1]) ||
                                leaky_run(asked_cases, words[1]));
    leaky_clean();
    return found ? 0 : 99;
}
