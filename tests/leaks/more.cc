// The cases in C++.

extern "C" {
#include "leaky.h"
}

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

// new_array: 400 in 1, 0 lose_new_array
LEAKY_ALONE void lose_new_array() {
    leaky_held[0] = leaky_hide(new int[100]);
    leaky_held[0] = nullptr;
}

struct counted {
    ~counted() {
        leaky_held[7] = nullptr;
    }
    char text[24];
};

// new_counted: 0 in 0, 0
LEAKY_ALONE void lose_new_counted() {
    leaky_held[0] = leaky_hide(new counted[5]); // behind their number
}

// new_forms: 300 in 4, 0 lose_new_forms
LEAKY_ALONE void lose_new_forms() {
    struct alignas(64) wide {
        char text[64];
    };
    leaky_hide(new (std::nothrow) char[44]);
    leaky_hide(new wide);
    leaky_hide(new wide[2]);
    leaky_hide(::operator new(64));
}

// vector: 424 in 2, 1 lose_vector
LEAKY_ALONE void lose_vector() {
    leaky_hide(new std::vector<int>(100));
}

// map: 1488 in 21, 21 lose_map
LEAKY_ALONE void lose_map() {
    auto *map = new std::map<int, std::string>;
    for (int i = 0; i < 20; i++) {
        (*map)[i * 7] = "short";
    }
    leaky_hide(map);
}

// string: 133 in 2, 1 lose_string
LEAKY_ALONE void lose_string() {
    leaky_hide(new std::string(100, 'x'));
}

struct first {
    virtual ~first() = default;
    long one = 1;
};
struct second {
    virtual ~second() = default;
    long two = 2;
};
struct both : first, second {
    long three = 3;
};

// base: 0 in 0, 0
LEAKY_ALONE void lose_base() {
    second *p = new both;
    leaky_held[0] = leaky_hide(p);
}

struct ring {
    std::shared_ptr<ring> next;
};

// owners: 64 in 2, 2 lose_owners
LEAKY_ALONE void lose_owners() {
    auto one = std::make_shared<ring>();
    auto two = std::make_shared<ring>();
    one->next = two;
    two->next = one;
}

std::unique_ptr<std::list<int>> global;

// global: 0 in 0, 0
LEAKY_ALONE void lose_global() {
    global = std::make_unique<std::list<int>>(10, 3);
    static std::vector<std::string> local(5, std::string(50, 'y'));
    leaky_hide(&local);
}

// lambda: 32 in 1, 0 lose_lambda
LEAKY_ALONE void lose_lambda() {
    std::thread([] { leaky_hide(new char[32]); }).join();
}

// thrown: 72 in 1, 0 lose_thrown
LEAKY_ALONE void lose_thrown() {
    try {
        char *p = new char[72];
        leaky_hide(p);
        throw 3;
    } catch (int) {
        leaky_hide(nullptr);
    }
}

} // namespace

extern "C" const leaky_case leaky_more[] = {
    {"new_array", lose_new_array},
    {"new_counted", lose_new_counted},
    {"new_forms", lose_new_forms},
    {"vector", lose_vector},
    {"map", lose_map},
    {"string", lose_string},
    {"base", lose_base},
    {"owners", lose_owners},
    {"global", lose_global},
    {"lambda", lose_lambda},
    {"thrown", lose_thrown},
    {nullptr, nullptr},
};
