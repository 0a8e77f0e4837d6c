// Who forgot to release: objects that nothing leads to and that are owned all
// the same; what is held where nobody looks; at exit.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "loam/rc.h"
#include "support/scrub.h"

#define COUNT ((size_t)300)

struct node {
    struct node *next, *other;
};

static LOAM_TYPE(node_type, struct node, LOAM_OWNS(struct node, next, other));
static LOAM_TYPE(false_type, struct node, LOAM_OWNS(struct node, next, other));

struct tally {
    size_t nodes, owners, faulty;
};

static void note(const struct loam_forgotten *forgotten, void *data) {
    struct tally *tally = data;
    tally->nodes += forgotten->type == &node_type;
    tally->owners += forgotten->owners;
    tally->faulty += forgotten->owners == 0;
    assert_ptr_equal(loam_type_of(forgotten->object), forgotten->type);
}

static struct tally ask(void) {
    struct tally tally = {0, 0, 0};
    scrub_stack();
    size_t count = loam_rc_forgotten(note, &tally);
    assert_int_equal(count, tally.nodes);
    return tally;
}

// A list whose head nobody knows; the rest is explained by it.
static NOT_INLINED void forget(size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct node *node = loam_new(&node_type);
        node->next = loam_new(&node_type);
        node->next->next = loam_new(&node_type);
        loam_retain(node);
    }
}

static void release(const struct loam_forgotten *forgotten, void *data) {
    size_t *count = data;
    for (size_t i = forgotten->owners; i > 0; i--) {
        loam_release(forgotten->object);
    }
    ++*count;
}

static void test_forgotten(void **state) {
    (void)state;
    assert_int_equal(ask().nodes, 0);
    forget(COUNT);
    struct tally tally = ask();
    // A stray word may hide one or two.
    assert_in_range(tally.nodes, COUNT - 4, COUNT);
    assert_int_equal(tally.owners, 2 * tally.nodes);
    // Kept, and told of again; released by who is told, they are gone.
    size_t count = 0;
    scrub_stack();
    assert_in_range(loam_rc_forgotten(release, &count), COUNT - 4, COUNT);
    assert_in_range(count, COUNT - 4, COUNT);
    assert_in_range(ask().nodes, 0, 4);
}

static struct node *global;

// What is known is not forgotten, and a ring that is garbage is destroyed.
static void test_not(void **state) {
    (void)state;
    size_t before = ask().nodes;
    global = loam_new(&node_type);
    struct node *ring = loam_new(&node_type);
    ring->next = loam_new(&node_type);
    ring->next->next = ring;
    ring = NULL;
    assert_int_equal(ask().nodes, before);
    loam_clear(&global);
    assert_int_equal(loam_rc_forgotten(NULL, NULL), before);
}

#define HIDDEN ((size_t)64)

// Malloc'd memory is no place that is looked at, and it keeps.
static NOT_INLINED uintptr_t *hide(void) {
    uintptr_t *hidden = malloc(HIDDEN * sizeof *hidden);
    for (size_t i = 0; i < HIDDEN; i++) {
        hidden[i] = ~(uintptr_t)loam_new(&node_type);
    }
    return hidden;
}

static void test_hidden(void **state) {
    (void)state;
    size_t before = ask().nodes;
    uintptr_t *hidden = hide();
    assert_in_range(ask().nodes, before + HIDDEN - 4, before + HIDDEN);
    for (size_t i = 0; i < HIDDEN; i++) {
        struct node *node = (struct node *)~hidden[i];
        assert_ptr_equal(loam_type_of(node), &node_type);
        assert_int_equal(loam_count(node), 1);
        loam_release(node);
    }
    free(hidden);
}

static void note_false(const struct loam_forgotten *forgotten, void *data) {
    struct tally *tally = data;
    if (forgotten->type == &false_type) {
        tally->faulty += forgotten->owners == 0;
        tally->nodes++;
    }
}

static NOT_INLINED void make_false(uintptr_t *hidden) {
    for (size_t i = 0; i < HIDDEN; i++) {
        struct node *owner = loam_new(&false_type);
        struct node *owned = loam_new(&false_type);
        owner->next = owned;
        owner->other = owned; // owns, and was given no count
        hidden[i] = ~(uintptr_t)owner;
    }
}

static void test_faulty(void **state) {
    (void)state;
    uintptr_t hidden[HIDDEN];
    make_false(hidden);
    struct tally tally = {0, 0, 0};
    scrub_stack();
    assert_int_not_equal(loam_rc_forgotten(note_false, &tally), 0);
    assert_in_range(tally.nodes, 2 * (HIDDEN - 4), 2 * HIDDEN);
    assert_in_range(tally.faulty, HIDDEN - 4, HIDDEN);
    for (size_t i = 0; i < HIDDEN; i++) {
        struct node *owner = (struct node *)~hidden[i];
        owner->other = NULL;
        loam_release(owner);
    }
}

static void test_exit(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        setenv("LOAM_CHECK", "rc", 1);
        setenv("LOAM_FORGET", "1", 1);
        execl("/proc/self/exe", "test_rc_forgotten", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    char said[4096] = "";
    size_t length = 0;
    ssize_t got;
    while ((got = read(ends[0], said + length, sizeof said - 1 - length)) > 0) {
        length += (size_t)got;
    }
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_non_null(strstr(said, "forgotten, of type struct node: "));
}

int main(void) {
    if (getenv("LOAM_FORGET") != NULL) {
        forget(COUNT);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgotten), cmocka_unit_test(test_not),
        cmocka_unit_test(test_hidden), cmocka_unit_test(test_faulty),
        cmocka_unit_test(test_exit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
