// stopper — another process that stops and continues this one.
//
// As job control or a debugger does: all threads of this process stand wherever
// they are for 10 ms, and go on for 30 ms.
//
// stopper_start before there are threads; the rest by one thread.

#ifndef SUPPORT_STOPPER_H
#define SUPPORT_STOPPER_H

#include <stdbool.h>

// Makes the process, which waits; false when the system refuses.
bool stopper_start(void);

// From here to stopper_end it stops us.
void stopper_begin(void);

// Returns when it has continued us for the last time.
void stopper_end(void);

void stopper_kill(void);

#endif
