// program — whole programs, as they are installed, with another malloc.
//
// --variant names one of programs.sh, --size how much it does.  What it reads
// is made first, with the C library's malloc and outside of the clock.  Time,
// peak memory and faults are those of the program and of all processes that it
// makes and waits for; the sum is that of its output.

#include "measure.h"

#include <sys/wait.h>

extern char **environ;

// A child that runs `sh programs.sh what variant size` in the folder, its
// output on `out`.
static pid_t program_begin(const struct measure *run, const char *folder,
                           const char *what, int out) {
    char size[32];
    snprintf(size, sizeof size, "%zu", run->size);
    pid_t child = fork();
    if (child != 0) {
        return child;
    }
    if (strcmp(what, "prepare") == 0) {
        unsetenv("LD_PRELOAD");
    }
    if (chdir(folder) == 0 && dup2(out, 1) == 1) {
        execl("/bin/sh", "sh", PROGRAMS, what, run->variant, size,
              (char *)NULL);
    }
    _exit(127);
}

static void program_end(pid_t child, struct rusage *used) {
    int status = 0;
    if (child < 0 || wait4(child, &status, 0, used) != child || status != 0) {
        fprintf(stderr, "the program failed, status %d\n", status);
        exit(1);
    }
}

static void program_remove(const char *folder) {
    pid_t child = fork();
    if (child == 0) {
        unsetenv("LD_PRELOAD");
        execl("/bin/rm", "rm", "-rf", folder, (char *)NULL);
        _exit(127);
    }
    struct rusage used;
    program_end(child, &used);
}

static uint64_t program_read(int in) {
    static unsigned char buffer[1 << 16];
    uint64_t sum = 0xcbf29ce484222325u;
    ssize_t count;
    while ((count = read(in, buffer, sizeof buffer)) > 0) {
        for (ssize_t at = 0; at < count; at++) {
            sum = (sum ^ buffer[at]) * 0x100000001b3u;
        }
    }
    return sum;
}

static uint64_t program_ns(struct timeval time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_usec * 1000u;
}

int main(int argc, char **argv) {
    struct measure *run = measure_open(argc, argv);
    char folder[] = "/tmp/loam-compare-XXXXXX";
    struct rusage used;
    int pipes[2];
    if (mkdtemp(folder) == NULL || pipe(pipes) != 0) {
        return 1;
    }
    program_end(program_begin(run, folder, "prepare", 1), &used);
    measure_start(run);
    pid_t child = program_begin(run, folder, "run", pipes[1]);
    close(pipes[1]);
    uint64_t sum = program_read(pipes[0]);
    program_end(child, &used);
    measure_take_times(run);
    run->cpu_ns = program_ns(used.ru_utime) + program_ns(used.ru_stime);
    run->faults = (uint64_t)used.ru_minflt;
    run->peak_rss_kb = (uint64_t)used.ru_maxrss;
    measure_print_sum(run, sum);
    program_remove(folder);
    return 0;
}
