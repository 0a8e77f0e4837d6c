// wrap_process — children.
//
// A parent waits in vfork, posix_spawn and what is made of them until its child
// has called exec or ended, and takes no signal meanwhile: for as long as a
// child may take to open a pipe.  So these are safe regions.
//
// The child of vfork runs in the parent's memory, on its stack, as its thread.
// What it calls of ours must leave the parent's books alone, so it has a flag.
//
// fork is not wrapped: a child finds out by itself that it is one (api/fork.h).

#include "wrap.h"

#include <errno.h>

// Children of vfork in this thread's memory, one in the other.
static __thread unsigned wrap_vforks __attribute__((tls_model("initial-exec")));

bool wrap_is_vforked(void) {
    return wrap_vforks != 0;
}

void wrap_vfork_begin(void);
pid_t wrap_vfork_end(long said, bool entered);

// Called by vfork (wrap_vfork.S) before the system is, and in the parent when
// the child is gone, with what the system said.
__attribute__((used)) void wrap_vfork_begin(void) {
    wrap_vforks++;
}

__attribute__((used)) pid_t wrap_vfork_end(long said, bool entered) {
    wrap_vforks--;
    if (entered) {
        loam_door_safe_leave();
    }
    if (said < 0) {
        errno = (int)-said;
        return -1;
    }
    return (pid_t)said;
}

// clang-format off
WRAP_WAIT(int, posix_spawn,
          (pid_t *restrict child, const char *restrict path,
           const posix_spawn_file_actions_t *actions,
           const posix_spawnattr_t *restrict attributes,
           char *const arguments[restrict], char *const environment[restrict]),
          (child, path, actions, attributes, arguments, environment))
WRAP_WAIT(int, posix_spawnp,
          (pid_t *restrict child, const char *restrict file,
           const posix_spawn_file_actions_t *actions,
           const posix_spawnattr_t *restrict attributes,
           char *const arguments[restrict], char *const environment[restrict]),
          (child, file, actions, attributes, arguments, environment))
WRAP_WAIT(int, system, (const char *command), (command))
WRAP_WAIT(struct _IO_FILE *, popen, (const char *command, const char *type),
          (command, type))
WRAP_WAIT(int, pclose, (struct _IO_FILE *stream), (stream))
// clang-format on
