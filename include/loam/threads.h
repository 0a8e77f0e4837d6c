/* loam/threads.h: threads, calls that wait, and stacks of the program's own.
 *
 * Most programs need nothing of this: a thread is attached by its first
 * allocation, its stack and its registers are found without help, and it is
 * detached when it ends.  It is here for three kinds of program: those that
 * make threads wait in calls which a signal must not disturb, those that end
 * threads in unusual ways, and those that switch stacks by themselves (fibers,
 * coroutines, green threads).
 */

#ifndef LOAM_THREADS_H
#define LOAM_THREADS_H

#include "../loam.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Threads ----------------------------------------------------------- */

/* Makes the calling thread known to the collector, as its first allocation
 * would; again if it is known already: that changes nothing.  Useful before a
 * thread enters code in which the cost of the first allocation would hurt, and
 * in threads that only hold references.  False when memory is short. */
LOAM_API bool loam_thread_attach(void);

/* Gives back what the collector keeps for the calling thread: the memory that
 * was set aside for its next allocations.  It happens by itself when a thread
 * ends by returning or by pthread_exit.  The thread may still hold references,
 * which are still found, and is attached again by its next allocation.  Without
 * a meaning in a thread that is not attached. */
LOAM_API void loam_thread_detach(void);

/* Between these two calls the thread promises to touch no object and to call no
 * function of Loam but these two; it may hold references.  In return a
 * collection neither waits for it nor sends it a signal, so that a system call
 * in which it waits is not interrupted; when it leaves while a collection runs,
 * it waits until that is over.  The regions nest.  A thread that leaves a
 * region by longjmp or an exception, past the frame in which it entered, has
 * left it too, as its next call of Loam will find.
 *
 *     loam_blocking_enter();
 *     count = epoll_wait(queue, events, 64, -1);
 *     loam_blocking_leave();
 *
 * The call may fill a buffer that is an object, as long as no references to
 * objects arrive in it.  Do not switch stacks inside.  Some ten nanoseconds. */
LOAM_API void loam_blocking_enter(void);
LOAM_API void loam_blocking_leave(void);

/* --- Stacks of the program's own --------------------------------------- */

/* A stack that the program made itself is memory like any other: a collection
 * does not know that it holds references, nor where its live part begins.  A
 * program that switches stacks says which ones there are, and each time, just
 * before it switches, where it goes:
 *
 *     fiber->stack = loam_stack_register(memory, bytes);
 *     ...
 *     loam_fiber_switch(other->stack);          then, and nothing in between,
 *     swapcontext(&fiber->context, &other->context);
 *
 * What is scanned then:
 *   of a stack that a thread runs on    from its stack pointer to the end
 *   of one that was left                from where it was left, with the
 *                                       registers it was left with
 *   of one that was never left          all of it
 *   of a thread's own stack             the same, as the case may be
 *
 * Without any of this a program with fibers is safe only in part.  Of a thread
 * that is found on an unknown stack everything from its stack pointer to the
 * end of that mapping (or of that object) is scanned, and the whole of its own
 * stack.  An unknown stack on which no thread runs is not scanned, unless it
 * is an object, and then only as one: references in the registers of a fiber
 * that waits are missed if its context is saved where nothing is scanned
 * (malloc'ed memory), or scrambled (setjmp and the frame pointer). */
struct loam_stack;

/* Registers the stack in [lowest, lowest + bytes); stacks grow down, so it is
 * entered at the end.  The memory may be mapped (guard pages below included),
 * malloc'ed, static, a local array, or an object: best a leaf
 * (loam_alloc_leaf), so that only the live part is read; a registered stack
 * keeps its object alive, and what a fiber on it refers to, until it is
 * unregistered, even if the program has lost it.  NULL with errno EINVAL when
 * the area is empty, wraps, or overlaps another registered one, so also when it
 * is registered already; with ENOMEM when memory is short.  About a
 * microsecond, with a hundred thousand others too. */
LOAM_API struct loam_stack *loam_stack_register(void *lowest,
                                                size_t bytes) LOAM_MUST_USE;

/* Ends the registration; call it before the memory is given back.  Only the
 * thread that runs on the stack may unregister it while one does (a fiber that
 * ends unregisters itself last of all, or leaves it to the next one).  The
 * handle is invalid from here on.  NULL is allowed. */
LOAM_API void loam_stack_unregister(struct loam_stack *stack);

/* Says that the calling thread is about to leave the stack it runs on for
 * another: `to`, or for NULL the stack that the thread was born with.  Call it
 * right before every switch, whichever way it is done (swapcontext, a switch in
 * assembly, longjmp), the first entry of a stack and the last exit included,
 * from the function that switches or one not far above it: at most
 * LOAM_STACK_SLACK bytes of frames may come between.  Between it and the switch
 * nothing may be loaded that must be found on the old stack.  If then nothing
 * is switched after all, say so too: call it with the stack the thread is still
 * on.  A fiber may be left by one thread and entered by another.  A few
 * nanoseconds, without a lock. */
#define LOAM_STACK_SLACK 1024
LOAM_API void loam_fiber_switch(struct loam_stack *to);

#ifdef __cplusplus
}
#endif

#endif
