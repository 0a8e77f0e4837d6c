#ifndef _GNU_SOURCE
#define _GNU_SOURCE // stat
#endif

#include "os/task.h"

#include "os/error.h"
#include "os/file.h"

#include <string.h>
#include <sys/stat.h>

#define TASK_FOLDER "/proc/self/task"

#define TASK_PATH_BYTES   64u
#define TASK_STATUS_BYTES 2048u      // "status" is about 1 500
#define TASK_IO_WORKER    0x00000010 // flags in "stat": PF_IO_WORKER,
#define TASK_KERNEL       0x00200000 // PF_KTHREAD

// --- Which tasks -----------------------------------------------------------

// The number that a string of digits stands for; 0 if it is none.
static uint32_t task_parse(const char *name) {
    uint32_t number = 0;
    for (; *name >= '0' && *name <= '9'; name++) {
        number = number * 10 + (uint32_t)(*name - '0');
    }
    return *name == '\0' ? number : 0;
}

bool task_each(task_visit *visit, void *data) {
    int folder = file_open(TASK_FOLDER);
    if (folder < 0) {
        return false;
    }
    _Alignas(struct file_entry) char buffer[4096];
    size_t got;
    bool more = true;
    while (more &&
           (got = file_next_entries(folder, buffer, sizeof buffer)) > 0) {
        for (size_t at = 0; more && at < got;) {
            const struct file_entry *entry = (const void *)(buffer + at);
            uint32_t task = task_parse(entry->name); // "." and "..": 0
            more = task == 0 || visit(task, data);   // TK2
            at += entry->bytes;
        }
    }
    file_close(folder);
    return true;
}

static bool task_tally(uint32_t task, void *data) {
    (void)task;
    (*(size_t *)data)++;
    return true;
}

size_t task_count(void) {
    int saved = error_save();
    // The kernel counts for us: the links of this folder are 2 and one a task.
    // Some emulations of /proc leave the links at 1 or 2.
    struct stat tasks;
    size_t count = 0;
    if (stat(TASK_FOLDER, &tasks) == 0) {
        if (tasks.st_nlink > 2) {
            count = (size_t)tasks.st_nlink - 2; // TK1
        } else {
            (void)task_each(task_tally, &count);
        }
    }
    error_restore(saved); // TK4
    return count;
}

// --- One task --------------------------------------------------------------

// "/proc/self/task/4711/status"
static void task_path(char *path, uint32_t task, const char *file) {
    char digits[12];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + task % 10);
        task /= 10;
    } while (task != 0);
    memcpy(path, TASK_FOLDER "/", sizeof TASK_FOLDER);
    char *end = path + sizeof TASK_FOLDER;
    while (count > 0) {
        *end++ = digits[--count];
    }
    *end++ = '/';
    memcpy(end, file, strlen(file) + 1);
}

static size_t task_read_file(uint32_t task, const char *file, char *buffer,
                             size_t capacity) {
    char path[TASK_PATH_BYTES];
    task_path(path, task, file);
    return file_read(path, buffer, capacity);
}

// What stands behind `key` at the start of a line; NULL if there is none.
static const char *task_find(const char *text, const char *key) {
    size_t length = strlen(key);
    while (text != NULL && strncmp(text, key, length) != 0) {
        text = strchr(text, '\n');
        text = text == NULL ? NULL : text + 1;
    }
    if (text == NULL) {
        return NULL;
    }
    text += length;
    while (*text == ' ' || *text == '\t') {
        text++;
    }
    return text;
}

// A hexadecimal number, "0x" before it or not; where it ends in *end.
static uint64_t task_hex(const char *text, const char **end) {
    if (text[0] == '0' && text[1] == 'x') {
        text += 2;
    }
    uint64_t number = 0;
    for (;; text++) {
        char digit = *text;
        if (digit >= '0' && digit <= '9') {
            number = number << 4 | (uint64_t)(digit - '0');
        } else if (digit >= 'a' && digit <= 'f') {
            number = number << 4 | (uint64_t)(digit - 'a' + 10);
        } else {
            *end = text;
            return number;
        }
    }
}

// Copies up to the end of the line.
static void task_copy_line(char *to, size_t capacity, const char *from) {
    size_t count = 0;
    while (count < capacity - 1 && from[count] != '\n' && from[count] != '\0') {
        to[count] = from[count];
        count++;
    }
    to[count] = '\0';
}

static uint64_t task_find_hex(const char *text, const char *key) {
    const char *found = task_find(text, key);
    return found == NULL ? 0 : task_hex(found, &found);
}

// The kernel's flags of a task: the ninth field of "stat", whose second is a
// name in parentheses that may hold anything.
static uint64_t task_flags(uint32_t task) {
    char text[512];
    if (task_read_file(task, "stat", text, sizeof text) == 0) {
        return 0;
    }
    const char *at = strrchr(text, ')');
    for (size_t field = 2; at != NULL && field < 9; field++) {
        at = strchr(at + 1, ' ');
    }
    uint64_t flags = 0;
    for (at = at == NULL ? "" : at + 1; *at >= '0' && *at <= '9'; at++) {
        flags = flags * 10 + (uint64_t)(*at - '0');
    }
    return flags;
}

// "running", "-1 0x7ffc.. 0x7f.." or "202 0x.. (six arguments) 0x<sp> 0x<pc>".
static void task_read_call(uint32_t task, struct task_status *status) {
    char text[256];
    if (task_read_file(task, "syscall", text, sizeof text) == 0 ||
        text[0] == 'r') {
        return;
    }
    const char *at = text;
    int number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (*at - '0');
    }
    size_t before = 6;
    if (*at == '-') { // it waits, but in no call: a page fault
        number = -1;
        before = 0;
    }
    status->system_call = number;
    uint64_t value = 0;
    for (size_t word = 0; word <= before && at != NULL; word++) {
        at = strchr(at, ' ');
        value = at == NULL ? 0 : task_hex(at + 1, &at);
    }
    status->stack_pointer = (uintptr_t)value;
}

bool task_read(uint32_t task, struct task_status *status) {
    memset(status, 0, sizeof *status); // TK3
    status->state = '?';
    status->system_call = -1;
    char text[TASK_STATUS_BYTES];
    if (task_read_file(task, "status", text, sizeof text) == 0) {
        return false;
    }
    const char *found = task_find(text, "Name:");
    if (found != NULL) {
        task_copy_line(status->name, sizeof status->name, found);
    }
    found = task_find(text, "State:");
    if (found != NULL) {
        status->state = *found;
    }
    found = task_find(text, "TracerPid:");
    status->is_traced = found != NULL && *found != '0';
    status->blocked = task_find_hex(text, "SigBlk:");
    status->pending = task_find_hex(text, "SigPnd:");
    status->is_worker =
        (task_flags(task) & (TASK_IO_WORKER | TASK_KERNEL)) != 0;
    task_read_call(task, status);
    if (task_read_file(task, "wchan", text, sizeof text) != 0 &&
        text[0] != '0') {
        task_copy_line(status->waits_in, sizeof status->waits_in, text);
    }
    return true;
}
