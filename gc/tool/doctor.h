// doctor — what is active, and what looks wrong.
//
//     loam doctor          this system, and this installation
//     loam doctor PID      a process
//
// Each line begins with a word: `ok` for what is as it should be, `note` for
// what costs something or may surprise, `fault` for what does not work, with
// the way out.  The exit status is 1 if there was a fault.
//
// Invariants
//   DR1  look   nothing is changed, and no process is stopped for it
//
// Design, alternatives and measurements: docs/design/tool/doctor.md

#ifndef TOOL_DOCTOR_H
#define TOOL_DOCTOR_H

// The words after `loam doctor`.  Returns the exit status.
int doctor_main(int count, char **words);

#endif
