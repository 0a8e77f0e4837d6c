// mortal — objects that say that they died, for the tests of loam/rc.hpp.

#ifndef CPP_MORTAL_HPP
#define CPP_MORTAL_HPP

#include <string>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include "loam.h"
#include "loam/rc.hpp"

namespace {

int alive, died, warnings;
std::string last_died; // names of nodes, as they went

// Counts itself, whatever it is a part of.
struct counts {
    counts() {
        alive++;
    }
    counts(const counts &) {
        alive++;
    }
    counts &operator=(const counts &) = default;
    ~counts() {
        alive--;
        died++;
    }
};

struct node {
    loam::ref<node> left, right;
    counts counted;
    char name;

    explicit node(char named = '?') : name(named) {
    }
    node(const node &) = default;
    node &operator=(const node &) = default;
    ~node() {
        last_died += name;
    }
    template <class S> static void loam_slots(S &slot) {
        slot(&node::left);
        slot(&node::right);
    }
};

using R = loam::ref<node>;

void hear(const char *sentence, void *) {
    print_error("%s\n", sentence);
    warnings++;
}

int set_up(void **) {
    alive = died = warnings = 0;
    last_died.clear();
    loam_set_warning_hook(hear, nullptr);
    loam_cycles_when(false, 0); // rings: when they are asked for
    return 0;
}

int tear_down(void **) {
    assert_int_equal(alive, 0);
    assert_int_equal(warnings, 0);
    return 0;
}

} // namespace

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
