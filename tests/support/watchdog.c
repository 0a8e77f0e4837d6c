#include "support/watchdog.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// A line of /proc/self/task/ID/NAME.
static void watchdog_print(const char *id, const char *name) {
    char path[300];
    char text[200];
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/%s", id, name);
    int file = open(path, O_RDONLY);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    (void)fprintf(stderr, "  %s", strtok(text, "\n") == NULL ? "?" : text);
    if (file >= 0) {
        (void)close(file);
    }
}

void watchdog_name(void) {
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        if (isdigit((unsigned char)task->d_name[0])) {
            (void)fprintf(stderr, "storm: thread %s", task->d_name);
            watchdog_print(task->d_name, "comm");
            watchdog_print(task->d_name, "wchan");
            watchdog_print(task->d_name, "syscall");
            (void)fputc('\n', stderr);
        }
    }
}
