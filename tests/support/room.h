// room — a process that is given no more memory.
//
// For a child that ends soon: from room_end on the system refuses every new
// mapping, and room_back lifts that again.

#ifndef SUPPORT_ROOM_H
#define SUPPORT_ROOM_H

// No address space beyond what is mapped now; false when the system does not
// limit it (some emulators).
_Bool room_end(void);

void room_back(void);

#endif
