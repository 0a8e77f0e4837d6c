// Random programs of counted objects beside a model of who owns what
// (support/estate.h): all types, all operations, both collectors, destructors
// and finalizers that do what the program does.
//
// seconds: 600
// long: long

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loam.h"
#include "loam/rc.h"
#include "support/child.h"
#include "support/estate.h"
#include "support/gen.h"
#include "support/scrub.h"

#define ONLY(kind) (1u << (kind))
#define ALL        ((1u << KINDS) - 1)

// Parts of rings of these are the tracer's, which a stray word may mislead.
#define WAITING                                                                \
    (ONLY(KIND_TRACED) | ONLY(KIND_DEFERRED) | ONLY(KIND_SHARED) |             \
     ONLY(KIND_ATOMIC))

static size_t rounds = 1, steps = SCALED(4000, 2000);
static bool is_again; // with settings, under which anything collects

static void play(const char *name, struct estate_mode mode) {
    uint64_t seed = gen_seed(name);
    mode.keeps_children &= !is_again;
    for (size_t round = 0; round < rounds; round++) {
        estate_begin(&mode, gen_mix(seed, round));
        for (size_t n = 0; n < steps; n++) {
            estate_step();
        }
        estate_end();
        struct estate_figures f = estate_figures();
        printf("%s: made %zu, destroyed %zu (%zu by collectors), finalized "
               "%zu, kept %zu\n",
               name, f.made, f.destroyed, f.in_rings, f.finalized, f.kept);
        assert_true(f.made > 50 && f.destroyed > f.made / 3);
        // ES8, but for what hangs on a stray word.
        bool is_exact = (mode.kinds & WAITING) == 0;
        assert_in_range(f.made - f.destroyed, 0, is_exact ? 0 : f.made / 10);
    }
}

static void test_plain(void **state) {
    (void)state;
    play("plain", (struct estate_mode){.kinds = ONLY(KIND_PLAIN)});
}

static void test_simple_kinds(void **state) {
    (void)state;
    play("simple kinds",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_ACYCLIC) |
                                       ONLY(KIND_LEAF) | ONLY(KIND_FLEX)});
}

static void test_actions(void **state) {
    (void)state;
    play("actions",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_ACYCLIC) |
                                       ONLY(KIND_LEAF) | ONLY(KIND_FLEX),
                              .has_actions = true});
}

static void test_kept_children(void **state) {
    (void)state;
    play("kept children",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_FLEX),
                              .keeps_children = true});
}

static void test_finalizers(void **state) {
    (void)state;
    play("finalizers",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_FINAL),
                              .has_actions = true});
}

static void test_quarantine(void **state) {
    (void)state;
    play("quarantine",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_MIXED) |
                                       ONLY(KIND_QUARANTINE),
                              .has_actions = true});
}

static void test_shared(void **state) {
    (void)state;
    play("shared and atomic",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_SHARED) |
                                       ONLY(KIND_ATOMIC),
                              .has_actions = true});
}

static void test_traced(void **state) {
    (void)state;
    play("traced",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_TRACED),
                              .has_actions = true});
}

static void test_deferred(void **state) {
    (void)state;
    play("deferred",
         (struct estate_mode){.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_DEFERRED),
                              .has_actions = true});
}

static void test_by_itself(void **state) {
    (void)state;
    play("by itself", (struct estate_mode){.kinds = ALL,
                                           .has_rings = true,
                                           .has_actions = true});
}

static void test_in_steps(void **state) {
    (void)state;
    play("in steps", (struct estate_mode){.kinds = ALL,
                                          .has_step = true,
                                          .has_rings = true,
                                          .has_actions = true});
}

static void test_all(void **state) {
    (void)state;
    play("all", (struct estate_mode){
                    .kinds = ALL, .has_actions = true, .keeps_children = true});
}

static void test_collected_within(void **state) {
    (void)state;
    play("collected within",
         (struct estate_mode){.kinds = ALL &
                                       ~(ONLY(KIND_SHARED) | ONLY(KIND_ATOMIC)),
                              .has_actions = true,
                              .keeps_children = true,
                              .collects_often = true});
}

#define STRAY ((size_t)8)

// Words that nobody counts may keep objects beyond the program that made them.
static void test_stray(void **state) {
    (void)state;
    static void *stray[STRAY];
    struct estate_mode mode = {.kinds = ONLY(KIND_PLAIN) | ONLY(KIND_TRACED),
                               .has_actions = true};
    uint64_t seed = gen_seed("stray");
    size_t count = 0;
    for (size_t program = 0; program < 2; program++) {
        estate_begin(&mode, gen_mix(seed, program));
        for (size_t n = 0; n < 500; n++) {
            estate_step();
        }
        memset(stray, 0, sizeof stray);
        if (program == 0) {
            count = estate_traced(stray, STRAY);
        }
        estate_end();
        struct estate_figures f = estate_figures();
        if (program == 0) {
            assert_true(f.made >= f.destroyed + count && count != 0);
        } else {
            assert_true(f.late > 0);
        }
    }
}

// The same under the settings that look harder.
static void test_settings(void **state) {
    (void)state;
    static const char *const settings[][2] = {
        {"LOAM_COLLECT_EVERY=1", NULL},
        {"LOAM_CHECK=all", NULL},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        assert_true(child_passes("again", settings[i]));
    }
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_simple_kinds),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_kept_children),
        cmocka_unit_test(test_finalizers),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_traced),
        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_by_itself),
        cmocka_unit_test(test_in_steps),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_stray),
        cmocka_unit_test(test_collected_within),
    };
    const struct CMUnitTest again[] = {
        cmocka_unit_test(test_settings),
    };
    if (child_mode(argc, argv) != NULL) {
        steps = 500;
        is_again = true;
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    if (argc > 1 && strcmp(argv[1], "long") == 0) {
        rounds = 60;
        steps = 12000;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return failed + cmocka_run_group_tests(again, NULL, NULL);
}
