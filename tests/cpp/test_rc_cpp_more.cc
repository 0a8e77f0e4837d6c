// loam/rc.hpp: classes of all sorts, weak references, containers, threads.

#include <algorithm>
#include <map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "mortal.hpp"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

namespace {

// --- Bases, members, finalizers ----------------------------------------------

struct shape {
    counts counted;
    virtual int sides() const = 0;
    template <class S> static void loam_slots(S &slot) {
        slot(&shape::inner);
    }
    loam::ref<shape> inner;

  protected:
    ~shape() = default;
};

struct square final : shape {
    R extra[3], not_listed;
    const R fixed;
    int sides() const override {
        return 4;
    }
    square() : fixed(loam::make<node>('f')) {
        for (R &one : extra) {
            one = loam::make<node>('x');
        }
    }
    template <class S> static void loam_slots(S &slot) {
        shape::loam_slots(slot);
        slot (&square::extra)(&square::fixed);
    }
};

struct heir : node {
    heir() : node('i') {
    }
    std::string text{"long enough to be somewhere else than in the string"};
};

void test_bases(void **) {
    loam::ref<shape> s = loam::make<square>();
    assert_int_equal(s->sides(), 4);
    s->inner = s; // by the list of the base
    loam::ref<const shape> fixed = std::move(s);
    assert_int_equal(loam::type_of<square>()->slot_count, 5);
    fixed.reset();
    assert_int_equal(alive, 5);
    assert_int_equal(loam_collect_cycles(0), 5);
    R n = loam::make<heir>(); // whose destructor is not virtual
    assert_int_equal(loam::type_of<heir>()->slot_count, 2);
    assert_true(loam_type_of(n.get()) == loam::type_of<heir>());
    n->left = n;
    n.reset();
    assert_int_equal(loam_collect_cycles(0), 1);
}

// All of it private.
class closed {
    friend struct loam::access;
    loam::ref<closed> slot;
    counts counted;
    explicit closed(int) {
    }
    ~closed() = default;
    template <class S> static void loam_slots(S &list) {
        list(&closed::slot);
    }

  public:
    static void make_ring() {
        loam::ref<closed> one = loam::make<closed>(1);
        one->slot = one;
    }
};

void test_closed(void **) {
    closed::make_ring();
    assert_int_equal(loam_collect_cycles(0), 1);
    assert_non_null(strstr(loam::type_of<closed>()->name, "closed"));
}

void test_copies(void **) {
    R a = loam::make<node>('a');
    a->left = loam::make<node>('b');
    R twin = loam::make<node>(*a); // retains what a's slots own
    assert_int_equal(a->left.count(), 2);
    node on_the_stack = *twin;
    assert_int_equal(a->left.count(), 3);
    *twin = node('c');
    assert_int_equal(a->left.count(), 2);
    on_the_stack = *twin;
    assert_int_equal(a->left.count(), 1);
    assert_null(on_the_stack.left.get());
}

struct phoenix;
loam::ref<phoenix> ashes;

struct phoenix {
    counts counted;
    R slot;
    phoenix() : slot(loam::make<node>('s')) {
    }
    void loam_finalize() {
        ashes = loam::ref<phoenix>::borrow(this);
    }
    template <class S> static void loam_slots(S &list) {
        list(&phoenix::slot);
    }
};

void test_finalizer(void **) {
    loam::ref<phoenix> p = loam::make<phoenix>();
    loam::weak<phoenix> brief = p, lasting = loam::weak<phoenix>::lasting(p);
    p.reset();
    assert_int_equal(alive, 2);
    assert_int_equal(ashes.count(), 1);
    assert_int_equal(ashes->slot.count(), 1);
    assert_true(brief.expired() && !brief.lock());
    assert_true(lasting.lock() == ashes);
    ashes.reset();
    assert_true(lasting.expired());
}

// --- Weak --------------------------------------------------------------------

struct child;
struct parent {
    std::vector<loam::ref<child>> children;
    counts counted;
};
struct child {
    loam::weak<parent> up;
    counts counted;
    bool was_expired = false;
};

void test_weak(void **) {
    loam::weak<parent> none;
    assert_true(none.expired() && !none.lock());
    loam::ref<parent> p = loam::make<parent>();
    loam::weak<parent> w = p, copy = w, moved = std::move(copy);
    for (int i = 0; i < 3; i++) {
        loam::ref<child> c = loam::make<child>();
        c->up = w;
        p->children.push_back(std::move(c));
    }
    assert_true(moved.lock() == p);
    assert_int_equal(p.count(), 1);
    loam::ref<child> kept = p->children[1];
    p.reset();
    assert_true(w.expired() && moved.expired() && kept->up.expired());
    assert_false(static_cast<bool>(kept->up.lock()));
    assert_int_equal(alive, 1);
}

// In memory that the tracer does not see.
void test_weak_anywhere(void **) {
    std::vector<loam::weak<node>> seen;
    std::vector<R> owners;
    for (int i = 0; i < 100; i++) {
        owners.push_back(loam::make<node>(static_cast<char>('0' + i % 10)));
        seen.push_back(owners.back());
    }
    for (int round = 0; round < 3; round++) {
        assert_true(loam_collect());
        for (int i = 0; i < 50; i++) {
            (void)loam::weak<node>(owners[0]); // takes what is free
        }
        owners.resize(owners.size() - 30);
        for (size_t i = 0; i < seen.size(); i++) {
            R now = seen[i].lock();
            assert_true(i < owners.size() ? now == owners[i] : !now);
        }
    }
}

// --- Containers --------------------------------------------------------------

void test_containers(void **) {
    std::vector<R> row;
    for (int i = 0; i < 64; i++) {
        row.push_back(loam::make<node>(static_cast<char>('A' + i % 26)));
    }
    row.erase(row.begin() + 10, row.begin() + 20);
    row.insert(row.begin(), row[5]);
    assert_int_equal(row[0].count(), 2);
    std::sort(row.begin(), row.end(),
              [](const R &a, const R &b) { return a->name < b->name; });
    std::map<R, int> by_node;
    std::unordered_set<R> set(row.begin(), row.end());
    for (const R &one : row) {
        by_node[one]++;
    }
    assert_int_equal(set.size(), 54);
    assert_int_equal(by_node.size(), 54);
    assert_true(loam_collect()); // owners from outside keep them
    row.clear();
    by_node.clear();
    assert_int_equal(alive, 54);
}

// --- Threads -----------------------------------------------------------------

struct alignas(16) account {
    long amount[2];
    loam::ref<account> other;
    template <class S> static void loam_slots(S &slot) {
        slot(&account::other);
    }
};
struct tally {
    long number = 0;
};

} // namespace

template <> struct loam::traits<account> : loam::describe<LOAM_TYPE_SHARED> {};
template <> struct loam::traits<tally> : loam::describe<LOAM_TYPE_ATOMIC> {};

namespace {

struct desk {
    loam::ref<account> account_;
    loam::ref<tally> tally_;
    loam::weak<account> watch;
};

void *work(void *data) {
    desk &mine = *static_cast<desk *>(data);
    for (int i = 0; i < 20000; i++) {
        loam::ref<account> a = mine.account_, b = a;
        loam::ref<tally> t = std::move(mine.tally_);
        loam::weak<account> w = mine.watch;
        loam::ref<account> c = w.lock();
        if (c != b || !t) {
            abort();
        }
        mine.tally_ = t;
    }
    mine = desk();
    return nullptr;
}

void test_threads(void **) {
    enum { COUNT = 4 };
    loam::ref<account> a = loam::make<account>();
    loam::ref<tally> t = loam::make<tally>();
    assert_int_equal(reinterpret_cast<uintptr_t>(a.get()) % 16, 0);
    loam::weak<account> watch = a;
    desk desks[COUNT];
    pthread_t threads[COUNT];
    for (int i = 0; i < COUNT; i++) {
        desks[i] = desk{a, t, watch};
        assert_int_equal(pthread_create(&threads[i], nullptr, work, &desks[i]),
                         0);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pthread_join(threads[i], nullptr), 0);
    }
    (void)loam_settle();
    assert_int_equal(a.count(), 1);
    assert_int_equal(t.count(), 1);
    a.reset();
    assert_true(watch.expired());
}

// --- Shortage ----------------------------------------------------------------

struct large {
    char bytes[1 << 20];
};

void test_shortage(void **) {
    assert_true(loam_set_limit(16 << 20));
    std::vector<loam::ref<large>> all;
    errno = 0;
    for (loam::ref<large> one; all.size() < 64; all.push_back(one)) {
        one = loam::make<large>();
        if (!one) {
            break;
        }
    }
    assert_true(all.size() < 64);
    assert_int_equal(errno, ENOMEM);
    all.clear();
    assert_true(loam_set_limit(0));
}

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        TEST(test_bases),      TEST(test_closed),  TEST(test_copies),
        TEST(test_finalizer),  TEST(test_weak),    TEST(test_weak_anywhere),
        TEST(test_containers), TEST(test_threads), TEST(test_shortage),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
