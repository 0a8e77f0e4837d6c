#ifndef _GNU_SOURCE
#define _GNU_SOURCE // syscall
#endif

#include "os/thread.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/kernel.h"

uint32_t thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

uint32_t thread_process_id(void) {
    // By the kernel: some libraries remember the answer across a raw fork.
    return (uint32_t)syscall(SYS_getpid);
}

void thread_find_cpus(struct thread_cpus *cpus) {
    *cpus = (struct thread_cpus){{0}};
    (void)kernel_call(SYS_sched_getaffinity, 0, sizeof *cpus,
                      (uintptr_t)cpus->bits, 0);
}

unsigned thread_cpu(void) {
    // Not the library's: it may look into thread-local storage.
    unsigned cpu = 0;
    (void)kernel_call(SYS_getcpu, (uintptr_t)&cpu, 0, 0, 0);
    return cpu;
}

// --- The end of a thread ---------------------------------------------------

static pthread_key_t thread_parting; // one more than the key; 0: none

bool thread_at_exit(void (*parting)(void *value)) {
    pthread_key_t key; // errors are returned: errno is kept (T3)
    if (pthread_key_create(&key, parting) != 0) {
        return false;
    }
    thread_parting = key + 1;
    return true;
}

// The library has room for so many values in a thread's block.
#define THREAD_KEYS_INLINE 32u

bool thread_arms_freely(void) {
    return thread_parting <= THREAD_KEYS_INLINE;
}

bool thread_exit_arm(void *value) {
    return thread_parting != 0 &&
           pthread_setspecific(thread_parting - 1, value) == 0; // T2
}
