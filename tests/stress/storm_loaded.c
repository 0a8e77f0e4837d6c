// A library that is loaded and unloaded again and again: its variables hold the
// only references to some things.

struct thing;

struct hold {
    struct thing *to;
    unsigned long id;
};

static _Thread_local struct hold of_thread[4];
static struct hold of_process[4];

struct hold *storm_of_thread(void);
struct hold *storm_of_process(void);

struct hold *storm_of_thread(void) {
    return of_thread;
}

struct hold *storm_of_process(void) {
    return of_process;
}
