// watchdog — who hangs, and where.

#ifndef SUPPORT_WATCHDOG_H
#define SUPPORT_WATCHDOG_H

// Names each thread of the process on standard error, with what the kernel says
// of where it waits.
void watchdog_name(void);

#endif
