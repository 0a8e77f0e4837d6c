#include "support/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *child_program; // argv[0]: what to start again

static void child_require(bool held, const char *what) {
    if (!held) {
        perror(what);
        abort();
    }
}

// Reads to the end, whatever the buffer holds: a child must not block.
static void child_listen(struct child *c, int from) {
    char spare[512];
    c->count = 0;
    for (;;) {
        size_t room = sizeof c->text - 1 - c->count;
        ssize_t n = room ? read(from, c->text + c->count, room)
                         : read(from, spare, sizeof spare);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        c->count += room ? (size_t)n : 0;
    }
    c->text[c->count] = '\0';
}

static void child_wait(struct child *c, pid_t id) {
    int how = 0;
    while (waitpid(id, &how, 0) < 0) {
        child_require(errno == EINTR, "waitpid");
    }
    c->status = WIFEXITED(how) ? WEXITSTATUS(how) : -1;
    c->signal = WIFSIGNALED(how) ? WTERMSIG(how) : 0;
}

// Forks; in the child standard error is the pipe.  0 in the child.
static pid_t child_begin(int ends[2]) {
    child_require(pipe(ends) == 0, "pipe");
    fflush(NULL);
    pid_t id = fork();
    child_require(id >= 0, "fork");
    if (id == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
    }
    close(ends[1]);
    return id;
}

void child_fork(struct child *c, int (*body)(void *data), void *data) {
    int ends[2];
    pid_t id = child_begin(ends);
    if (id == 0) {
        int status = body(data);
        fflush(NULL);
        _exit(status);
    }
    child_listen(c, ends[0]);
    close(ends[0]);
    child_wait(c, id);
}

static void child_set(const char *setting) {
    char name[64];
    const char *equals = strchr(setting, '=');
    size_t length = equals ? (size_t)(equals - setting) : strlen(setting);
    child_require(length < sizeof name, "a setting's name");
    memcpy(name, setting, length);
    name[length] = '\0';
    if (equals) {
        setenv(name, equals + 1, 1);
    } else {
        unsetenv(name);
    }
}

void child_exec(struct child *c, const char *mode,
                const char *const *settings) {
    int ends[2];
    pid_t id = child_begin(ends);
    if (id == 0) {
        for (; *settings; settings++) {
            child_set(*settings);
        }
        execl(child_program, child_program, "--child", mode, (char *)NULL);
        _exit(127);
    }
    child_listen(c, ends[0]);
    close(ends[0]);
    child_wait(c, id);
}

bool child_passes(const char *mode, const char *const *settings) {
    static struct child child;
    child_exec(&child, mode, settings);
    if (child.status != 0) {
        child_show(&child);
    }
    return child.status == 0;
}

const char *child_mode(int argc, char **argv) {
    child_program = argv[0];
    return argc == 3 && strcmp(argv[1], "--child") == 0 ? argv[2] : NULL;
}

bool child_says(const struct child *c, const char *part) {
    return strstr(c->text, part) != NULL;
}

void child_show(const struct child *c) {
    printf("child: status %d signal %d, said:\n%s\n", c->status, c->signal,
           c->text);
}
