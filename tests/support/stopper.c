#include "support/stopper.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/bazaar.h"

// It stops by itself when it is not wanted: if we stopped it, it might just
// have stopped us, and nobody would continue either.
static pid_t stopper;
static atomic_bool *stopper_wanted; // shared with it

static _Noreturn void stopper_run(pid_t whom) {
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == whom) {
        if (!atomic_load(stopper_wanted)) {
            (void)raise(SIGSTOP);
            continue;
        }
        bazaar_nap(30000);
        (void)kill(whom, SIGSTOP);
        bazaar_nap(10000);
        (void)kill(whom, SIGCONT);
    }
    _exit(0);
}

bool stopper_start(void) {
    void *shared = mmap(NULL, sizeof *stopper_wanted, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return false;
    }
    stopper_wanted = shared;
    pid_t us = getpid();
    stopper = fork();
    if (stopper == 0) {
        stopper_run(us);
    }
    return stopper > 0 && waitpid(stopper, NULL, WUNTRACED) == stopper;
}

void stopper_begin(void) {
    atomic_store(stopper_wanted, true);
    (void)kill(stopper, SIGCONT);
}

void stopper_end(void) {
    atomic_store(stopper_wanted, false);
    (void)waitpid(stopper, NULL, WUNTRACED);
}

void stopper_kill(void) {
    (void)kill(stopper, SIGKILL);
}
