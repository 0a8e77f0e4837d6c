// command — `loam`, and what its first word asks for.
//
// Design, alternatives and measurements: docs/design/tool/index.md

#include <stdio.h>
#include <string.h>

#include "loam.h"

#include "tool/doctor.h"
#include "tool/run.h"
#include "tool/symbolize.h"

static const char command_usage[] =
    "usage: loam COMMAND ...\n"
    "\n"
    "  run COMMAND      run a program with Loam as its malloc\n"
    "  doctor [PID]     what is active in a process, and what looks wrong\n"
    "  symbolize FILE   files and lines for a report of leaks, from its input\n"
    "  version\n"
    "\n"
    "`loam run --help` and `loam doctor --help` say more.\n";

#define COMMAND_TEXT2(a, b, c) #a "." #b "." #c
#define COMMAND_TEXT(a, b, c)  COMMAND_TEXT2(a, b, c)

int main(int count, char **words) {
    const char *word = count > 1 ? words[1] : "";
    if (strcmp(word, "run") == 0) {
        return run_main(count - 2, words + 2);
    }
    if (strcmp(word, "doctor") == 0) {
        return doctor_main(count - 2, words + 2);
    }
    if (strcmp(word, "symbolize") == 0) {
        return symbolize_main(count - 2, words + 2);
    }
    if (strcmp(word, "version") == 0 || strcmp(word, "--version") == 0) {
        puts("loam " COMMAND_TEXT(LOAM_VERSION_MAJOR, LOAM_VERSION_MINOR,
                                  LOAM_VERSION_PATCH));
        return 0;
    }
    bool asks = strcmp(word, "help") == 0 || strcmp(word, "--help") == 0 ||
                strcmp(word, "-h") == 0;
    fputs(command_usage, asks ? stdout : stderr);
    return asks ? 0 : 2;
}
