#include "support/step.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define STEP_NOT 1
#endif
#endif
#else
#define STEP_NOT 1
#endif

#ifdef STEP_NOT

void step_end(void) {
}

bool step_run(void (*body)(void *), step_between *between, void *data) {
    (void)body;
    (void)between;
    (void)data;
    return false;
}

#else

#define STEP_TRAP_FLAG 0x100

static volatile sig_atomic_t step_on;
static size_t step_count;
static step_between *step_call;
static void *step_data;

static void step_trapped(int number, siginfo_t *info, void *context) {
    (void)number;
    (void)info;
    ucontext_t *interrupted = context;
    if (!step_on) {
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)STEP_TRAP_FLAG;
        return;
    }
    int saved = errno;
    step_call(++step_count, step_data); // P1
    errno = saved;                      // P2
    if (!step_on) {
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)STEP_TRAP_FLAG;
    }
}

void step_end(void) {
    step_on = 0;
}

bool step_run(void (*body)(void *), step_between *between, void *data) {
    struct sigaction action = {.sa_sigaction = step_trapped,
                               .sa_flags = SA_SIGINFO};
    struct sigaction before;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGTRAP, &action, &before) != 0) {
        perror("sigaction");
        abort();
    }
    step_count = 0;
    step_call = between;
    step_data = data;
    step_on = 1;
    // Sets the flag, away from the red zone.
    __asm__ volatile("leaq -128(%%rsp), %%rsp\n pushfq\n"
                     "orq $0x100, (%%rsp)\n popfq\n"
                     "leaq 128(%%rsp), %%rsp\n"
                     :
                     :
                     : "memory", "cc");
    body(data);
    step_on = 0;
    __asm__ volatile("nop" ::
                         : "memory"); // the handler takes the flag away here
    sigaction(SIGTRAP, &before, NULL);
    return true;
}

#endif

static void step_body(void *data) {
    struct step_forks *forks = data;
    forks->body(forks->data);
}

static void step_child(size_t instructions, void *data) {
    struct step_forks *forks = data;
    if (instructions % forks->every != 0) {
        return;
    }
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        _exit(forks->lives(instructions, forks->data) ? 0 : 1);
    }
    int status = 1;
    forks->failed +=
        child < 0 || waitpid(child, &status, 0) != child || status != 0;
    forks->children++;
}

bool step_fork(struct step_forks *forks) {
    forks->children = forks->failed = 0;
    return step_run(step_body, step_child, forks);
}
