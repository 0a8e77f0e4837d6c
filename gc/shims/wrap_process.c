// wrap_process — children.
//
// A parent waits in vfork, posix_spawn and what is made of them until its child
// has called exec or ended, and takes no signal meanwhile: for as long as a
// child may take to open a pipe.  So these are safe regions.
//
// The child of vfork runs in the parent's memory, on its stack, as its thread.
// What it calls of ours must leave the parent's books alone (W8): a region that
// it entered would stay entered if it died there.  So a parent writes down that
// it is one, with its number; whoever finds that written, and has another
// number, is the child.  In a handler of the parent's, before the child begins
// or when it has ended, the number is the parent's.
//
// fork is not wrapped: a child finds out by itself that it is one (api/fork.h).

#include "wrap.h"

#include <errno.h>

// The process whose thread this is, while it is in vfork; or 0.
static __thread pid_t wrap_vforking __attribute__((tls_model("initial-exec")));

bool wrap_is_vforked(void) {
    return wrap_vforking != 0 && wrap_vforking != getpid();
}

bool wrap_vfork_begin(void);
pid_t wrap_vfork_end(long said, bool entered);

// Called by vfork (wrap_vfork.S) before the system is, and in the parent when
// the child is gone, with what the system said.  A child that makes a child
// itself leaves all as it is; the first says whether this is none.
__attribute__((used)) bool wrap_vfork_begin(void) {
    if (wrap_is_vforked()) {
        return false;
    }
    wrap_vforking = getpid();
    return true;
}

__attribute__((used)) pid_t wrap_vfork_end(long said, bool entered) {
    if (!wrap_is_vforked()) {
        wrap_vforking = 0;
    }
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
