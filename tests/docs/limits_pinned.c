// From docs/limits.md: a pointer that is under way in a pipe.

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <loam.h>

struct job {
    char *name;
};

static int send_job(int fd) {
    // begin
    struct job *job = loam_alloc_pinned(sizeof *job); // and what it points to
    if (job == NULL || (job->name = loam_strdup("sort")) == NULL) {
        return 1;
    }
    if (write(fd, &job, sizeof job) != sizeof job) { // no other word holds it
        return 1;
    }
    // end
    return 0;
}

int main(void) {
    int ends[2];
    struct job *job;
    if (pipe(ends) != 0 || send_job(ends[1]) != 0) {
        return 1;
    }
    for (int i = 0; i < 3; i++) {
        if (!loam_collect()) {
            return 1;
        }
    }
    if (read(ends[0], &job, sizeof job) != sizeof job ||
        strcmp(job->name, "sort") != 0) {
        printf("lost\n");
        return 1;
    }
    loam_free(job); // a pinned object is freed by hand
    return 0;
}
