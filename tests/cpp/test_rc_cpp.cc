// loam/rc.hpp: owners, death and rings, in each dialect of C++ and without
// exceptions.

#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "mortal.hpp"

#include <pthread.h>
#include <stdlib.h>

namespace {

// What the compiler alone can say.

static_assert(sizeof(R) == sizeof(void *), "one word");
static_assert(std::is_nothrow_default_constructible<R>::value, "");
static_assert(std::is_nothrow_copy_constructible<R>::value, "");
static_assert(std::is_nothrow_move_constructible<R>::value, "");
static_assert(std::is_nothrow_copy_assignable<R>::value, "");
static_assert(std::is_nothrow_move_assignable<R>::value, "");
static_assert(std::is_nothrow_destructible<R>::value, "");
static_assert(noexcept(std::declval<R &>().swap(std::declval<R &>())), "");
static_assert(!std::is_convertible<R, bool>::value, "only when asked");
static_assert(!std::is_convertible<node *, R>::value, "adopt or borrow");
static_assert(std::is_convertible<R, loam::ref<const node>>::value, "");
static_assert(!std::is_convertible<loam::ref<const node>, R>::value, "");
static_assert(!std::is_convertible<loam::ref<int>, R>::value, "");
static_assert(std::is_nothrow_copy_constructible<loam::weak<node>>::value, "");
static_assert(sizeof(loam::weak<node>) == sizeof(void *), "one word");

// --- Owners ------------------------------------------------------------------

void test_owners(void **) {
    R a = loam::make<node>('a');
    assert_int_equal(a.count(), 1);
    assert_true(a.unique());
    R b = a; // a copy retains
    assert_int_equal(a.count(), 2);
    assert_false(a.unique());
    R c = std::move(b); // a move does not
    assert_int_equal(a.count(), 2);
    assert_null(b.get());
    assert_false(static_cast<bool>(b));
    node *raw = c.release();
    assert_null(c.get());
    assert_int_equal(loam_count(raw), 2);
    c = R::adopt(raw);
    assert_int_equal(a.count(), 2);
    b = R::borrow(raw);
    assert_int_equal(a.count(), 3);
    b.reset();
    c = nullptr;
    assert_int_equal(a.count(), 1);
    R &same = a;
    a = same; // itself
    assert_int_equal(a.count(), 1);
    a = std::move(same);
    assert_int_equal(a.count(), 1);
    assert_int_equal((*a).name, 'a');
    assert_int_equal(alive, 1);
    a.reset(loam::make<node>('b').release());
    assert_int_equal(alive, 1);
    assert_string_equal(last_died.c_str(), "a");
    assert_int_equal(a->name, 'b');
}

void test_empty(void **) {
    R none, null(nullptr);
    R copy = none, moved = std::move(null);
    none = copy;
    none.swap(moved);
    none.reset();
    assert_null(R::adopt(nullptr).get());
    assert_null(R::borrow(nullptr).get());
    assert_null(none.release());
    assert_int_equal(none.count(), 0);
    assert_false(none.unique());
    assert_true(none == nullptr && nullptr == none && none == copy);
}

void test_order(void **) {
    R a = loam::make<node>('a'), b = loam::make<node>('b'), again = a, none;
    assert_true(a == again && a != b && a != nullptr && nullptr != a);
    assert_true((a < b) != (b < a));
    assert_true(none < a && a > none && a >= again && a <= again);
    loam::ref<const node> fixed = a;
    assert_true(fixed == a && a == fixed);
    node *at_a = a.get();
    swap(a, b);
    assert_true(b.get() == at_a && b == again);
    assert_true(std::hash<R>()(b) == std::hash<R>()(again));
    assert_int_equal(b.count(), 3);
}

// A node goes when the pointer that led to it walks on.
void test_walk(void **) {
    R at = loam::make<node>('1');
    at->left = loam::make<node>('2');
    at->left->left = loam::make<node>('3');
    at = at->left; // by copy: of a slot of what goes
    assert_string_equal(last_died.c_str(), "1");
    assert_int_equal(at.count(), 1);
    at = std::move(at->left); // by move
    assert_string_equal(last_died.c_str(), "12");
    at->left = at; // a ring of one
    at->left = nullptr;
    assert_int_equal(at.count(), 1);
}

// --- Death -------------------------------------------------------------------

void test_parents_first(void **) {
    R a = loam::make<node>('a');
    a->left = loam::make<node>('b');
    a->right = loam::make<node>('c');
    a->left->left = loam::make<node>('d');
    a.reset();
    assert_string_equal(last_died.c_str(), "abdc");
}

// A destructor sees its slots, empties some, fills others and makes objects.
struct busy {
    R kept, emptied, filled;
    counts counted;

    busy() : kept(loam::make<node>('k')), emptied(loam::make<node>('e')) {
    }
    busy(const busy &) = delete;
    busy &operator=(const busy &) = delete;
    ~busy() {
        last_died += kept->name;
        last_died += emptied->name;
        emptied = nullptr;
        filled = loam::make<node>('f');
        R mine = loam::make<node>('m');
        mine->left = filled;
        last_died += '.';
    }
    template <class S> static void loam_slots(S &slot) {
        slot(&busy::kept);
        slot(&busy::emptied);
        slot(&busy::filled);
    }
};

void test_busy(void **) {
    loam::ref<busy> b = loam::make<busy>();
    R e = b->emptied, k = b->kept; // outlive it: a release too many is seen
    b.reset();
    assert_int_equal(e.count(), 1);
    assert_int_equal(k.count(), 1);
    e = k = nullptr;
    std::string said = last_died.substr(0, 3);
    assert_string_equal(said.c_str(), "ke.");
    assert_int_equal(alive, 0);
    {
        busy on_the_stack; // its slots are refs like others
        e = on_the_stack.kept;
    }
    assert_int_equal(e.count(), 1);
}

// Slots and no code: the library destroys it.
struct plain {
    loam::ref<plain> next;
    R value;
    template <class S> static void loam_slots(S &slot) {
        slot(&plain::next);
        slot(&plain::value);
    }
};

} // namespace

template <> struct loam::traits<plain> : loam::describe<0, true> {};

namespace {

void test_plain(void **) {
    assert_null(loam::type_of<plain>()->destroy);
    assert_non_null(loam::type_of<node>()->destroy);
    loam::ref<plain> a = loam::make<plain>();
    a->next = loam::make<plain>();
    a->next->value = loam::make<node>('n');
    loam::weak<plain> w = a->next;
    {
        plain on_the_stack;
        on_the_stack.value = a->next->value;
        assert_int_equal(a->next->value.count(), 2);
    }
    assert_int_equal(a->next->value.count(), 1);
    a.reset();
    assert_true(w.expired());
    assert_int_equal(alive, 0);
}

template <class T> loam::ref<T> make_list(int count) {
    loam::ref<T> head;
    for (int i = 0; i < count; i++) {
        loam::ref<T> one = loam::make<T>();
        one->next = std::move(head);
        head = std::move(one);
    }
    return head;
}

struct link {
    loam::ref<link> next;
    counts counted;
    template <class S> static void loam_slots(S &slot) {
        slot(&link::next);
    }
};

// Owned where the library does not see it.
struct branch {
    std::vector<loam::ref<branch>> below;
    std::unique_ptr<loam::ref<branch>> beside;
    counts counted;
};

const int LENGTH = 1000000;

void *release_on_small_stack(void *) {
    make_list<link>(LENGTH).reset();
    make_list<plain>(LENGTH).reset();
    loam::ref<branch> top;
    for (int i = 0; i < LENGTH / 10; i++) {
        loam::ref<branch> one = loam::make<branch>();
        if (i % 2 == 0) {
            one->below.push_back(std::move(top));
        } else {
            one->beside.reset(new loam::ref<branch>(std::move(top)));
        }
        top = std::move(one);
    }
    return nullptr;
}

void test_flat(void **) {
    pthread_attr_t attributes;
    pthread_t thread;
    assert_int_equal(pthread_attr_init(&attributes), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, STACK_BYTES), 0);
    assert_int_equal(
        pthread_create(&thread, &attributes, release_on_small_stack, nullptr),
        0);
    assert_int_equal(pthread_join(thread, nullptr), 0);
    (void)pthread_attr_destroy(&attributes);
    assert_int_equal(died, LENGTH + LENGTH / 10);
}

// --- Rings -------------------------------------------------------------------

void test_rings(void **) {
    {
        R a = loam::make<node>('a'), b = loam::make<node>('b');
        a->left = b;
        b->right = a;
        b->left = b;
        a->right = loam::make<node>('h'); // hangs on it
    }
    assert_int_equal(alive, 3);
    assert_int_equal(loam_collect_cycles(0), 3);
    assert_int_equal(died, 3);
    {
        loam::ref<plain> a = loam::make<plain>();
        a->next = loam::make<plain>();
        a->next->next = a;
        a->value = loam::make<node>('v');
    }
    assert_int_equal(alive, 1);
    assert_int_equal(loam_collect_cycles(0), 3);
}

// A ref that is not listed is an owner from outside.
struct lone {
    loam::ref<lone> hidden;
    counts counted;
};

void test_not_listed(void **) {
    assert_int_equal(loam::type_of<lone>()->slot_count, 0);
    loam::ref<lone> a = loam::make<lone>();
    a->hidden = loam::make<lone>();
    a->hidden->hidden = a;
    lone *raw = a.get();
    a.reset();
    assert_int_equal(loam_collect_cycles(0), 0);
    assert_true(loam_collect());
    (void)loam_settle();
    assert_int_equal(alive, 2);
    raw->hidden.reset(); // broken by hand
    assert_int_equal(alive, 0);
}

// --- Constructors that throw -------------------------------------------------

#ifdef __cpp_exceptions
R outer; // owned by somebody else, too

struct fragile {
    R first, second;
    counts counted;

    fragile(int *at, loam::weak<fragile> *seen) : first(outer) {
        R mine = loam::make<node>('2');
        if (seen != nullptr) {
            *seen = loam::ref<fragile>::borrow(this);
        }
        second = mine;
        (*at)++;
        throw 7;
    }
    fragile(const fragile &) = delete;
    fragile &operator=(const fragile &) = delete;
    ~fragile() {
        abort(); // there never is one
    }
    void loam_finalize() {
        abort();
    }
    template <class S> static void loam_slots(S &slot) {
        slot(&fragile::first);
        slot(&fragile::second);
    }
};

// Fails in a destructor, that is, in the middle of a drain.
struct fails_late {
    counts counted;
    int *at;
    ~fails_late() {
        try {
            loam::ref<fragile> f = loam::make<fragile>(at, nullptr);
            abort();
        } catch (int) {
        }
    }
};

void test_throws(void **) {
    int thrown = 0;
    loam::weak<fragile> seen;
    struct loam_rc_stats before, after;
    outer = loam::make<node>('o');
    loam_rc_stats(&before, sizeof before);

    for (int i = 0; i < 100; i++) {
        try {
            loam::ref<fragile> f = loam::make<fragile>(&thrown, &seen);
            abort();
        } catch (int what) {
            assert_int_equal(what, 7);
        }
        assert_true(seen.expired());
        assert_int_equal(alive, 1);
        assert_int_equal(outer.count(), 1);
    }
    for (int i = 0; i < 2; i++) {
        loam_release_step(i == 0 ? 1 : 0);
        loam::make<fails_late>()->at = &thrown;
        (void)loam_settle();
        assert_int_equal(alive, 1);
    }
    assert_int_equal(thrown, 102);
    assert_int_equal(outer.count(), 1);
    seen.reset();
    loam_rc_stats(&after, sizeof after);
    outer.reset();
    assert_int_equal(after.made - before.made,
                     after.destroyed - before.destroyed);
}
#endif

} // namespace

int main() {
    const struct CMUnitTest tests[] = {
        TEST(test_owners),     TEST(test_empty),         TEST(test_order),
        TEST(test_walk),       TEST(test_parents_first), TEST(test_busy),
        TEST(test_plain),      TEST(test_flat),          TEST(test_rings),
        TEST(test_not_listed),
#ifdef __cpp_exceptions
        TEST(test_throws),
#endif
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
